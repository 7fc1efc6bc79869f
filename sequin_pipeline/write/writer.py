"""This module commits batches, each in one short transaction together with its ledger rows.

Each is retried, counted once, and committed without its bad rows. Used by whoever has frames for a table: the run of a collection,
the refill of a column, a plain DataFrame. Tables are prepared before: a writer knows from the beginning what it writes to.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import psycopg

from sequin_pipeline.errors import RunFenced, WarehouseUnavailable
from sequin_pipeline.ledger.counts import ChildCounts, Counts
from sequin_pipeline.ledger.forgets import ForgottenMeanwhile, begin_batch, check_generation, read_forgotten
from sequin_pipeline.ledger.ledger import LiveCursor, MergeRecord
from sequin_pipeline.ledger.listings import remember
from sequin_pipeline.ledger.rejects import PARENT, count_discarded, record_rejects, settle_delivered
from sequin_pipeline.ledger.syncs import record_syncs
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.postgres.rows import wal_bytes_since
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, explain
from sequin_pipeline.records.forgotten import NOTHING_FORGOTTEN
from sequin_pipeline.write.bad_rows import SearchResult, find_refused
from sequin_pipeline.write.batch import Batch, Place
from sequin_pipeline.write.buckets import Lane
from sequin_pipeline.write.child_rows import count_rows
from sequin_pipeline.write.counting import count_by_window
from sequin_pipeline.write.forgotten_rows import without_forgotten
from sequin_pipeline.write.history import BatchHistory, batch_history, record_passed_over
from sequin_pipeline.write.history_table import rows_at_fault
from sequin_pipeline.write.interpreter_priority import RightOfWay
from sequin_pipeline.write.job import DELIVERING_MODES, Committed, WriteJob
from sequin_pipeline.write.known_rows import Answer, Asking, Question, ask
from sequin_pipeline.write.merge import Merged, RowsRefused, ShortWayRefused
from sequin_pipeline.write.needed_rows import find_needed
from sequin_pipeline.write.prepare import NOTHING_REFUSED, PageGroup, Prepared, prepare
from sequin_pipeline.write.read_back import ChangedMeanwhile, hold_as_read
from sequin_pipeline.write.ways import Encoded, Parts, encode_needed, encode_to_merge, write_rows

logger = logging.getLogger("sequin_pipeline.writer")

ONLY_LANE = Lane()


SEARCHES_IN_VAIN = 5
"""This many searches may find nothing.

