"""Commits batches: each in one short transaction together with its ledger rows, retried, counted once, without its bad rows.

Used by whoever has frames for a table: the sync of a collection, the refill of a column, a plain DataFrame.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID, uuid4

import numpy as np
import psycopg

from sequin_pipeline.errors import RunFenced
from sequin_pipeline.ledger.ledger import Counts, Ledger, LiveCursor, MergeRecord
from sequin_pipeline.ledger.listings import remember
from sequin_pipeline.ledger.rejects import count_discarded, record_rejects, settle_delivered
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, attempt, explain, is_open, limit_lock_waits
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import staging
from sequin_pipeline.write.bad_rows import RowsRefused, find_refused, merge_rows
from sequin_pipeline.write.batch import Batch, Place
from sequin_pipeline.write.buckets import Lane
from sequin_pipeline.write.history import BatchHistory, record_passed_over
from sequin_pipeline.write.interpreter_priority import RightOfWay
from sequin_pipeline.write.known_rows import WORTHWHILE_SHARE, Known, Question, ask, can_ask, question
from sequin_pipeline.write.merge import MergeCounts, Merged
from sequin_pipeline.write.prepare import NOTHING_REFUSED, CursorMove, Delivery, Prepared, Sending, prepare

logger = logging.getLogger("sequin_pipeline.writer")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Committed:
    """What the attempt that committed did: counts by key of the window, rejects taken out (`discarded` of them given up before, those
    that wait for a parent aside), and what it cost."""

    counts: dict[str, Counts]
    rejects: tuple[Reject, ...]
    discarded: int
    copied_bytes: int
    wal_bytes: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Sendable:
    """What is sent of a prepared batch, and what the table was found to know of the rest."""

    prepared: Prepared
    encoded: staging.EncodedBatch
    known: Mapping[int, MergeCounts]


class TableWriter:
    """Writes batches into one table on one connection, which is opened anew when it is lost. A context manager.

    `window_keys` and `window_starts` are the run's windows, oldest first; both empty where there are none. Of each delivery the writer
    takes the rows of its `lane`, and the first lane the rejects. `cursor` is the live cursor as this run found or left it;
    `right_of_way` is taken while the writer talks with Postgres, for whoever prepares beside it.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        target: Target,
        ledger: Ledger,
        *,
        run_id: str,
        mode: str,
        window_keys: Sequence[str] = (),
        window_starts: Sequence[datetime] = (),
        lane: Lane = Lane(),  # noqa: B008 - frozen
    ) -> None:
        self.target = target
        self.ledger = ledger
        self.lane = lane
        self.window_starts = tuple(window_starts)
        self.cursor: LiveCursor | None = None
        self.right_of_way = RightOfWay()
        self._warehouse = warehouse
        self._run_id = run_id
        self._mode = mode
        self._window_keys = tuple(window_keys) or ("",)
        self._known_share = 0.0
        self._connection: Connection | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def connection(self) -> Connection:
        """The open connection; another one after the last was lost. Raises WarehouseError."""
        if self._connection is None or not is_open(self._connection):
            self._stack.close()
            opened: AbstractContextManager[Connection] = self._warehouse.connect()
            self._connection = self._stack.enter_context(opened)
        return self._connection

    def attempt(self, work: Callable[[Connection], Result], doing: str) -> Result:
        """Runs `work` on the connection, again when Postgres gave up for a reason that passes."""
        return attempt(lambda: work(self.connection()), doing, sleep=self._warehouse.sleep)

    def prepare(self, delivery: Delivery, *, without: Mapping[Place, Reject] = NOTHING_REFUSED) -> Prepared:
        """Makes the bytes of the next batch; needs no connection, so that it can be done while the last one is being committed.

        `without` are rows that Postgres refused.
        """
        (prepared,) = prepare(self.target, delivery, [self.sending], window_starts=self.window_starts, without=without)
        return prepared

    @property
    def sending(self) -> Sending:
        """Of the next delivery. When the last batch was mostly known, only what the table does not know is sent."""
        return Sending(self.lane, asks_first=self._known_share >= WORTHWHILE_SHARE)

    def commit(self, prepared: Prepared) -> Committed:
        """One batch. Raises RunFenced when another run has moved the cursor, WarehouseError else; then nothing was written."""
        batch_id = uuid4()
        refused: dict[Place, Reject] = {}
        started = time.perf_counter()
        seconds = prepared.seconds
        while True:
            sendable = self._sendable(prepared)
            seconds += time.perf_counter() - started
            try:
                committed = self._commit_once_for_all(batch_id, sendable)
            except RowsRefused as error:
                refused |= self._find_refused(sendable.encoded.batch, prepared.delivery, error)
                started = time.perf_counter()
                prepared = self.prepare(prepared.delivery, without=refused)
                continue
            self._known_share = _known_share(committed)
            return replace(committed, seconds={"encode": seconds, **committed.seconds})

    def _sendable(self, prepared: Prepared) -> _Sendable:
        batch = prepared.batch
        if not (self.sending.asks_first and can_ask(self.target, batch)):
            return _Sendable(prepared, prepared.encoded or staging.encode(self.target, batch), {})
        # What the last batch came to may have become known only after this one was prepared.
        asked = prepared.question or question(self.target, batch)
        known = self.attempt(partial(self._ask, asked), f"asking table {str(self.target.table)!r} what it knows")
        return _Sendable(prepared, staging.encode(self.target, batch.only(known.is_needed)), known.counts)

    def _ask(self, asked: Question, connection: Connection) -> Known:
        with self.right_of_way.taken():
            return ask(connection, asked, versions=self.ledger.table("versions"), waiting=self.right_of_way.ceded)

    def _commit_once_for_all(self, batch_id: UUID, sendable: _Sendable) -> Committed:
        attempts = 0

        def work(connection: Connection) -> Committed:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and self.ledger.has_batch(connection, batch_id):
                # Committed by an attempt whose answer got lost on the way.
                return self._recalled(connection, batch_id, sendable.prepared.rejects)
            try:
                return self._transact(connection, batch_id, sendable)
            except (RunFenced, psycopg.errors.UniqueViolation):
                # The attempt before was still committing, it seems: what it had locked made this one wait, and then stopped it.
                if attempts > 1 and self.ledger.has_batch(connection, batch_id):
                    return self._recalled(connection, batch_id, sendable.prepared.rejects)
                raise

        return self.attempt(work, f"writing a batch of {self.target.label!r} to table {str(self.target.table)!r}")

    def _recalled(self, connection: Connection, batch_id: UUID, rejects: tuple[Reject, ...]) -> Committed:
        for cursor in self.ledger.live_cursors(connection):
            if cursor.lane == self.lane.index and cursor.run_id == self._run_id:
                self.cursor = cursor
        counts, discarded = self.ledger.batch_counts(connection, batch_id), self._count_discarded(connection, rejects)
        return Committed(counts, rejects, discarded, copied_bytes=0, wal_bytes=0, seconds={})

    def _count_discarded(self, connection: Connection, rejects: tuple[Reject, ...]) -> int:
        return count_discarded(connection, self.ledger, [reject for reject in rejects if reject.reject_class != "parent"])

    def _transact(self, connection: Connection, batch_id: UUID, sendable: _Sendable) -> Committed:
        delivery, rejects = sendable.prepared.delivery, sendable.prepared.rejects
        started = time.perf_counter()
        history = self._history(batch_id)
        with self.right_of_way.taken(), connection.transaction():
            limit_lock_waits(connection, self._warehouse.lock_timeout_seconds)
            moved = self._fence(connection, delivery.move)
            wal_start = _wal_position(connection)
            merged = merge_rows(
                connection,
                sendable.encoded,
                window_starts=self.window_starts,
                versions=self.ledger.table("versions"),
                history=history,
                waiting=self.right_of_way.ceded,
            )
            if history is not None:
                record_passed_over(connection, history, self.target, sendable.prepared.batch.superseded, rejects)
            counts = self._count(sendable, merged)
            if self.target.is_unmanaged and self.target.key != (self.target.record_id,):
                self._settle_delivered(connection, sendable.prepared.batch)
            record_rejects(connection, self.ledger, rejects, run_id=self._run_id)
            discarded = self._count_discarded(connection, rejects)
            self.ledger.add_rows(connection, sum(window.created - window.removed for window in counts.values()))
            self.ledger.record_positions(connection, delivery.positions)
            if self.lane.index == 0:
                remember(connection, self.ledger, delivery.listed)
            wal_bytes = _wal_bytes_since(connection, wal_start)
            self.ledger.record_merge(
                connection,
                MergeRecord(
                    batch_id=batch_id,
                    run_id=self._run_id,
                    mode=self._mode,
                    cursor_before=self.cursor.cursor if delivery.move and self.cursor else None,
                    cursor_after=delivery.move.cursor if delivery.move else None,
                    counts=counts,
                    bytes=merged.copied_bytes,
                    wal_bytes=wal_bytes,
                    seconds=merged.seconds,
                    lane=self.lane.index,
                ),
            )
            before_commit = time.perf_counter()
        commit_seconds = time.perf_counter() - before_commit
        self.cursor = moved
        ledger_seconds = before_commit - started - sum(merged.seconds.values())
        return Committed(
            counts,
            rejects,
            discarded,
            copied_bytes=merged.copied_bytes,
            wal_bytes=wal_bytes,
            seconds={**merged.seconds, "ledger": ledger_seconds, "commit": commit_seconds},
        )

    def _history(self, batch_id: UUID) -> BatchHistory | None:
        if self.target.history is None:
            return None
        return BatchHistory(
            table=self.ledger.table("history"),
            table_name=self.ledger.table_name,
            batch_id=batch_id,
            run_id=self._run_id,
            mode=self._mode,
            keep=self.target.history,
        )

    def _settle_delivered(self, connection: Connection, batch: Batch) -> None:
        assert self.target.version is not None  # noqa: S101 - records have versions
        ids, versions = batch.column(self.target.record_id), batch.column(self.target.version)
        settle_delivered(connection, self.ledger, ids.to_pylist(), versions.to_pylist())

    def _fence(self, connection: Connection, move: CursorMove | None) -> LiveCursor | None:
        """First of all: a rival waits here for the cursor's row, and then has done no work in vain."""
        if move is None:
            return None
        moved = self.ledger.move_cursor(
            connection, self.cursor, cursor=move.cursor, stream_time=move.stream_time, run_id=self._run_id
        )
        if moved is not None:
            return moved
        rivals = self.ledger.live_cursors(connection)
        rival = f"run {rivals[0].run_id!r}" if rivals else "a full refresh"
        raise RunFenced(
            f"while writing a batch of {self.target.label!r}, the live cursor was not where this run left it: {rival} has moved it. "
            "Nothing of the batch was written; the other run goes on from there, so wait for it and run again"
        )

    def _find_refused(self, batch: Batch, delivery: Delivery, refusal: RowsRefused) -> dict[Place, Reject]:
        finding = partial(
            find_refused,
            target=self.target,
            batch=batch,
            pages=delivery.pages,
            window_starts=self.window_starts,
            versions=self.ledger.table("versions"),
            lock_timeout_seconds=self._warehouse.lock_timeout_seconds,
        )
        found = self.attempt(
            finding, f"looking for the records of {self.target.label!r} that table {str(self.target.table)!r} refuses"
        )
        if not found:
            raise explain(refusal.error, f"writing a batch of {self.target.label!r}") from refusal
        return found

    def _count(self, sendable: _Sendable, merged: Merged) -> dict[str, Counts]:
        """By key of the window. Rejects have no time that could be trusted: they stand with the batch's newest window."""
        batch, rejected = sendable.prepared.batch, len(sendable.prepared.rejects)
        newest = int(batch.windows.max()) if len(batch.windows) else len(self._window_keys) - 1
        indexes = sorted({*merged.counts, *sendable.known, *np.flatnonzero(batch.duplicates).tolist(), newest})
        counts = {}
        for index in indexes:
            tally = merged.counts.get(index, MergeCounts()) + sendable.known.get(index, MergeCounts())
            duplicate = int(batch.duplicates[index]) if index < len(batch.duplicates) else 0
            rejected_here = rejected if index == newest else 0
            counts[self._window_keys[index]] = Counts(
                fetched=tally.staged + duplicate + rejected_here,
                inserted=tally.inserted,
                updated=tally.updated,
                deleted=tally.deleted,
                unchanged=tally.unchanged,
                stale=tally.stale,
                duplicate=duplicate,
                rejected=rejected_here,
                created=tally.created,
                removed=tally.removed,
                rewritten=tally.rewritten,
            )
        return counts


def _known_share(committed: Committed) -> float:
    total = sum(committed.counts.values(), Counts())
    return (total.unchanged + total.stale) / total.fetched if total.fetched else 0.0


def _wal_position(connection: Connection) -> object:
    row = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None  # noqa: S101 - a function's value
    return row[0]


def _wal_bytes_since(connection: Connection, start: object) -> int:
    row = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)::bigint", (start,)).fetchone()
    assert row is not None  # noqa: S101 - a function's value
    return int(str(row[0]))
