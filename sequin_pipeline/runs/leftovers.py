"""This module decides what becomes of rows that a full reading did not bring.

Above all these are rows of the source that the table was filled from before. They stay, and are told of, unless the run was asked
to mark them as deleted. Their versions stay as they are, and their hashes are forgotten, so that a delivery of the same version
brings a row back.
"""

import logging
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from sequin_pipeline.ledger.census import EVERY_SYNC, Census, end_census, holds_census
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_row, fetch_value
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, without_limits
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.child_rows import mark_children

logger = logging.getLogger("sequin_pipeline.leftovers")

MARKED_ROWS = 5_000
"""A transaction marks this many."""


@dataclass(frozen=True)
class Marked:
    """This value is a part that has been marked: how many rows, and the greatest id that was looked at, None behind the last."""

    rows: int
    last: str | None


def settle_leftovers(session: Session, ledger: Ledger, target: Target, census: Census, source: SourceIdentity) -> str | None:
    """Counts the rows that the source does not have, marks them if that was asked for, and ends the census.

    Where another run has ended it or begun another meanwhile, nothing is counted, marked or ended: the ids are no longer those of this one.

    Returns a sentence about them, None where there are none. To be called when the stream has been read to its end. Raises WarehouseError.
    """
    doing = f"looking for rows of {ledger.label!r} that {source} does not have"
    told = _untellable(target, census)
    if told is None:
        counting = partial(count_leftovers, ledger=ledger, target=target, census=census)
        count = session.attempt(without_limits(counting), doing)
        told = _mark_and_tell(session, ledger, target, census, source, count=count, doing=doing) if count else None
    session.attempt(without_limits(partial(_end, ledger=ledger, census=census)), doing)
    if told is not None:
        logger.warning("%s: %s", ledger.label, told)
    return told


def _untellable(target: Target, census: Census) -> str | None:
    wanted = ["id", *([target.tombstone] if census.others == "mark" and target.tombstone else [])]
    missing = [name for name in wanted if not target.is_stored(name)]
    if not missing:
        return None
    return f"rows that the source does not have are not looked for in a table that has no column for {' and '.join(missing)}"


def _mark_and_tell(
    session: Session, ledger: Ledger, target: Target, census: Census, source: SourceIdentity, *, count: int, doing: str
) -> str:
    origin = f", which was filled from {census.before} before" if census.before not in ("", str(source)) else ""
    head = f"{source} does not have {count:,} row{'' if count == 1 else 's'} of table {ledger.table_name!r}{origin}"
    if census.others == "keep":
        command = f"sequin-pipeline sync --collection {ledger.label} --full-refresh --others mark"
        return f"{head}: they stay as they are. To have them marked as deleted: `{command}`"
    marked, after = 0, None
    while True:
        marking = partial(mark_leftovers, ledger=ledger, target=target, census=census, after=after)
        part = session.attempt(without_limits(marking), doing)
        marked, after = marked + part.rows, part.last
        if after is None:
            break
    if count == marked:
        return f"{head}: {marked:,} marked as deleted"
    return f"{head}: {marked:,} marked as deleted; a trigger keeps the others, or somebody has changed them since"


def count_leftovers(connection: Connection, ledger: Ledger, target: Target, census: Census) -> int:
    """Returns how many rows are not deleted, were not delivered, and have not been written since the census began.

    Scans the table.
    """
    if not holds_census(connection, ledger, census):
        return 0
    count: int = fetch_value(
        connection,
        sql.SQL("with {seen} select count(*) from {table} t where {is_left}").format(**_parts(ledger, target)),
        _values(ledger, census),
    )
    return count


def mark_leftovers(connection: Connection, ledger: Ledger, target: Target, census: Census, *, after: str | None) -> Marked:
    """Marks the next of them in the order of their ids, along the index of the key. Runs in a transaction of its own."""
    if not holds_census(connection, ledger, census):
        return Marked(0, None)
    changes = [sql.SQL("{} = true").format(sql.Identifier(target.column(target.tombstone or "").table_name))]
    if target.content_hash and target.is_stored(target.content_hash):
        changes.append(sql.SQL("{} = null").format(sql.Identifier(target.content_hash)))
    if target.changed_at and not target.is_unmanaged:
        changes.append(sql.SQL("{} = now()").format(sql.Identifier(target.changed_at)))
    found = fetch_row(
        connection,
        Marked,
        sql.SQL(
            "with {seen}, due as materialized (select t.tableoid as part, t.ctid as place, t.{id}::text as id from {table} t"
            " where {is_left} and (%(after)s::text is null or t.{id}::text > %(after)s) order by t.{id}::text limit %(limit)s),"
            # Places are found quickly; in a partitioned table each part has them anew.
            " marked as (update {table} t set {changes} where t.ctid = any(array(select place from due))"
            " and (t.tableoid, t.ctid) in (select part, place from due) and {is_unchanged} returning {told}){closed}{children}"
            " select (select count(*) from marked), (select max(id) from due)"
        ).format(
            **_parts(ledger, target),
            changes=sql.SQL(", ").join(changes),
            told=sql.SQL("t.id, t.updated_idx") if target.history_table else sql.SQL("t.{}::text as id").format(_id(target)),
            closed=_closed(target),
            children=mark_children(target),
        ),
        {**_values(ledger, census), "after": after, "limit": MARKED_ROWS},
    )
    assert found is not None  # noqa: S101 - an aggregate
    return found


def _id(target: Target) -> sql.Identifier:
    return sql.Identifier(target.column("id").table_name)


def _closed(target: Target) -> sql.Composable:
    """Composes the end of the marked rows in their history: there is no version that would tell of it.

    Without its hash, a version that is delivered again is written again, and holds again.
    """
    if target.history_table is None:
        return sql.SQL("")
    return sql.SQL(
        ", closed as (update {} h set valid_to = now(), content_hash = null, updated_at = now() from marked"
        " where h.id = marked.id and h.updated_idx = marked.updated_idx and h.valid_to is null)"
    ).format(sql.Identifier(target.history_table.name.schema, target.history_table.name.name))


def _end(connection: Connection, ledger: Ledger, census: Census) -> None:
    if holds_census(connection, ledger, census):
        end_census(connection, ledger)


def _parts(ledger: Ledger, target: Target) -> dict[str, sql.Composable]:
    is_unchanged: sql.Composable = sql.SQL("true")
    if target.tombstone and target.is_stored(target.tombstone):
        is_unchanged = sql.SQL("t.{} is not true").format(sql.Identifier(target.column(target.tombstone).table_name))
    if target.changed_at and not target.is_unmanaged:
        # Whatever was written since is the new source's, also by a backfill beside this run.
        is_unchanged += sql.SQL(" and (t.{0} is null or t.{0} <= %(began_at)s)").format(sql.Identifier(target.changed_at))
    identifier = sql.Identifier(target.column("id").table_name)
    return {
        "seen": sql.SQL(
            "seen as materialized (select unnest(ids) as id from {} where table_name = %(table)s and sync_id = %(sync)s)"
        ).format(ledger.table("listed")),
        "table": sql.Identifier(target.table.schema, target.table.name),
        "id": identifier,
        "is_unchanged": is_unchanged,
        "is_left": sql.SQL("{} and not exists (select from seen where seen.id = t.{}::text)").format(is_unchanged, identifier),
    }


def _values(ledger: Ledger, census: Census) -> dict[str, object]:
    return {"table": ledger.table_name, "sync": EVERY_SYNC, "began_at": census.began_at}