The second one needs somebody else who changes a row of the batch in the instant between two statements.
"""


class TableWriter:
    """This class writes batches into one table on one session.

    Of each page group the writer takes the rows of its `lane`, and the first lane the rejects. `cursor` is the live cursor as the run
    found it; from then on only this writer moves it. `right_of_way` is taken while the writer talks with Postgres, for whoever
    prepares beside it.
    """

    def __init__(
        self,
        session: Session,
        job: WriteJob,
        *,
        lane: Lane = ONLY_LANE,
        cursor: LiveCursor | None = None,
        right_of_way: RightOfWay | None = None,
    ) -> None:
        self.lane = lane
        self.forgotten = NOTHING_FORGOTTEN
        self.asking = Asking(job.target, is_table_empty=job.is_table_empty, reads_again=job.reads_again)
        self._session = session
        self._job = job
        self._cursor = cursor
        self._right_of_way = right_of_way or RightOfWay()
        self._window_keys = job.window_keys or ("",)
        self._children: Mapping[str, ChildCounts] = {}  # of the last attempt that came as far as its commit

    def prepare(self, group: PageGroup, *, without: Mapping[Place, Reject] = NOTHING_REFUSED) -> Prepared:
        """Prepares the next batch, mostly as bytes; needs no connection, so that it can be done while the last one is being committed.

        `without` are rows that Postgres refused, or that turned out not to fit.
        """
        lanes, forgotten = [(self.lane, self.asking)], self.forgotten
        (prepared,) = prepare(
            self._job.target,
            without_forgotten(self._job.target, group, forgotten),
            lanes,
            window_starts=self._job.window_starts,
            without=without,
            generation=forgotten.generation,
        )
        return prepared

    def write(self, group: PageGroup) -> Committed:
        """Prepares and commits a page group. Raises as `commit` does."""
        return self.commit(self.prepare(group))

    def commit(self, prepared: Prepared) -> Committed:
        """Commits one batch.

        Raises RunFenced when another run has moved the cursor, ChangedMeanwhile when rows that were read back are others by now,
        WarehouseError else; then nothing was written.
        """
        batch_id = uuid4()
        refused: dict[Place, Reject] = {}
        started = time.perf_counter()
        seconds, searches_in_vain, was_refused = prepared.seconds, 0, False
        asked, encoded = self._ask_first(prepared, refused)
        parts: Parts = ()
        while True:
            seconds += time.perf_counter() - started
            try:
                committed = self._commit_once_for_all(batch_id, asked, encoded, parts, attempts=int(was_refused))
            except ShortWayRefused:
                started, was_refused = time.perf_counter(), True
                self.asking.pause()
                encoded = encode_to_merge(encoded)
                continue
            except ForgottenMeanwhile:
                started = time.perf_counter()
                refused = self._learn_forgotten(refused)
                prepared, parts = self.prepare(prepared.group, without=refused), ()
                asked, encoded = self._ask_first(prepared, refused)
                continue
            except RowsRefused as error:
                found = self._find_refused(error, encoded.batch, prepared.group)
                started = time.perf_counter()
                if found.refused:
                    refused |= found.refused
                    prepared, parts = self.prepare(prepared.group, without=refused), ()
                    asked, encoded = self._ask_first(prepared, refused)
                    encoded = encode_to_merge(encoded) if was_refused else encoded
                else:
                    # All of them pass, in this order if not at once.
                    parts, searches_in_vain = found.passed, searches_in_vain + 1
                    self._check_patience(error, searches_in_vain)
                continue
            self.asking.learn(sum(committed.counts.values(), Counts()))
            return replace(committed, seconds={"encode": seconds, **committed.seconds})

    def _learn_forgotten(self, refused: Mapping[Place, Reject]) -> dict[Place, Reject]:
        """Reads what is forgotten by now; returns those of the refused rows that are not."""
        label, reading = self._job.target.label, partial(read_forgotten, schema=self._job.ledger.schema)
        self.forgotten = self._session.attempt(reading, f"reading what of {label!r} is forgotten")
        return {place: reject for place, reject in refused.items() if not self.forgotten.holds_raw(label, reject.raw)}

    def _ask_first(self, prepared: Prepared, refused: dict[Place, Reject]) -> tuple[Prepared, Encoded]:
        """Returns what is sent, what the table knows left out; rows that turn out not to fit only now join the `refused`."""
        while True:
            needed = find_needed(self._job.target, prepared, self.asking, self._ask, window_starts=self._job.window_starts)
            if not needed.unfit:
                ready = prepared.encoded if len(needed.batch) == len(prepared.batch) else None
                encoded = encode_needed(self._job.target, needed.batch, self.asking, ready, is_only_new=needed.is_only_new)
                return replace(prepared, known=needed.known), encoded
            refused |= needed.unfit
            prepared = self.prepare(prepared.group, without=refused)

    def _ask(self, batch: Batch, question: Question) -> Answer:
        def work(connection: Connection) -> Answer:
            versions = self._job.ledger.table("versions")
            with self._right_of_way.taken():
                return ask(connection, self._job.target, batch, question, versions=versions, waiting=self._right_of_way.ceded)

        return self._session.attempt(work, self._doing)

    def _commit_once_for_all(
        self, batch_id: UUID, prepared: Prepared, encoded: Encoded, parts: Parts, *, attempts: int
    ) -> Committed:
        """Commits the batch, unless an attempt has done so. A short way that was refused is one: it may have met another."""
        ledger = self._job.ledger

        def work(connection: Connection) -> Committed:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and ledger.has_batch(connection, batch_id):
                # Committed by an attempt whose answer got lost on the way.
                return self._recalled(connection, batch_id, prepared.rejects)
            try:
                return self._transact(connection, batch_id, prepared, encoded, parts)
            except (RunFenced, ChangedMeanwhile, psycopg.errors.UniqueViolation):
                # The attempt before was still committing, it seems: what it had locked made this one wait, and then stopped it.
                if attempts > 1 and ledger.has_batch(connection, batch_id):
                    return self._recalled(connection, batch_id, prepared.rejects)
                raise

        return self._session.attempt(work, self._doing)

    @property
    def _doing(self) -> str:
        return f"writing a batch of {self._job.target.label!r} to table {str(self._job.target.table)!r}"

    def _recalled(self, connection: Connection, batch_id: UUID, rejects: tuple[Reject, ...]) -> Committed:
        for cursor in self._job.ledger.live_cursors(connection):
            if cursor.lane == self.lane.index and cursor.run_id == self._job.run_id:
                self._cursor = cursor
        counts, discarded = self._job.ledger.batch_counts(connection, batch_id), self._count_discarded(connection, rejects)
        return Committed(counts, rejects, discarded, copied_bytes=0, wal_bytes=0, seconds={}, children=self._children)

    def _count_discarded(self, connection: Connection, rejects: tuple[Reject, ...]) -> int:
        return count_discarded(connection, self._job.ledger, [one for one in rejects if one.reject_class != PARENT])

    def _transact(self, connection: Connection, batch_id: UUID, prepared: Prepared, encoded: Encoded, parts: Parts) -> Committed:
        started = time.perf_counter()
        history = batch_history(self._job, batch_id)
        with self._right_of_way.taken(), connection.transaction():
            # First of all: whoever waits here must hold nothing that a batch at work waits for.
            begin_batch(connection, self._job.ledger.schema, self._session.warehouse.lock_timeout_seconds)
            moved = self._fence(connection, prepared.group)
            wal_start = check_generation(connection, self._job.ledger.schema, prepared.generation)
            hold_as_read(connection, self._job.target, prepared.batch, prepared.group.read_as)
            merged = write_rows(
                connection,
                encoded,
                parts,
                window_starts=self._job.window_starts,
                versions=self._job.ledger.table("versions"),
                history=history,
                waiting=self._right_of_way.ceded,
            )
            counts = count_by_window(prepared, merged, self._window_keys)
            count_rows(connection, self._job.ledger, merged.children)
            discarded = self._record_beside(connection, prepared, counts, history)
            wal_bytes = wal_bytes_since(connection, wal_start)
            if self._job.mode in DELIVERING_MODES:
                record_syncs(connection, self._job.ledger, prepared.syncs)
            self._record_merge(connection, batch_id, prepared, counts, merged, wal_bytes=wal_bytes)
            self._children = merged.children
            before_commit = time.perf_counter()
        commit_seconds = time.perf_counter() - before_commit
        self._cursor = moved
        ledger_seconds = before_commit - started - sum(merged.seconds.values())
        return Committed(
            counts,
            prepared.rejects,
            discarded,
            copied_bytes=merged.copied_bytes,
            wal_bytes=wal_bytes,
            seconds={**merged.seconds, "ledger": ledger_seconds, "commit": commit_seconds},
            syncs=prepared.syncs,
            children=merged.children,
        )

    def _record_beside(
        self, connection: Connection, prepared: Prepared, counts: Mapping[str, Counts], history: BatchHistory | None
    ) -> int:
        """Commits what came beside the rows; returns how many of the rejects had been given up before."""
        target, ledger, group = self._job.target, self._job.ledger, prepared.group
        if history is not None:
            record_passed_over(connection, history, target, prepared.batch.superseded, prepared.rejects)
        if target.is_unmanaged and target.key != (target.record_id,):
            self._settle_delivered(connection, prepared.batch)
        rejects = prepared.rejects
        if self._job.mode == "refill":
            # Their rows are there already, and would settle them.
            rejects = tuple(replace(reject, reject_class="refill") for reject in rejects)
        record_rejects(connection, ledger, rejects, run_id=self._job.run_id)
        discarded = self._count_discarded(connection, prepared.rejects)
        ledger.add_rows(connection, sum(window.created - window.removed for window in counts.values()))
        ledger.record_positions(connection, () if group.forgotten else group.passed)
        if self.lane.index == 0:
            remember(connection, ledger, group.listed, group.held)
        return discarded

    def _record_merge(
        self,
        connection: Connection,
        batch_id: UUID,
        prepared: Prepared,
        counts: Mapping[str, Counts],
        merged: Merged,
        *,
        wal_bytes: int,
    ) -> None:
        # A cursor may name the object at which a page ended, which may be one that is forgotten: the one before also by now.
        tells_cursors = prepared.group.moves_cursor and not prepared.group.forgotten
        merge = MergeRecord(
            batch_id=batch_id,
            run_id=self._job.run_id,
            mode=self._job.mode,
            cursor_before=self._cursor.cursor if tells_cursors and self._cursor and not prepared.generation else None,
            cursor_after=prepared.group.position.after if tells_cursors else None,
            counts=counts,
            bytes=merged.copied_bytes,
            wal_bytes=wal_bytes,
            seconds=merged.seconds,
            lane=self.lane.index,
        )
        self._job.ledger.record_merge(connection, merge)

    def _settle_delivered(self, connection: Connection, batch: Batch) -> None:
        target = self._job.target
        assert target.version is not None  # noqa: S101 - records have versions
        ids, versions = batch.column(target.record_id), batch.column(target.version)
        settle_delivered(connection, self._job.ledger, ids.to_pylist(), versions.to_pylist())

    def _fence(self, connection: Connection, group: PageGroup) -> LiveCursor | None:
        """Moves the cursor, before any other row is touched: a rival waits here, and then has done no work in vain."""
        if not group.moves_cursor:
            return None
        moved = self._job.ledger.move_cursor(
            connection,
            self._cursor,
            cursor=group.position.after,
            stream_time=group.position.stream_time,
            run_id=self._job.run_id,
        )
        if moved is not None:
            return moved
        rivals = self._job.ledger.live_cursors(connection)
        rival = f"run {rivals[0].run_id!r}" if rivals else "a full refresh"
        raise RunFenced(
            f"while writing a batch of {self._job.target.label!r}, the live cursor was not where this run left it: {rival} has moved it. "
            "Nothing of the batch was written; the other run goes on from there, so wait for it and run again"
        )

    def _find_refused(self, refusal: RowsRefused, batch: Batch, group: PageGroup) -> SearchResult:
        target = self._job.target
        at_fault, trying = rows_at_fault(refusal, batch)
        finding = partial(
            find_refused,
            target=target,
            batch=at_fault,
            trying=trying,
            pages=group.pages,
            window_starts=self._job.window_starts,
            versions=self._job.ledger.table("versions"),
            lock_timeout_seconds=self._session.warehouse.lock_timeout_seconds,
        )
        doing = f"looking for the records of {target.label!r} that table {str(target.table)!r} refuses"
        return self._session.attempt(finding, doing)

    def _check_patience(self, refusal: RowsRefused, searches_in_vain: int) -> None:
        """Gives up after too many searches that found nothing.

        Rows that pass in the search were stopped by their order, or by others who wrote at the same time.
        """
        if searches_in_vain < SEARCHES_IN_VAIN:
            return
        if refusal.error is not None:
            raise explain(refusal.error, f"writing a batch of {self._job.target.label!r}") from refusal
        raise WarehouseUnavailable(
            f"while writing a batch of {self._job.target.label!r}, others changed its rows in table {str(self._job.target.table)!r} "
            f"each of {searches_in_vain} times: run again when fewer write there"
        ) from refusal
