"""This module finds what a complete listing did not see.

The ids that it saw are kept in the ledger while it lasts, and the rest gets tombstones. So deletions are found of which the
source tells nothing. The ids are written in the transactions of the batches that they came with: a run that was killed goes on
with them, however long the listing, and memory holds those of one batch only. How many may be marked unasked is decided in
delete_limit.py.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.held_deletes import DELETE_LIMIT_ROWS, EXAMPLES, HeldDeletes
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, without_limits
from sequin_pipeline.records.fields import compose_envelope
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.table.unmanaged import UTC_WITHOUT_ZONE
from sequin_pipeline.write.job import Committed, WriteJob
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter

UNSEEN_ROWS = 5_000
"""This is the size of a batch of tombstones."""

NEEDED = ("id", "upstream_id", "sync_id", "updated_idx")
"""A table's rows need these columns; one that belongs to an application may not have all of them."""
READ = ("id", "upstream_id", "internal_id", "upstream_created_at", "upstream_updated_at")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class UnseenRow:
    """This value is a live row of the sync that the listing did not see, and that nobody has changed since it began."""

    id: str
    upstream_id: str
    internal_id: str | None
    upstream_created_at: datetime | None
    upstream_updated_at: datetime | None


def count_unlisted(
    session: Session, job: WriteJob, collection: Collection, listed: Listed, notes: dict[str, None]
) -> HeldDeletes | None:
    """Returns what the listing did not see, as it would be held: counted, and with some of its ids.

    None means that there is nothing to mark. A table that cannot tell is said in `notes`.
    """
    from_a_start = collection.lists_from_a_start
    needed = (*NEEDED, "upstream_updated_at") if from_a_start else NEEDED
    missing = [name for name in needed if not job.target.is_stored(name)]
    if missing:
        note = f"what is listed no longer is not looked for in a table that has no columns for {', '.join(missing)}"
        notes[f"{listed.sync_id}: {note}"] = None
        return None
    counting = partial(count_unseen, ledger=job.ledger, target=job.target, listed=listed, from_a_start=from_a_start)
    found = session.attempt(without_limits(counting), f"looking for what a listing of {job.ledger.label!r} did not see")
    return found if found.rows else None


def mark_unlisted(
    session: Session, job: WriteJob, collection: Collection, listed: Listed, notes: dict[str, None]
) -> Iterator[Committed]:
    """Commits tombstones for what the listing did not see, each batch by itself.

    Whoever is killed here begins again, and finds the rest. How many there were is added to `notes`.
    """
    normalize = Normalizer(collection)
    writer = TableWriter(session, job)
    find = partial(find_unseen, ledger=job.ledger, target=job.target, from_a_start=collection.lists_from_a_start)
    after, marked = None, 0
    while True:
        finding = partial(find, listed=listed, after=after)
        rows = session.attempt(without_limits(finding), f"looking for what a listing of {collection.label!r} did not see")
        if not rows:
            break
        committed = writer.write(PageGroup(pages=(normalize(write_tombstones(collection, listed, rows)),)))
        yield committed
        after, marked = rows[-1].id, marked + len(rows) - len(committed.rejects)
    if marked:
        notes[f"{listed.sync_id}: {marked} records that are listed no longer"] = None


def count_unseen(
    connection: Connection, ledger: Ledger, target: Target, listed: Listed, *, from_a_start: bool = False
) -> HeldDeletes:
    """Counts the rows that `find_unseen` would give.

    Those of the whole sync are counted only where there are more than anybody may delete unasked. Scans the table once, or twice.
    """
    found = fetch_row(
        connection,
        lambda rows, live_rows, examples: HeldDeletes(listed.sync_id, listed.version, rows, live_rows, tuple(examples)),
        sql.SQL(
            "with {seen}, unseen as materialized (select {id} as id, {upstream_id} as upstream_id from {target} t where {is_unseen})"
            " select (select count(*) from unseen), case when (select count(*) from unseen) > %(limit)s"
            " then (select count(*) from {target} t where {is_live}) else 0 end,"
            " array(select upstream_id from unseen order by id limit %(examples)s)"
        ).format(**_parts(ledger, target, from_a_start=from_a_start)),
        {**_values(ledger, listed), "limit": DELETE_LIMIT_ROWS, "examples": EXAMPLES},
    )
    assert found is not None  # noqa: S101 - an aggregate
    return found


