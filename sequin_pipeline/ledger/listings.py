"""The ids that a listing under way has seen: the ledger's table `listed`."""

from collections.abc import Iterable

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.sources import Listed


def remember(connection: Connection, ledger: Ledger, listed: Iterable[Listed]) -> None:
    """Keeps the ids of these pages; those of an earlier listing of the same sync go, and with its end those of a listing itself."""
    for part in _by_listing(listed):
        names = {
            "table": ledger.table_name,
            "sync": part.sync_id,
            "version": part.version,
            "ids": [held_text(one, connection) for one in part.ids],
        }
        if part.is_complete:
            _settle_rejects(connection, ledger, part)
        connection.execute(
            sql.SQL(
                "delete from {listed} where table_name = %(table)s and sync_id = %(sync)s and (version <> %(version)s or %(all)s)"
            ).format(listed=ledger.table("listed")),
            {**names, "all": part.is_complete},
        )
        if not part.is_complete:
            connection.execute(
                sql.SQL(
                    "insert into {listed} (table_name, sync_id, version, ids) values (%(table)s, %(sync)s, %(version)s, %(ids)s)"
                ).format(listed=ledger.table("listed")),
                names,
            )


def _settle_rejects(connection: Connection, ledger: Ledger, listed: Listed) -> None:
    """Rejects older than the listing of what it saw: each of those records has been stored, found unchanged or rejected again since."""
    connection.execute(
        sql.SQL(
            "update {rejects} r set resolved_at = now(), resolution = 'listed again since' where r.table_name = %(table)s"
            " and r.resolved_at is null and r.version < %(version)s and r.record_id in (select unnest(l.ids) from {listed} l"
            " where l.table_name = %(table)s and l.sync_id = %(sync)s and l.version = %(version)s)"
        ).format(rejects=ledger.table("rejects"), listed=ledger.table("listed")),
        {"table": ledger.table_name, "sync": listed.sync_id, "version": listed.version},
    )


def _by_listing(listed: Iterable[Listed]) -> list[Listed]:
    """The parts of one listing joined, in their order."""
    joined: dict[tuple[str, int, bool], Listed] = {}
    for part in listed:
        key = (part.sync_id, part.version, part.is_complete)
        earlier = joined.get(key)
        joined[key] = Listed(*key[:2], (*(earlier.ids if earlier else ()), *part.ids), is_complete=part.is_complete)
    return list(joined.values())
