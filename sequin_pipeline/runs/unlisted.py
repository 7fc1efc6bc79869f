"""What a complete listing did not see: the ids that it saw, kept in the ledger while it lasts, and tombstones for the rest.

So deletions are found of which the source tells nothing. The ids are written in the transactions of the batches that they came with: a
run that was killed goes on with them, however long the listing, and memory holds those of one batch only.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, without_limits
from sequin_pipeline.records.fields import compose_envelope
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.table.unmanaged import UTC_WITHOUT_ZONE
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import Committed, TableWriter, WriteJob

UNSEEN_ROWS = 5_000
"""A batch of tombstones."""

NEEDED = ("id", "upstream_id", "sync_id", "updated_idx")
"""Of the rows of a table; one that belongs to an application may not have columns for all."""
READ = ("id", "upstream_id", "internal_id", "upstream_created_at", "upstream_updated_at")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class UnseenRow:
    """A live row of the sync that the listing did not see, and that nobody has changed since it began."""

    id: str
    upstream_id: str
    internal_id: str | None
    upstream_created_at: datetime | None
    upstream_updated_at: datetime | None


def mark_unlisted(
    session: Session, job: WriteJob, collection: Collection, listed: Listed, notes: dict[str, None]
) -> Iterator[Committed]:
    """Commits tombstones for what the listing did not see, each batch by itself: whoever is killed here begins again, and finds the
    rest. What there is to say is added to `notes`."""
    missing = [name for name in NEEDED if not job.target.is_stored(name)]
    if missing:
        note = f"what is listed no longer is not looked for in a table that has no columns for {', '.join(missing)}"
        notes[f"{listed.sync_id}: {note}"] = None
        return
    normalize = Normalizer(collection)
    writer = TableWriter(session, job)
    after, marked = None, 0
    while True:
        finding = partial(find_unseen, ledger=job.ledger, target=job.target, listed=listed, after=after)
        rows = session.attempt(without_limits(finding), f"looking for what a listing of {collection.label!r} did not see")
        if not rows:
            break
        committed = writer.write(PageGroup(pages=(normalize(write_tombstones(collection, listed, rows)),)))
        yield committed
        after, marked = rows[-1].id, marked + len(rows) - len(committed.rejects)
    if marked:
        notes[f"{listed.sync_id}: {marked} records that are listed no longer"] = None


def find_unseen(connection: Connection, ledger: Ledger, target: Target, listed: Listed, *, after: str | None) -> list[UnseenRow]:
    """The next rows in order of their ids; none when another listing has begun since. Scans the table once a call."""
    return fetch_rows(
        connection,
        UnseenRow,
        sql.SQL(
            "with seen as materialized (select unnest(ids) as id from {listed}"
            " where table_name = %(table)s and sync_id = %(sync)s and version = %(version)s)"
            " select {id}, {upstream_id}, {internal_id}, {upstream_created_at}, {upstream_updated_at} from {target} t"
            " where {sync_id} = %(sync)s and {deleted} is not true and {updated_idx} <= %(version)s"
            " and (%(after)s::text is null or {id} > %(after)s)"
            " and not exists (select from seen where seen.id = {id})"
            " and exists (select from {listed} where table_name = %(table)s and sync_id = %(sync)s and version = %(version)s)"
            " order by {id} limit %(limit)s"
        ).format(
            listed=ledger.table("listed"),
            target=sql.Identifier(target.table.schema, target.table.name),
            **{name: _stored(target.column(name)) for name in (*READ, "sync_id", "deleted", "updated_idx")},
        ),
        {
            "table": ledger.table_name,
            "sync": listed.sync_id,
            "version": listed.version,
            "after": after,
            "limit": UNSEEN_ROWS,
        },
    )


def _stored(column: TargetColumn) -> sql.Composable:
    """As the record has it; what no column of an unmanaged table takes is null there."""
    if column.scope != "table":
        return sql.SQL("null")
    stored = sql.SQL("t.{}").format(sql.Identifier(column.table_name))
    if column.cast == UTC_WITHOUT_ZONE:
        return sql.SQL("{} at time zone 'UTC'").format(stored)
    return sql.SQL("{}::text").format(stored) if column.cast else stored


def write_tombstones(collection: Collection, listed: Listed, rows: Iterable[UnseenRow]) -> bytes:
    """As the source would have sent them: bare, at the listing's version."""
    entered_at = EPOCH + timedelta(microseconds=listed.version)
    same = {"sync_id": listed.sync_id, "updated_idx": listed.version, "deleted": True, "record_inserted_at": entered_at}
    records = [compose_envelope(collection.id, asdict(row) | same) for row in rows]
    return json.dumps(records).encode()
