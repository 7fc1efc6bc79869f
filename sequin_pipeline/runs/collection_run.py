"""One run of one collection: pulls its stream and commits batch by batch, until the stream ends.

What is decided here: where reading starts, what makes a batch, what a run leaves behind. No Dagster.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceError, TooManyRejects
from sequin_pipeline.ledger.ledger import HEARTBEAT_SECONDS, Ledger
from sequin_pipeline.ledger.rejects import open_rejects
from sequin_pipeline.ledger.retention import prune
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.ledger.undeclared import adopt_undeclared
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.read.position import Position
from sequin_pipeline.read.stream import Portion, RecordStream, Room
from sequin_pipeline.runs.outcome import Progress, SyncOutcome, Totals
from sequin_pipeline.runs.refill import declare_columns, refill
from sequin_pipeline.runs.replay_rejects import replay
from sequin_pipeline.runs.settle import resolve_outdated
from sequin_pipeline.runs.unlisted import NEEDED, find_unseen, write_tombstones
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.indexes import create_missing
from sequin_pipeline.table.managed import prepare_table
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.windows import SLACK
from sequin_pipeline.write.buckets import Lane
from sequin_pipeline.write.lanes import Finished, Lanes
from sequin_pipeline.write.prepare import CursorMove, Delivery
from sequin_pipeline.write.removals import sweep_marked
from sequin_pipeline.write.writer import TableWriter

BATCH_RECORDS = 5_000
BATCH_BYTES = 8 * 1024 * 1024
"""Between 1,000 and 200,000 rows a batch costs the same per row; small ones lose less to a crash and hold less memory: of three at a
time each is there as pages, as frames, as rows and as the bytes of COPY."""
BATCH_PAGES = 500
"""Of a stream of small or empty pages: so many requests are not to be lost to a crash."""


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
    """Reads the stream to its end and writes it; `stream.outcome` is set to what is returned.

    `lanes` connections write beside each other; None: as many as the collection declares. Raises SourceError and WarehouseError,
    after which the next run goes on at the first batch that was not committed, and TooManyRejects after everything good has been
    committed.
    """
    run_config = stream.run_config
    lanes = lanes or run_config.collection.lanes
    target = collection_target(run_config.collection)
    ledger = Ledger(str(target.table), target.label, schema)

    def build_writer(lane: Lane) -> TableWriter:
        return TableWriter(
            warehouse,
            target,
            ledger,
            run_id=run_id,
            mode=run_config.mode,
            window_keys=run_config.partition_keys,
            window_starts=run_config.window_starts,
            lane=lane,
        )

    with Lanes([build_writer(Lane(index, lanes)) for index in range(lanes)]) as lane_writers:
        run = CollectionRun(stream, warehouse, ledger, lane_writers, run_id=run_id, batch_records=batch_records, report=report)
        run.prepare()
        run.read()
        stream.outcome = run.finish()
    check_rejects(run_config.collection, stream.outcome)
    return stream.outcome


def check_rejects(collection: Collection, outcome: SyncOutcome) -> None:
    """Raises TooManyRejects for what a run of the collection has come to."""
    rejected, fetched = outcome.counts.rejected - outcome.missing_parents - outcome.discarded, outcome.counts.fetched
    is_over_limit = rejected > collection.reject_limit_records and rejected > collection.reject_limit_share * fetched
    if is_over_limit or (rejected and outcome.counts.rejected == fetched):
        record_id, reason = outcome.reject_examples[0] if outcome.reject_examples else ("", "")
        raise TooManyRejects(
            f"{rejected} of {fetched} records of {collection.label!r} were rejected, everything good has been committed; one of them is "
            f"{record_id!r}: {reason}. `sequin-pipeline rejects list {collection.label}` shows them; mend the records or the declaration"
        )


class CollectionRun:
    """One run of one collection under way: its place in the stream and its sums.

    `prepare` comes first and `finish` last; between them stands `read`, or whoever reads for several collections calls `write`. Before
    and after reading, the first lane's connection serves for the ledger; while lanes write, a writer of its own shows life.
    """

    def __init__(
        self,
        stream: RecordStream,
        warehouse: Warehouse,
        ledger: Ledger,
        lanes: Lanes,
        *,
        run_id: str,
        batch_records: int,
        report: Callable[[Progress], None],
    ) -> None:
        self._stream = stream
        self._run_config = stream.run_config
        self._warehouse = warehouse
        self._ledger = ledger
        self._lanes = lanes
        self._writer = lanes.writers[0]
        self._run_id = run_id
        self._batch_records = batch_records
        self._report = report
        self._position = Position()
        self._totals = Totals()
        self._last_heartbeat = time.perf_counter()

    @property
    def _label(self) -> str:
        return self._run_config.collection.label

    def prepare(self) -> None:
        """Ledger, table, columns, and the place to start from; nothing has been requested of the source yet."""
        preparing = f"preparing table {str(self._writer.target.table)!r} of {self._label!r}"
        self._writer.attempt(self._prepare_table, preparing)
        if not self._writer.target.is_unmanaged:
            # Of an unmanaged table's rows the objects may not be kept: its columns fill with the versions that come.
            self._totals.refilled = refill(self._warehouse, self._ledger, self._run_config.collection, run_id=self._run_id)
        self._position = self._writer.attempt(self._find_start, f"reading the ledger of {self._label!r}")

    def _prepare_table(self, connection: Connection) -> None:
        target = self._writer.target
        migrate(connection, self._ledger.schema)
        preparation = prepare_table(
            connection,
            target,
            self._ledger,
            source=self._stream.source.identity,
            adopt=self._run_config.adopt,
            full_refresh=self._run_config.full_refresh,
        )
        for writer in self._lanes.writers:
            # A full refresh finds what an earlier version stored wrongly under a hash that was right.
            writer.target = replace(preparation.target, rechecks_text=self._run_config.full_refresh)
        adopt_undeclared(connection, self._ledger)
        record = preparation.record
        if not target.is_unmanaged:
            declare_columns(connection, self._ledger, self._run_config.collection, preparation)
        if (
            target.removes
            and not target.is_unmanaged
            and (preparation.is_adopted or (record is not None and record.on_delete != "remove"))
        ):
            self._totals.swept += self._sweep(connection)
        if record is not None and record.on_delete != target.on_delete:
            self._ledger.set_on_delete(connection, target.on_delete)

    def _sweep(self, connection: Connection) -> int:
        swept = 0
        while True:
            with connection.transaction(), connection.cursor() as cursor:
                removed = sweep_marked(cursor, self._writer.target, versions=self._ledger.table("versions"))
                self._ledger.add_rows(connection, -removed)
                self._show_life(connection, has_ended=False)
            swept += removed
            if not removed:
                return swept

    @property
    def _owns_cursor(self) -> bool:
        """A queue keeps its own place, by what was acknowledged, so nothing is fenced: any number of runs may drain it beside each
        other, and what is delivered twice is known by its version."""
        return self._run_config.mode == "live" and self._stream.source.can_reread

    def _find_start(self, connection: Connection) -> Position:
        if self._ledger.has_removed_rows(connection):
            for writer in self._lanes.writers:
                writer.target = replace(writer.target, has_removed_rows=True)
        if self._owns_cursor:
            return self._find_live_start(connection)
        window = self._run_config.window
        if window is None or window.start is None or self._run_config.full_refresh:
            return Position()
        position = self._ledger.position_before(connection, window.start - SLACK)
        if position is None:
            return Position()
        stream_time, cursor = position
        return Position(cursor, stream_time, recorded_at=stream_time)

    def _find_live_start(self, connection: Connection) -> Position:
        if self._run_config.full_refresh and any(
            cursor.run_id != self._run_id for cursor in self._ledger.live_cursors(connection)
        ):
            # Not again when a step of this run is tried again: it goes on where it came to.
            self._ledger.forget_cursor(connection)
        writers = self._lanes.writers
        cursors = self._ledger.take_over(connection, lanes=len(writers), run_id=self._run_id)
        if not cursors:
            return Position()
        for writer, cursor in zip(writers, cursors, strict=True):
            writer.cursor = cursor
        start = cursors[0]
        return Position(start.cursor, start.stream_time, recorded_at=start.stream_time)

    def read(self) -> None:
        """Every batch of the stream, handed over in order."""
        with TableWriter(
            self._warehouse, self._writer.target, self._ledger, run_id=self._run_id, mode=self._run_config.mode
        ) as watch:
            show_life = partial(self._show_life_sometimes, watch)
            room = Room(records=self._batch_records, bytes=BATCH_BYTES, pages=BATCH_PAGES)
            portions = self._stream.portions(self._position.after, room, while_waiting=show_life, give_way=self._lanes.give_way)
            try:
                for gathered in self._gather(portions, room, show_life):
                    listed = gathered[-1].pages[-1].page.listed
                    if listed is not None and listed.is_complete:
                        self._settle(self._lanes.finish())
                        self._mark_unseen(listed)
                    self._settle(self._lanes.commit(self._delivery(gathered)))
            finally:
                portions.close()
                # Also when the source failed: what was read before is good.
                self._settle(self._lanes.finish())

    def write(self, portion: Portion) -> None:
        """Pages that somebody else has read: committed when this returns. Raises WarehouseError; then they are not."""
        self._totals.add_portion(portion)
        self._settle(self._lanes.commit(self._delivery([portion])))
        self._settle(self._lanes.finish())
        self._show_life_sometimes(self._writer)

    def _gather(self, portions: Iterator[Portion], room: Room, show_life: Callable[[], None]) -> Iterator[list[Portion]]:
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
            show_life()
            stands_alone = portion.pages[-1].page.completes_a_listing
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
            portion.normalized.fetched or streamed.page.cursor not in (None, self._position.after)
            for portion in gathered
            for streamed in portion.pages
        ):
            yield gathered
        if failure is not None:
            raise failure

    def _delivery(self, gathered: list[Portion]) -> Delivery:
        pages = [streamed for portion in gathered for streamed in portion.pages]
        self._position, passed = self._position.behind(pages)
        return Delivery(
            pages=tuple(portion.normalized for portion in gathered),
            move=CursorMove(self._position.after, self._position.stream_time) if self._owns_cursor else None,
            # Where a source is asked for a window by itself, no position helps.
            positions=() if self._run_config.is_restricted or self._run_config.collection.observes_time else passed,
            cursor=self._position.after,
            listed=tuple(streamed.page.listed for streamed in pages if streamed.page.listed is not None),
        )

    def _mark_unseen(self, listed: Listed) -> None:
        """Tombstones for what the listing did not see, each batch by itself: whoever is killed here begins again, and finds the rest."""
        run_config, target, after, marked = self._run_config, self._writer.target, None, 0
        missing = [name for name in NEEDED if not target.is_stored(name)]
        if missing:
            note = f"what is listed no longer is not looked for in a table that has no columns for {', '.join(missing)}"
            self._totals.notes[f"{listed.sync_id}: {note}"] = None
            return
        normalize = Normalizer(run_config.collection)
        with TableWriter(
            self._warehouse,
            target,
            self._ledger,
            run_id=self._run_id,
            mode=run_config.mode,
            window_keys=run_config.partition_keys,
            window_starts=run_config.window_starts,
        ) as writer:
            while True:
                finding = partial(find_unseen, ledger=self._ledger, target=target, listed=listed, after=after)
                rows = writer.attempt(finding, f"looking for what a listing of {self._label!r} did not see")
                if not rows:
                    break
                page = normalize(write_tombstones(run_config.collection, listed, rows))
                self._totals.add_committed(writer.commit(writer.prepare(Delivery(pages=(page,)))))
                after, marked = rows[-1].id, marked + len(rows)
        if marked:
            self._totals.notes[f"{listed.sync_id}: {marked} records that are listed no longer"] = None

    def _settle(self, finished: Iterator[Finished]) -> None:
        for delivery in finished:
            for committed in delivery.parts:
                self._totals.add_committed(committed)
            if delivery.delivery.cursor is not None:
                self._stream.source.committed(delivery.delivery.cursor)

    def _show_life_sometimes(self, watch: TableWriter) -> None:
        self._report(
            Progress(self._label, self._totals.pages, self._totals.records, self._totals.seconds, self._position.stream_time)
        )
        if time.perf_counter() - self._last_heartbeat >= HEARTBEAT_SECONDS:
            self._last_heartbeat = time.perf_counter()
            watch.attempt(partial(self._show_life, has_ended=False), f"showing that the run of {self._label!r} is alive")

    def _show_life(self, connection: Connection, *, has_ended: bool) -> None:
        self._ledger.show_life(
            connection,
            self._run_id,
            mode=self._run_config.mode,
            seconds=self._totals.seconds,
            pages=self._totals.pages,
            records=self._totals.records,
            has_ended=has_ended,
        )

    def finish(self) -> SyncOutcome:
        """Settles what can be settled now, and sums up; one small transaction when nothing waits."""
        waiting = self._writer.attempt(partial(open_rejects, ledger=self._ledger), f"reading the rejects of {self._label!r}")
        if waiting.missing_parents:
            # Their parents may have come since: with this run, or with that of another collection.
            replay(
                self._warehouse,
                self._run_config.collection,
                self._ledger,
                run_id=self._run_id,
                is_wanted=lambda reject: reject.reject_class == "parent" and reject.run_id != self._run_id,
            )
        outcome = self._writer.attempt(self._finish, f"closing the run of {self._label!r}")
        self._create_indexes()
        return outcome

    def _create_indexes(self) -> None:
        """Those that are declared and missing; by now everything is committed, and the run has ended as far as the ledger knows."""
        collection = self._run_config.collection
        if collection.indexes:
            creating = partial(create_missing, table=collection.table, indexes=collection.indexes)
            self._writer.attempt(creating, f"creating the indexes of {self._label!r}")

    def _finish(self, connection: Connection) -> SyncOutcome:
        with connection.transaction():
            rejects = open_rejects(connection, self._ledger)
            if rejects.count and resolve_outdated(connection, self._ledger, self._writer.target):
                rejects = open_rejects(connection, self._ledger)
            self._show_life(connection, has_ended=True)
            drift = self._totals.sample.compare(connection, self._ledger)
            if self._totals.records:
                prune(connection, self._ledger)
            record = self._ledger.find_table(connection)
        return self._totals.outcome(
            rows=record.row_count if record else 0,
            cursor=self._position.after,
            lag_seconds=self._lag_seconds(),
            rejects=rejects,
            drift=drift,
        )

    def _lag_seconds(self) -> float:
        if self._stream.reached_end or self._position.stream_time is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self._position.stream_time).total_seconds())
