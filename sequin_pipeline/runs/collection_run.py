"""This module carries out one run of one collection.

It pulls the stream and commits page group by page group, until the stream ends. What is decided here: what makes a page group,
and what a run leaves behind; how it begins is decided in start.py. No Dagster.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceError, TooManyRejects
from sequin_pipeline.ledger.census import Census, delivered
from sequin_pipeline.ledger.forgets import hold_forgets
from sequin_pipeline.ledger.held_deletes import HeldDeletes, find_held
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import open_rejects
from sequin_pipeline.ledger.retention import prune
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, lift_limits
from sequin_pipeline.read.shard_stream import shard_positions
from sequin_pipeline.read.stream import Portion, RecordStream, Room
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.runs.delete_limit import DeleteLimit
from sequin_pipeline.runs.heartbeat import Heartbeat
from sequin_pipeline.runs.leftovers import settle_leftovers
from sequin_pipeline.runs.outcome import Progress, SyncOutcome, Totals
from sequin_pipeline.runs.replay_rejects import RESTING_SECONDS, retry_waiting
from sequin_pipeline.runs.settle import resolve_outdated
from sequin_pipeline.runs.start import owns_cursor, start_run, sweep
from sequin_pipeline.sources import Listed, Page
from sequin_pipeline.table.child_tables import rows_of_children
from sequin_pipeline.table.indexes import create_missing, declared_indexes
from sequin_pipeline.write.job import WriteJob
from sequin_pipeline.write.lanes import Finished, Lanes
from sequin_pipeline.write.prepare import PageGroup

BATCH_RECORDS = 5_000
BATCH_BYTES = 8 * 1024 * 1024
"""A page group, whose share of a lane is a batch, is about this large.