def find_unseen(
    connection: Connection, ledger: Ledger, target: Target, listed: Listed, *, after: str | None, from_a_start: bool = False
) -> list[UnseenRow]:
    """Returns the next rows in order of their ids; none once the listing's ids are gone. Scans the table once a call."""
    return fetch_rows(
        connection,
        UnseenRow,
        sql.SQL(
            "with {seen} select {id}, {upstream_id}, {internal_id}, {upstream_created_at}, {upstream_updated_at} from {target} t"
            " where {is_unseen} and (%(after)s::text is null or {id} > %(after)s) order by {id} limit %(limit)s"
        ).format(**_parts(ledger, target, from_a_start=from_a_start)),
        {**_values(ledger, listed), "after": after, "limit": UNSEEN_ROWS},
    )


def _parts(ledger: Ledger, target: Target, *, from_a_start: bool) -> dict[str, sql.Composable]:
    """Returns the parts of the statements.

    What a later listing under way has seen, or other pages have brought since, counts as seen as well.
    With `from_a_start`, what last changed before the oldest row that the listing saw may have been left out of it.
    """
    stored = {name: _stored(target.column(name)) for name in (*READ, "sync_id", "deleted", "updated_idx")}
    listed = ledger.table("listed")
    is_live = sql.SQL("{sync_id} = %(sync)s and {deleted} is not true").format(**stored)
    table = sql.Identifier(target.table.schema, target.table.name)
    oldest = sql.SQL(
        ", reach as materialized (select min({upstream_updated_at}) as start from {table} t where {id} in (select id from seen)"
        # What was seen and could not be stored left an older version standing, which tells nothing of the listing.
        " and not exists (select from {rejects} r where r.table_name = %(table)s and r.record_id = {id} and r.resolved_at is null"
        " and r.version > {updated_idx}))"
    ).format(table=table, rejects=ledger.table("rejects"), **stored)
    is_in_reach = sql.SQL(" and ({upstream_updated_at} is null or {upstream_updated_at} >= (select start from reach))").format(
        **stored
    )
    nothing = sql.SQL("")
    return {
        **stored,
        "target": table,
        "seen": sql.SQL(
            "seen as materialized (select unnest(ids) as id from {}"
            " where table_name = %(table)s and sync_id = %(sync)s and version >= %(version)s){}"
        ).format(listed, oldest if from_a_start else nothing),
        "is_live": is_live,
        "is_unseen": sql.SQL(
            "{is_live} and {updated_idx} <= %(version)s and not exists (select from seen where seen.id = {id})"
            " and exists (select from {listed} where table_name = %(table)s and sync_id = %(sync)s and version = %(version)s)"
            "{is_in_reach}"
        ).format(is_live=is_live, listed=listed, is_in_reach=is_in_reach if from_a_start else nothing, **stored),
    }


def _values(ledger: Ledger, listed: Listed) -> dict[str, object]:
    return {"table": ledger.table_name, "sync": listed.sync_id, "version": listed.version}


def _stored(column: TargetColumn) -> sql.Composable:
    """Returns the column as the record has it; what no column of an unmanaged table takes is null there."""
    if column.scope != "table":
        return sql.SQL("null")
    stored = sql.SQL("t.{}").format(sql.Identifier(column.table_name))
    if column.cast == UTC_WITHOUT_ZONE:
        return sql.SQL("{} at time zone 'UTC'").format(stored)
    return sql.SQL("{}::text").format(stored) if column.cast else stored


def write_tombstones(collection: Collection, listed: Listed, rows: Iterable[UnseenRow]) -> bytes:
    """Writes tombstones as the source would have sent them: bare, at the listing's version."""
    entered_at = EPOCH + timedelta(microseconds=listed.version)
    same = {"sync_id": listed.sync_id, "updated_idx": listed.version, "deleted": True, "record_inserted_at": entered_at}
    records = [compose_envelope(collection.id, asdict(row) | same) for row in rows]
    return json.dumps(records).encode()
