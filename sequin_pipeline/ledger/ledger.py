"""This module is the ledger: what committed merges left behind, in a schema of its own beside the tables.

It has tables, cursors, positions, merges and runs. Every write belongs to the transaction of the caller, so that rows and ledger commit
together. What else is kept has modules of its own beside this one (rejects, columns, drift, …); migrations.py defines it all.
"""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from sequin_pipeline.ledger.counts import COUNT_NAMES, Counts
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.sources import SourceIdentity

HEARTBEAT_SECONDS = 10.0
"""A run shows life this often."""


@dataclass(frozen=True)
class TableRecord:
    """This value is what the ledger knows of a table: whose records land there, and how many rows it has."""

    label: str
    source: SourceIdentity
    on_delete: str
    row_count: int


@dataclass(frozen=True)
class LiveCursor:
    """This value is one lane's place in the stream.

    `epoch` and `seq` are what a compare-and-set expects to find. `stream_time` is the greatest `inserted_at` up to there.
    """

    lane: int
    lanes: int
    epoch: int
    seq: int
    cursor: str | None
    stream_time: datetime | None
    run_id: str


@dataclass(frozen=True)
class MergeRecord:
    """This value is one committed batch: `counts` by key of the window ('' where there are none)."""

    batch_id: UUID
    run_id: str
    mode: str
    cursor_before: str | None
    cursor_after: str | None
    counts: Mapping[str, Counts]
    bytes: int
    wal_bytes: int
    seconds: Mapping[str, float]
    lane: int = 0


