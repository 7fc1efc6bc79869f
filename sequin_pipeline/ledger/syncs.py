"""This module keeps for each sync of a table what has come of it, and how new that was: from the rows of each batch, never by a scan."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import storable
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class SyncCount:
    """This value says what came of one sync: the records, newest of their ids in their batches, and those that were rejected.

    `newest_at` is the greatest time at which one of them entered the stream, None where none of them tells.
    """

    sync_id: str
    internal_id: str | None = None
    records: int = 0
    rejected: int = 0
    newest_at: datetime | None = None

    def __add__(self, later: "SyncCount") -> "SyncCount":
        return SyncCount(
            self.sync_id,
            later.internal_id if later.internal_id is not None else self.internal_id,
            self.records + later.records,
            self.rejected + later.rejected,
            max((one for one in (self.newest_at, later.newest_at) if one is not None), default=None),
        )


@dataclass(frozen=True)
class SyncStatus:
    """This value says how one sync of a table stands."""

    label: str
    count: SyncCount
    delivered_at: datetime
    open_rejects: int


def add_up(counts: Iterable[SyncCount]) -> dict[str, SyncCount]:
    """Returns the sums by sync, in the order of the syncs."""
    found: dict[str, SyncCount] = {}
    for one in counts:
        found[one.sync_id] = found[one.sync_id] + one if one.sync_id in found else one
    return dict(sorted(found.items()))


def record_syncs(connection: Connection, ledger: Ledger, counts: Iterable[SyncCount]) -> None:
    """Adds what came with a batch, in its transaction; in the order of the syncs, so that lanes cannot deadlock."""
    held = add_up(
        SyncCount(
            storable(one.sync_id, connection) or "",
            storable(one.internal_id, connection),
            one.records,
            one.rejected,
            one.newest_at,
        )
        for one in counts
    )
    if not held:
        return
    connection.execute(
        sql.SQL(
            "insert into {} as s (table_name, sync_id, internal_id, records, rejected, stream_time)"
            " select %(table)s, new.* from unnest(%(syncs)s::text[], %(tenants)s::text[], %(records)s::bigint[], %(rejected)s::bigint[],"
            " %(times)s::timestamptz[]) as new on conflict (table_name, sync_id) do update set"
            " internal_id = coalesce(excluded.internal_id, s.internal_id), records = s.records + excluded.records,"
            " rejected = s.rejected + excluded.rejected, stream_time = greatest(s.stream_time, excluded.stream_time), delivered_at = now()"
        ).format(ledger.table("syncs")),
        {
            "table": ledger.table_name,
            "syncs": list(held),
            "tenants": [one.internal_id for one in held.values()],
            "records": [one.records for one in held.values()],
            "rejected": [one.rejected for one in held.values()],
            "times": [one.newest_at for one in held.values()],
        },
    )


def sync_statuses(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> dict[str, list[SyncStatus]]:
    """Returns by `schema.table` how each of its syncs stands, in the order of the syncs.

    Leans on rejects (table_name) where resolved_at is null.
    """
    found: dict[str, list[SyncStatus]] = {}
    for table, *columns in fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL(
            "select s.table_name, t.label, s.sync_id, s.internal_id, s.records, s.rejected, s.stream_time, s.delivered_at,"
            " coalesce(r.count, 0) from {schema}.syncs s join {schema}.tables t using (table_name) left join"
            " (select table_name, sync_id, count(*) from {schema}.rejects where resolved_at is null group by 1, 2) r"
            " using (table_name, sync_id) order by s.table_name, s.sync_id"
        ).format(schema=sql.Identifier(schema)),
    ):
        label, *count, delivered_at, open_rejects = columns
        found.setdefault(table, []).append(SyncStatus(label, SyncCount(*count), delivered_at, open_rejects))
    return found