Between 1,000 and 200,000 rows a batch costs the same per row; small ones lose less to a crash and hold less memory: of three at a
time each is there as pages, as frames, as rows and as the bytes of COPY.
"""
BATCH_PAGES = 500
"""A page group of small or empty pages has at most this many: what more requests have brought is not to be lost to a crash."""


def run_sync(
    stream: RecordStream,
    warehouse: Warehouse,
    *,
    run_id: str,
    schema: str = DEFAULT_SCHEMA,
    lanes: int | None = None,
    batch_records: int = BATCH_RECORDS,
    report: Callable[[Progress], None] = lambda progress: None,
) -> SyncOutcome:
    """Reads the stream to its end, writes it, and returns what came of it.

    `lanes` connections write beside each other; None: as many as the collection declares. Raises SourceError and WarehouseError,
    after which the next run goes on at the first batch that was not committed, and TooManyRejects after everything good has been
    committed.
    """
    collection = stream.run_config.collection
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(warehouse)) for _ in range(lanes or collection.lanes)]
        run = stack.enter_context(CollectionRun(stream, sessions, run_id=run_id, schema=schema, report=report))
        run.read(batch_records=batch_records)
        outcome = run.finish(reached_end=stream.reached_end)
    check_rejects(collection, outcome)
    return outcome


def check_rejects(collection: Collection, outcome: SyncOutcome) -> None:
    """Raises TooManyRejects for what a run of the collection has come to."""
    fetched = outcome.counts.fetched
    rejected = outcome.counts.rejected - outcome.missing_parents - outcome.discarded - outcome.settled
    is_over_limit = rejected > collection.reject_limit_records and rejected > collection.reject_limit_share * fetched
    if is_over_limit or (rejected and outcome.counts.rejected == fetched):
        record_id, reason = outcome.reject_examples[0] if outcome.reject_examples else ("", "")
        raise TooManyRejects(
            f"{rejected} of {fetched} records of {collection.label!r} were rejected, everything good has been committed; one of them is "
            f"{record_id!r}: {reason}. `sequin-pipeline rejects list {collection.label}` shows them; fix the records or the declaration"
        )


class CollectionRun:
    """This class is one run of one collection under way: its place in the stream and its sums.

    It is a context manager, whose end waits for the lanes. Ledger and table are ready once it is made. Then comes `read`, or
    whoever reads for several collections calls `write`; `finish` is the last. There is a lane for each session; before and after
    reading, the first one serves for the ledger, and while lanes write, a session of its own shows life.
    """

    def __init__(
        self,
        stream: RecordStream,
        sessions: Sequence[Session],
        *,
        run_id: str,
        schema: str = DEFAULT_SCHEMA,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        run_config = stream.run_config
        self._stream = stream
        self._run_config = run_config
        self._session, self._lane_count = sessions[0], len(sessions)
        self._ledger = Ledger(str(run_config.collection.table), run_config.collection.label, schema, run_config.shard)
        self._completion = Completion(self._ledger)
        self._totals = Totals()
        self._heartbeat = Heartbeat(self._ledger, self._totals, run_id=run_id, mode=run_config.ledger_mode, report=report)
        start = start_run(
            self._session,
            self._ledger,
            run_config,
            stream.source,
            run_id=run_id,
            lanes=len(sessions),
            heartbeat=self._heartbeat,
        )
        self._totals.swept, self._totals.refilled = start.swept, start.refilled
        self._position = start.position
        self._census = start.census
        self._totals.notes |= dict.fromkeys(start.notes)
        self._job = WriteJob(
            start.target,
            self._ledger,
            run_id,
            run_config.ledger_mode,
            window_keys=run_config.partition_keys,
            window_starts=run_config.window_starts,
            is_table_empty=start.is_table_empty,
            reads_again=run_config.full_refresh or run_config.mode == "backfill",
        )
        self._deletes = DeleteLimit(self._session, self._job, run_config, self._totals)
        self._lanes = Lanes(self._job, sessions, start.cursors)

    def __enter__(self) -> Self:
        self._lanes.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lanes.__exit__(kind, error, traceback)

    @property
    def _label(self) -> str:
        return self._run_config.collection.label

    def read(self, *, batch_records: int = BATCH_RECORDS) -> None:
        """Hands over every page group of the stream, in order."""
        self._deletes.mark_accepted()
        with Session(self._session.warehouse) as watch:
            room = Room(records=batch_records, bytes=BATCH_BYTES, pages=BATCH_PAGES)

            def show_progress() -> None:
                self._heartbeat.progress(watch, self._position.stream_time)

            portions = self._stream.portions(
                self._position.after,
                room,
                while_waiting=show_progress,
                give_way=self._lanes.give_way,
                reads_lazily=lambda: self._lanes.reads_lazily,
            )
            try:
                for gathered in self._gather(portions, room, show_progress):
                    listed, held = gathered[-1].pages[-1].listed, None
                    if listed is not None and listed.is_complete:
                        # Then the first lane's session is free.
                        self._settle(self._lanes.finish())
                        held = self._deletes.settle(listed)
                    self._settle(self._lanes.commit(self._group(gathered, held)))
            finally:
                portions.close()
                # Also when the source failed: what was read before is good.
                self._settle(self._lanes.finish())

    def complete(self, page: Page) -> Page:
        """Adds the values that the messages of the next page left out; the last page must have been written."""
        if page.tells_all_values:
            return page
        completing = partial(self._completion, target=self._job.target, records=page.records)
        return replace(page, records=self._session.attempt(completing, f"reading what is stored of {self._label!r}"))

    def write(self, portion: Portion) -> None:
        """Commits pages that somebody else has read before it returns. Raises WarehouseError; then they are not committed."""
        self._totals.add_portion(portion)
        self._settle(self._lanes.commit(self._group([portion])))
        self._settle(self._lanes.finish())
        self._heartbeat.progress(self._session, self._position.stream_time)

    def _gather(self, portions: Iterator[Portion], room: Room, show_progress: Callable[[], None]) -> Iterator[list[Portion]]:
        gathered: list[Portion] = []
        failure: SourceError | None = None
        while True:
            try:
                portion = next(portions, None)
            except SourceError as error:
                # What was read before is good, and the next run need not read it again.
                failure, portion = error, None
            if portion is None:
                break
            self._totals.add_portion(portion)
            show_progress()
            stands_alone = portion.pages[-1].completes_a_listing
            if stands_alone and gathered:
                yield gathered
                gathered = []
                room.begin()
            gathered.append(portion)
            if room.is_full or stands_alone:
                yield gathered
                gathered = []
                room.begin()
        if any(
            portion.normalized.fetched or page.cursor not in (None, self._position.after)
            for portion in gathered
            for page in portion.pages
        ):
            yield gathered
        if failure is not None:
            raise failure

    def _group(self, gathered: list[Portion], held: HeldDeletes | None = None) -> PageGroup:
        self._position, passed = self._position.behind(gathered)
        if self._run_config.shard:
            passed = shard_positions(passed)
        pages = [page for portion in gathered for page in portion.pages]
        return PageGroup(
            pages=tuple(portion.normalized for portion in gathered),
            position=self._position,
            moves_cursor=owns_cursor(self._run_config, self._stream.source),
            # Where a source is asked for a window by itself, no position helps.
            passed=() if self._run_config.is_restricted or self._run_config.collection.observes_time else passed,
            listed=(
                *(page.listed for page in pages if page.listed is not None),
                *self._counted(gathered),
                *self._deletes.seen_since(gathered),
            ),
            held=held,
        )

    def _counted(self, gathered: list[Portion]) -> Iterator[Listed]:
        """Returns what a census, if one is taken, learns of the ids that the source has: those of rejects too."""
        if self._census is None:
            return
        for portion in gathered:
            rejected = (reject.record_id for reject in portion.normalized.rejects if reject.record_id is not None)
            yield delivered([*portion.normalized.frame["id"], *rejected])

    def _settle(self, finished: Iterator[Finished]) -> None:
        for group, parts in finished:
            for committed in parts:
                self._totals.add_committed(committed)
            if group.position.after is not None:
                self._stream.source.committed(group.position.after)

    def finish(self, *, reached_end: bool) -> SyncOutcome:
        """Settles what can be settled now, and sums up; one small transaction when nothing waits."""
        if self._census is not None and reached_end:
            self._settle_leftovers(self._census)
        waiting = self._session.attempt(partial(open_rejects, ledger=self._ledger), f"reading the rejects of {self._label!r}")
        if waiting.waiting:
            self._totals.settled = retry_waiting(
                self._session.warehouse,
                self._run_config.collection,
                self._ledger,
                run_id=self._job.run_id,
                met=self._totals.met,
                resting_seconds=0 if self._totals.has_changed_rows else RESTING_SECONDS,
            )
        finishing = partial(self._finish, reached_end=reached_end)
        outcome = self._session.attempt(finishing, f"closing the run of {self._label!r}")
        self._create_indexes()
        return outcome

    def _settle_leftovers(self, census: Census) -> None:
        target, identity = self._job.target, self._stream.source.identity
        told = settle_leftovers(self._session, self._ledger, target, census, identity)
        if told is not None:
            self._totals.notes[told] = None
        if census.others == "mark" and target.removes and not target.is_unmanaged:
            sweeping = partial(sweep, ledger=self._ledger, target=target, heartbeat=self._heartbeat)
            removed, _ = self._session.attempt(sweeping, f"removing rows of {self._label!r}")
            self._totals.swept += removed

    def _create_indexes(self) -> None:
        """Creates the indexes that are declared and missing.

        By now everything is committed, and the run has ended as far as the ledger knows.
        """
        for table, indexes in declared_indexes(self._run_config.collection).items():
            creating = partial(create_missing, table=table, indexes=indexes)
            self._session.attempt(creating, f"creating the indexes of {self._label!r}")

    def _finish(self, connection: Connection, *, reached_end: bool) -> SyncOutcome:
        with connection.transaction():
            lift_limits(connection)
            if self._totals.sample.records:
                # First of all, as each batch does: what the sample says of somebody must not be written down behind a request.
                hold_forgets(connection, self._ledger.schema)
            rejects = open_rejects(connection, self._ledger)
            if rejects.count and resolve_outdated(connection, self._ledger, self._job.target):
                rejects = open_rejects(connection, self._ledger)
            self._heartbeat.beat(connection, has_ended=True)
            drift = self._totals.sample.compare(connection, self._ledger)
            if self._totals.records:
                prune(connection, self._ledger)
            record, held = self._ledger.find_table(connection), find_held(connection, self._ledger)
            child_rows = rows_of_children(connection, self._job.target, self._ledger)
        return self._totals.outcome(
            rows=record.row_count if record else 0,
            cursor=self._position.after,
            lag_seconds=self._lag_seconds(reached_end=reached_end),
            rejects=rejects,
            drift=drift,
            held_deletes=held,
            lanes=self._lane_count,
            child_rows=child_rows,
        )

    def _lag_seconds(self, *, reached_end: bool) -> float | None:
        if self._run_config.ledger_mode != "live":
            return None
        if reached_end or self._position.stream_time is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self._position.stream_time).total_seconds())
