"""One run of one collection: pulls its stream page by page and commits batch by batch, until the stream ends.

What is decided here: where reading starts, what makes a batch, what a run leaves behind. No Dagster.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from sequin_pipeline.drift import Drift, Sample
from sequin_pipeline.errors import LedgerRefused, TooManyRejects
from sequin_pipeline.ledger import HEARTBEAT_SECONDS, POSITION_SPACING, Counts, Ledger, LiveCursor, prune
from sequin_pipeline.ledger_schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.refill import declare_columns, refill
from sequin_pipeline.rejects import open_rejects, resolve_outdated
from sequin_pipeline.replay import replay
from sequin_pipeline.stream import RecordStream, StreamedPage
from sequin_pipeline.tables import prepare_table
from sequin_pipeline.target import collection_target
from sequin_pipeline.versions import sweep_marked
from sequin_pipeline.warehouse import Connection, Warehouse
from sequin_pipeline.windows import SLACK
from sequin_pipeline.writer import Committed, CursorMove, Delivery, TableWriter

logger = logging.getLogger("sequin_pipeline.sync")

BATCH_RECORDS = 5_000
BATCH_BYTES = 16 * 1024 * 1024
"""Between 1,000 and 200,000 rows a batch costs the same per row; small ones lose less to a crash and hold less memory."""

RETENTION = timedelta(days=90)


@dataclass(frozen=True)
class Progress:
    """How far a run has come; `stream_time` is the greatest `inserted_at` committed so far."""

    label: str
    pages: int
    records: int
    seconds: float
    stream_time: datetime | None = None


@dataclass(frozen=True)
class SyncOutcome:
    """What a run did, for the materialization's metadata and the checks.

    `counts_by_window` is keyed by partition. `outside` were records outside the asked windows, passed over. `swept` are rows that were
    only marked as deleted before the collection was told to remove them. `lag_seconds`: 0 at the end of the stream, else the age of the
    last record read. `rows` is the table's size by the ledger's running total. `missing_parents` are those of the rejected records that
    wait for a row which a foreign key points to.
    """

    counts: Counts
    counts_by_window: Mapping[str, Counts]
    rows: int
    cursor: str | None
    lag_seconds: float
    pages: int
    requests: int
    bytes: int
    retries: int
    rate_limit_seconds: float
    wal_bytes: int
    outside: int
    swept: int
    refilled: int
    seconds: Mapping[str, float]
    open_rejects: int
    missing_parents: int
    reject_examples: tuple[tuple[str, str], ...]
    required_missing: Mapping[str, int] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)


def run_sync(
    stream: RecordStream,
    warehouse: Warehouse,
    *,
    run_id: str,
    schema: str = DEFAULT_SCHEMA,
    batch_records: int = BATCH_RECORDS,
    report: Callable[[Progress], None] = lambda progress: None,
) -> SyncOutcome:
    """Reads the stream to its end and writes it; `stream.outcome` is set to what is returned.

    Raises SourceError and WarehouseError, after which the next run goes on at the first batch that was not committed, and
    TooManyRejects after everything good has been committed.
    """
    plan = stream.plan
    target = collection_target(plan.collection)
    ledger = Ledger(str(target.table), target.label, schema)
    with TableWriter(
        warehouse,
        target,
        ledger,
        run_id=run_id,
        mode=plan.mode,
        window_keys=plan.partition_keys,
        window_starts=plan.window_starts,
    ) as writer:
        run = _Run(stream, writer, warehouse, run_id=run_id, batch_records=batch_records, report=report)
        run.prepare()
        run.read()
        stream.outcome = run.finish()
    _check_rejects(stream, stream.outcome)
    return stream.outcome


def _check_rejects(stream: RecordStream, outcome: SyncOutcome) -> None:
    collection = stream.plan.collection
    rejected, fetched = outcome.counts.rejected - outcome.missing_parents, outcome.counts.fetched
    is_over_limit = rejected > collection.reject_limit_records and rejected > collection.reject_limit_share * fetched
    if is_over_limit or (rejected and outcome.counts.rejected == fetched):
        record_id, reason = outcome.reject_examples[0] if outcome.reject_examples else ("", "")
        raise TooManyRejects(
            f"{rejected} of {fetched} records of {collection.label!r} were rejected, everything good has been committed; one of them is "
            f"{record_id!r}: {reason}. `sequin-pipeline rejects list {collection.label}` shows them; mend the records or the declaration"
        )


class _Run:
    """The state of one run: its place in the stream and its sums."""

    def __init__(
        self,
        stream: RecordStream,
        writer: TableWriter,
        warehouse: Warehouse,
        *,
        run_id: str,
        batch_records: int,
        report: Callable[[Progress], None],
    ) -> None:
        self._stream = stream
        self._batch_records = batch_records
        self._warehouse = warehouse
        self._plan = stream.plan
        self._writer = writer
        self._ledger = writer.ledger
        self._run_id = run_id
        self._report = report
        self._started = time.perf_counter()
        self._last_heartbeat = self._started
        self._found: LiveCursor | None = None
        self._after: str | None = None
        self._stream_time: datetime | None = None
        self._last_position_at: datetime | None = None
        self._counts: dict[str, Counts] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._sums: Counter[str] = Counter()
        self._required_missing: Counter[str] = Counter()
        self._rate_limit_seconds = 0.0
        self._sample = Sample()

    @property
    def _is_live(self) -> bool:
        return self._plan.mode == "live"

    def prepare(self) -> None:
        """Ledger, table, columns, and the place to start from; nothing has been requested of the source yet."""
        label = self._plan.collection.label
        self._writer.attempt(self._prepare_table, f"preparing table {str(self._writer.target.table)!r} of {label!r}")
        self._sums["refilled"] = refill(self._warehouse, self._ledger, self._plan.collection, run_id=self._run_id)
        self._writer.attempt(self._find_start, f"reading the ledger of {label!r}")

    def _prepare_table(self, connection: Connection) -> None:
        target = self._writer.target
        migrate(connection, self._ledger.schema)
        preparation = prepare_table(
            connection,
            target,
            self._ledger,
            source=self._stream.source.identity,
            adopt=self._plan.adopt,
            full_refresh=self._plan.full_refresh,
        )
        declare_columns(connection, self._ledger, self._plan.collection, preparation)
        was_marking = preparation.record is not None and preparation.record.on_delete != target.on_delete
        if was_marking and target.on_delete == "remove":
            self._sums["swept"] += self._sweep(connection)
        if was_marking:
            self._ledger.set_on_delete(connection, target.on_delete)

    def _sweep(self, connection: Connection) -> int:
        swept = 0
        while True:
            with connection.transaction(), connection.cursor() as cursor:
                removed = sweep_marked(cursor, self._writer.target, versions=self._ledger.table("versions"))
                self._ledger.add_rows(connection, -removed)
            swept += removed
            if not removed:
                return swept

    def _find_start(self, connection: Connection) -> None:
        if self._is_live:
            if self._plan.full_refresh:
                self._ledger.forget_cursor(connection)
            cursors = self._ledger.live_cursors(connection)
            if len(cursors) > 1:
                raise LedgerRefused(
                    f"the live cursor of {self._plan.collection.label!r} has {len(cursors)} lanes, and this pipeline reads with one: "
                    "upgrade this installation"
                )
            if cursors:
                self._found = cursors[0]
                self._after, self._stream_time = self._found.cursor, self._found.stream_time
        elif self._plan.window is not None and self._plan.window.start is not None and not self._plan.full_refresh:
            position = self._ledger.position_before(connection, self._plan.window.start - SLACK)
            if position is not None:
                self._stream_time, self._after = position
        self._last_position_at = self._stream_time

    def read(self) -> None:
        """Every batch of the stream, each committed before the next is gathered."""
        pages = self._stream.pages(self._after, while_waiting=self._show_life_sometimes)
        try:
            for gathered in self._gather(pages):
                self._commit(gathered)
        finally:
            pages.close()

    def _gather(self, pages: Iterator[StreamedPage]) -> Iterator[list[StreamedPage]]:
        gathered: list[StreamedPage] = []
        records = size = 0
        waited_since = time.perf_counter()
        for streamed in pages:
            self._seconds["wait"] += time.perf_counter() - waited_since
            self._add_cost(streamed)
            gathered.append(streamed)
            records += streamed.normalized.fetched
            size += len(streamed.page.records)
            if records >= self._batch_records or size >= BATCH_BYTES:
                yield gathered
                gathered, records, size = [], 0, 0
            waited_since = time.perf_counter()
        if any(streamed.normalized.fetched or streamed.page.cursor not in (None, self._after) for streamed in gathered):
            yield gathered

    def _add_cost(self, streamed: StreamedPage) -> None:
        cost = streamed.page.cost
        self._sums += Counter(
            pages=1,
            requests=cost.requests,
            bytes=cost.bytes,
            retries=cost.retries,
            outside=streamed.outside,
            records=streamed.normalized.fetched,
        )
        self._rate_limit_seconds += cost.rate_limit_seconds
        self._seconds["fetch"] += cost.seconds
        self._seconds["normalize"] += streamed.normalize_seconds
        self._sample.add(streamed.normalized)
        self._show_life_sometimes()

    def _tell(self) -> None:
        self._report(
            Progress(
                self._plan.collection.label,
                pages=self._sums["pages"],
                records=self._sums["records"],
                seconds=time.perf_counter() - self._started,
                stream_time=self._stream_time,
            )
        )

    def _commit(self, gathered: list[StreamedPage]) -> None:
        positions = self._advance(gathered)
        move = CursorMove(self._found, self._after, self._stream_time) if self._is_live else None
        committed = self._writer.commit(
            Delivery(
                pages=tuple(streamed.normalized for streamed in gathered),
                move=move,
                positions=() if self._plan.is_restricted else positions,
            )
        )
        self._add(committed)
        if self._is_live:
            self._found = committed.cursor
        if self._after is not None:
            self._stream.source.committed(self._after)

    def _advance(self, gathered: list[StreamedPage]) -> tuple[tuple[datetime, str], ...]:
        """Moves to the end of these pages; returns the positions passed, at most one a minute of the stream."""
        positions = []
        for streamed in gathered:
            if streamed.inserted_at_max is not None:
                self._stream_time = max(self._stream_time or streamed.inserted_at_max, streamed.inserted_at_max)
            if streamed.page.cursor is None:
                continue
            self._after = streamed.page.cursor
            if self._stream_time is None:
                continue
            if self._last_position_at is None or self._stream_time >= self._last_position_at + POSITION_SPACING:
                positions.append((self._stream_time, self._after))
                self._last_position_at = self._stream_time
        return tuple(positions)

    def _add(self, committed: Committed) -> None:
        for key, counts in committed.counts.items():
            self._counts[key] = self._counts.get(key, Counts()) + counts
        for stage, seconds in committed.seconds.items():
            self._seconds[stage] += seconds
        self._sums["wal_bytes"] += committed.wal_bytes
        self._sums["missing_parents"] += sum(reject.reject_class == "parent" for reject in committed.rejects)
        self._required_missing.update(column for reject in committed.rejects for column in reject.missing)

    def _show_life_sometimes(self) -> None:
        self._tell()
        if time.perf_counter() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.perf_counter()
        self._writer.attempt(lambda connection: self._show_life(connection, has_ended=False), "showing a sign of life")

    def _show_life(self, connection: Connection, *, has_ended: bool) -> None:
        self._ledger.show_life(
            connection,
            self._run_id,
            mode=self._plan.mode,
            seconds=time.perf_counter() - self._started,
            pages=self._sums["pages"],
            records=self._sums["records"],
            has_ended=has_ended,
        )

    def finish(self) -> SyncOutcome:
        """Settles what can be settled now, and sums up; one small transaction when nothing waits."""
        label = self._plan.collection.label
        waiting = self._writer.attempt(partial(open_rejects, ledger=self._ledger), f"reading the rejects of {label!r}")
        if waiting.missing_parents:
            # Their parents may have come since: with this run, or with that of another collection.
            replay(
                self._warehouse,
                self._plan.collection,
                self._ledger,
                run_id=self._run_id,
                is_wanted=lambda reject: reject.reject_class == "parent" and reject.run_id != self._run_id,
            )
        return self._writer.attempt(self._finish, f"closing the run of {self._plan.collection.label!r}")

    def _finish(self, connection: Connection) -> SyncOutcome:
        with connection.transaction():
            rejects = open_rejects(connection, self._ledger)
            if rejects.count and resolve_outdated(connection, self._ledger, self._writer.target):
                rejects = open_rejects(connection, self._ledger)
            self._show_life(connection, has_ended=True)
            drift = self._sample.compare(connection, self._ledger)
            if self._sums["records"]:
                prune(connection, RETENTION, schema=self._ledger.schema)
            record = self._ledger.find_table(connection)
        total = sum(self._counts.values(), Counts())
        return SyncOutcome(
            counts=total,
            counts_by_window=dict(self._counts),
            rows=record.row_count if record else 0,
            cursor=self._after,
            lag_seconds=self._lag_seconds(),
            pages=self._sums["pages"],
            requests=self._sums["requests"],
            bytes=self._sums["bytes"],
            retries=self._sums["retries"],
            rate_limit_seconds=self._rate_limit_seconds,
            wal_bytes=self._sums["wal_bytes"],
            outside=self._sums["outside"],
            swept=self._sums["swept"],
            refilled=self._sums["refilled"],
            seconds={**self._seconds, "total": time.perf_counter() - self._started},
            open_rejects=rejects.count,
            missing_parents=self._sums["missing_parents"],
            reject_examples=rejects.examples,
            required_missing=dict(self._required_missing),
            drift=drift,
        )

    def _lag_seconds(self) -> float:
        if self._stream.reached_end or self._stream_time is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self._stream_time).total_seconds())
