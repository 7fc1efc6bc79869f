"""This module keeps the ids that a listing under way has seen: the ledger's table `listed`."""

from collections.abc import Iterable

from psycopg import sql

from sequin_pipeline.ledger.held_deletes import HeldDeletes, hold
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.sources import Listed


def remember(connection: Connection, ledger: Ledger, listed: Iterable[Listed], held: HeldDeletes | None = None) -> None:
    """Keeps the ids of these pages; those of an earlier listing of the same sync go, and with its end those of a listing itself.

    The ids of a listing whose deletes are held stay until they are marked, or the end of a later listing decides anew. `held` are the
    deletes of a listing that these pages complete.
    """
    for part in _by_listing(listed):
        if part.is_complete:
            _settle_rejects(connection, ledger, part)
            _complete(connection, ledger, part, held)
            continue
        values = _values(ledger, part) | {"ids": [held_text(one, connection) for one in part.ids]}
        connection.execute(
            sql.SQL(
                "delete from {listed} l where l.table_name = %(table)s and l.sync_id = %(sync)s and l.version <> %(version)s and not exists"
                " (select from {held} h where h.table_name = %(table)s and h.sync_id = %(sync)s and h.version in (l.version, %(version)s))"
            ).format(listed=ledger.table("listed"), held=ledger.table("held_deletes")),
            values,
        )
        connection.execute(
            sql.SQL(
                "insert into {listed} (table_name, sync_id, version, ids) values (%(table)s, %(sync)s, %(version)s, %(ids)s)"
            ).format(listed=ledger.table("listed")),
            values,
        )


def release(connection: Connection, ledger: Ledger, held: HeldDeletes) -> None:
    """Forgets deletes that are marked, and what their listing saw; what a later listing has come to meanwhile stays."""
    _settle_rejects(connection, ledger, Listed(held.sync_id, held.version))
    for table in ("held_deletes", "listed"):
        connection.execute(
            sql.SQL("delete from {} where table_name = %s and sync_id = %s and version = %s").format(ledger.table(table)),
            (ledger.table_name, held.sync_id, held.version),
        )


def _complete(connection: Connection, ledger: Ledger, part: Listed, held: HeldDeletes | None) -> None:
    values = _values(ledger, part) | {"is_held": held is not None}
    connection.execute(
        sql.SQL(
            "delete from {} where table_name = %(table)s and sync_id = %(sync)s and not (version = %(version)s and %(is_held)s)"
        ).format(ledger.table("listed")),
        values,
    )
    connection.execute(
        sql.SQL("delete from {} where table_name = %(table)s and sync_id = %(sync)s").format(ledger.table("held_deletes")), values
    )
    if held is not None:
        hold(connection, ledger, held)


def _values(ledger: Ledger, part: Listed) -> dict[str, object]:
    return {"table": ledger.table_name, "sync": part.sync_id, "version": part.version}


def _settle_rejects(connection: Connection, ledger: Ledger, listed: Listed) -> None:
    """Settles rejects that are older than the listing of what it saw.

    Each of those records has been stored, found unchanged or rejected again since.
    """
    connection.execute(
        sql.SQL(
            "update {rejects} r set resolved_at = now(), resolution = 'listed again since' where r.table_name = %(table)s"
            " and r.resolved_at is null and r.version < %(version)s and r.record_id in (select unnest(l.ids) from {listed} l"
            " where l.table_name = %(table)s and l.sync_id = %(sync)s and l.version = %(version)s)"
        ).format(rejects=ledger.table("rejects"), listed=ledger.table("listed")),
        _values(ledger, listed),
    )


def _by_listing(listed: Iterable[Listed]) -> list[Listed]:
    """Joins the parts of each listing, in their order."""
    joined: dict[tuple[str, int, bool], Listed] = {}
    for part in listed:
        key = (part.sync_id, part.version, part.is_complete)
        earlier = joined.get(key)
        joined[key] = Listed(*key[:2], (*(earlier.ids if earlier else ()), *part.ids), is_complete=part.is_complete)
    return list(joined.values())