@dataclass(frozen=True)
class Ledger:
    """This is the ledger of one table; `table_name` is `schema.table`.

    `shard` says whose cursor is meant: 0 is the live one, the others are those of a first load that is divided. Methods run on the
    connection given, in whatever transaction is open.
    """

    table_name: str
    label: str
    schema: str = DEFAULT_SCHEMA
    shard: int = 0

    def table(self, name: str) -> sql.Identifier:
        """Returns the name of a table of the ledger, for statements composed elsewhere."""
        return sql.Identifier(self.schema, name)

    # Where the rows come from

    def find_table(self, connection: Connection) -> TableRecord | None:
        """Returns what is known of the table, None for one that the ledger does not know."""
        return fetch_row(
            connection,
            lambda label, kind, url, stream, *rest: TableRecord(label, SourceIdentity(kind, url, stream), *rest),
            self._sql("select label, source_kind, base_url, stream, on_delete, row_count from {tables} where table_name = %s"),
            (self.table_name,),
        )

    def register_table(self, connection: Connection, source: SourceIdentity, *, on_delete: str, row_count: int) -> None:
        """Names the table as filled from `source`, from the beginning: cursors and positions of another source mean nothing."""
        connection.execute(self._sql("delete from {tables} where table_name = %s"), (self.table_name,))
        connection.execute(self._sql("delete from {syncs} where table_name = %s"), (self.table_name,))
        connection.execute(
            self._sql(
                "insert into {tables} (table_name, label, source_kind, base_url, stream, on_delete, row_count)"
                " values (%s, %s, %s, %s, %s, %s, %s)"
            ),
            (self.table_name, self.label, source.kind, source.base_url, source.stream, on_delete, row_count),
        )

    def set_on_delete(self, connection: Connection, on_delete: str) -> None:
        """Notes the `on_delete` that the declaration has now."""
        connection.execute(
            self._sql("update {tables} set on_delete = %s where table_name = %s and on_delete <> %s"),
            (on_delete, self.table_name, on_delete),
        )

    def add_rows(self, connection: Connection, gained: int) -> None:
        """Keeps the running total of rows; counting a large table would cost more than the sync."""
        if gained:
            connection.execute(
                self._sql("update {tables} set row_count = row_count + %s where table_name = %s"), (gained, self.table_name)
            )

    def has_removed_rows(self, connection: Connection) -> bool:
        """Says whether there are versions of rows that were removed."""
        return bool(
            fetch_value(connection, self._sql("select exists (select from {versions} where table_name = %s)"), (self.table_name,))
        )

    # The live cursor

    def live_cursors(self, connection: Connection) -> list[LiveCursor]:
        """Returns one cursor for each lane, in order; none before the first batch."""
        return fetch_rows(
            connection,
            LiveCursor,
            self._sql(
                "select lane, lanes, epoch, seq, cursor, stream_time, run_id from {cursors} where table_name = %s and shard = %s"
                " order by lane"
            ),
            (self.table_name, self.shard),
        )

    def lowest_cursor(self, connection: Connection) -> str | None:
        """Returns the live cursor of the lane that has come least far, None before the first batch; of earlier versions' ledgers, too."""
        # Cursors of shards came later, with a column of their own.
        found: str | None = fetch_value(
            connection,
            self._sql(
                "select (select c.cursor from {cursors} c where c.table_name = %s and coalesce((to_jsonb(c) ->> 'shard')::int, 0) = 0"
                " order by c.seq limit 1)"
            ),
            (self.table_name,),
        )
        return found

    def move_cursor(
        self, connection: Connection, found: LiveCursor | None, *, cursor: str | None, stream_time: datetime | None, run_id: str
    ) -> LiveCursor | None:
        """Moves the cursor of one lane by compare-and-set.

        It returns the new cursor, or None when another run has moved it since `found` was read.

        A rival waits here for the row, before it has done any work. The first epoch is a moment, so that a cursor that was forgotten
        and begun again is never taken for the one before.
        """
        if found is None:
            return fetch_row(
                connection,
                LiveCursor,
                self._sql(
                    "insert into {cursors} (table_name, shard, lane, lanes, epoch, seq, cursor, stream_time, run_id)"
                    " values (%s, %s, 0, 1, extract(epoch from clock_timestamp()) * 1000000, 1, %s, %s, %s) on conflict do nothing"
                    " returning lane, lanes, epoch, seq, cursor, stream_time, run_id"
                ),
                (self.table_name, self.shard, cursor, stream_time, run_id),
            )
        return fetch_row(
            connection,
            LiveCursor,
            self._sql(
                "update {cursors} set seq = seq + 1, cursor = %s, stream_time = %s, run_id = %s, committed_at = now()"
                " where table_name = %s and shard = %s and lane = %s and epoch = %s and seq = %s"
                " returning lane, lanes, epoch, seq, cursor, stream_time, run_id"
            ),
            (cursor, stream_time, run_id, self.table_name, self.shard, found.lane, found.epoch, found.seq),
        )

    def take_over(self, connection: Connection, *, lanes: int, run_id: str) -> list[LiveCursor]:
        """Returns the cursors of that many lanes, for a run that will move them.

        A single lane is as it is found, or has no row yet; its compare-and-set tells rivals apart. Several begin together from the
        lowest, in one short transaction that fences whoever moved them until now: lanes that two runs had moved in turns would say
        different things at the same count. What a lane ahead had written is known, and not written again.
        """
        found = self.live_cursors(connection)
        if lanes == 1 and len(found) <= 1:
            return found
        with connection.transaction():
            connection.execute(self._sql("select from {tables} where table_name = %s for update"), (self.table_name,))
            found = self.live_cursors(connection)
            lowest = min(found, key=lambda lane: lane.seq, default=None)
            connection.execute(
                self._sql("delete from {cursors} where table_name = %s and shard = %s"), (self.table_name, self.shard)
            )
            connection.execute(
                self._sql(
                    "insert into {cursors} (table_name, shard, lane, lanes, epoch, seq, cursor, stream_time, run_id)"
                    " select %(table)s, %(shard)s, lane, %(lanes)s, extract(epoch from clock_timestamp()) * 1000000, %(seq)s, %(cursor)s,"
                    " %(time)s, %(run)s from generate_series(0, %(lanes)s - 1) lane"
                ),
                {
                    "table": self.table_name,
                    "shard": self.shard,
                    "lanes": lanes,
                    "seq": lowest.seq if lowest else 0,
                    "cursor": lowest.cursor if lowest else None,
                    "time": lowest.stream_time if lowest else None,
                    "run": run_id,
                },
            )
            return self.live_cursors(connection)

    def forget_cursor(self, connection: Connection) -> None:
        """Forgets the cursors, those of shards too, and positions for a full refresh.

        The live run starts at the earliest record, and one under way is fenced. Positions hold cursors of the same source: they
        go too, for what made it refuse one may be true of all.
        """
        with connection.transaction():
            connection.execute(self._sql("delete from {cursors} where table_name = %s"), (self.table_name,))
            connection.execute(self._sql("delete from {shards} where table_name = %s"), (self.table_name,))
            connection.execute(self._sql("delete from {positions} where table_name = %s"), (self.table_name,))

    # Positions

    def position_before(self, connection: Connection, moment: datetime) -> tuple[datetime, str] | None:
        """Returns the newest recorded position before which no record entered the stream after `moment`."""
        return fetch_row(
            connection,
            _position,
            self._sql(
                "select stream_time, cursor from {positions} where table_name = %s and stream_time <= %s"
                " order by stream_time desc limit 1"
            ),
            (self.table_name, moment),
        )

    def record_positions(self, connection: Connection, positions: Iterable[tuple[datetime, str]]) -> None:
        """Records positions that are already thinned out; one that is known is left as it is."""
        with connection.cursor() as cursor:
            cursor.executemany(
                self._sql("insert into {positions} (table_name, stream_time, cursor) values (%s, %s, %s) on conflict do nothing"),
                [(self.table_name, stream_time, at) for stream_time, at in positions],
            )

    # Merges and runs

    def has_batch(self, connection: Connection, batch_id: UUID) -> bool:
        """Says whether this batch was committed by an attempt whose answer got lost."""
        return bool(fetch_value(connection, self._sql("select exists (select from {merges} where batch_id = %s)"), (batch_id,)))

    def batch_counts(self, connection: Connection, batch_id: UUID) -> dict[str, Counts]:
        """Returns by key of the window what the attempt that committed wrote."""
        names = sql.SQL(", ").join(map(sql.Identifier, COUNT_NAMES))
        statement = sql.SQL("select window_key, {names} from {merges} where batch_id = %s").format(
            names=names, merges=self.table("merges")
        )
        return dict(fetch_rows(connection, _window_counts, statement, (batch_id,)))

    def record_merge(self, connection: Connection, merge: MergeRecord) -> None:
        """Writes one row for each window; sizes and seconds stand with the first."""
        statement = self._sql(
            "insert into {merges} (batch_id, lane, window_key, table_name, label, run_id, mode, cursor_before, cursor_after,"
            " bytes, wal_bytes, seconds, fetched, inserted, updated, deleted, unchanged, stale, duplicate, rejected,"
            " created, removed, rewritten, forgotten)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        )
        with connection.cursor() as cursor:
            for index, (window_key, counts) in enumerate(merge.counts.items()):
                cost = (merge.bytes, merge.wal_bytes, Jsonb(dict(merge.seconds))) if index == 0 else (0, 0, Jsonb({}))
                cursor.execute(
                    statement,
                    (
                        merge.batch_id,
                        merge.lane,
                        window_key,
                        self.table_name,
                        self.label,
                        merge.run_id,
                        merge.mode,
                        merge.cursor_before,
                        merge.cursor_after,
                        *cost,
                        *counts.values(),
                    ),
                )

    def show_life(
        self, connection: Connection, run_id: str, *, mode: str, seconds: float, pages: int, records: int, has_ended: bool
    ) -> None:
        """Writes how far the run has come on this machine, and its last word; it has been at work for `seconds`."""
        connection.execute(
            self._sql(
                "insert into {runs} as r (run_id, table_name, label, mode, host, pages, records, started_at, ended_at)"
                " values (%(run)s, %(table)s, %(label)s, %(mode)s, %(host)s, %(pages)s, %(records)s,"
                " now() - make_interval(secs => %(seconds)s), case when %(ended)s then now() end)"
                # A run that completes a first load reads on as a live one.
                " on conflict (run_id, table_name) do update set mode = excluded.mode, heartbeat_at = now(), host = excluded.host,"
                " pages = excluded.pages,"
                " records = excluded.records, ended_at = excluded.ended_at"
            ),
            {
                "run": run_id,
                "table": self.table_name,
                "label": self.label,
                "mode": mode,
                "host": socket.gethostname(),
                "pages": pages,
                "records": records,
                "seconds": seconds,
                "ended": has_ended,
            },
        )

    def _sql(self, statement: LiteralString) -> bytes:
        return _composed(statement, self.schema)


@cache
def _composed(statement: LiteralString, schema: str) -> bytes:
    """Composes the statement over the ledger's tables.

    A batch runs a dozen of them, and composing one costs as much as running it.
    """
    names = ("tables", "cursors", "positions", "merges", "rejects", "versions", "columns", "runs", "shards", "syncs")
    return with_parameters(sql.SQL(statement).format(**{name: sql.Identifier(schema, name) for name in names})).as_bytes()


def _position(stream_time: datetime, cursor: str) -> tuple[datetime, str]:
    return stream_time, cursor


def _window_counts(window_key: str, *values: int) -> tuple[str, Counts]:
    return window_key, Counts(*values)
