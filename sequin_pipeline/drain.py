"""One run of a queue: every delivery is taken apart by collection, each share committed to its table, and then acknowledged.

Beside sync.py, which reads one collection, and made of the same parts: what a collection's run prepares, writes and leaves behind is
decided there. What is decided here: when a delivery counts as stored, and when the run ends. No Dagster.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sequin_pipeline.buckets import Lane
from sequin_pipeline.catalog import Collection
from sequin_pipeline.lanes import Lanes
from sequin_pipeline.ledger import Ledger
from sequin_pipeline.ledger_schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.normalize import Normalizer
from sequin_pipeline.outcome import Progress, SyncOutcome
from sequin_pipeline.shares import shares_of
from sequin_pipeline.sources import Page, PageCost, ReadRequest, Source
from sequin_pipeline.stream import ReadPlan, RecordStream, StreamedPage, is_news, normalized_page
from sequin_pipeline.sync import BATCH_RECORDS, CollectionRun
from sequin_pipeline.target import collection_target
from sequin_pipeline.undeclared import keep_undeclared
from sequin_pipeline.warehouse import Warehouse, attempt
from sequin_pipeline.writer import TableWriter

logger = logging.getLogger("sequin_pipeline.drain")


@dataclass(frozen=True)
class DrainLimits:
    """How much one run takes before it leaves the rest to the next, looked at between deliveries; None: all that waits when it begins."""

    max_records: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class DrainOutcome:
    """What a run of a queue did: by label of each declared collection, and how many records wait undeclared, by their label."""

    collections: Mapping[str, SyncOutcome]
    undeclared: Mapping[str, int]
    reached_end: bool


def drain(
    source: Source,
    collections: Sequence[Collection],
    warehouse: Warehouse,
    *,
    run_id: str,
    schema: str = DEFAULT_SCHEMA,
    limits: DrainLimits = DrainLimits(),
    adopt: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> DrainOutcome:
    """Writes every collection's share of each delivery of a queue, until it is empty, or gives only what came in after the run had begun,
    or `limits` are reached.

    A delivery is acknowledged once all its shares are committed and its undeclared records are kept. When anything fails before
    that, it is given back whole: what of it was committed already is known by its version when it comes again. Holds one connection
    for each collection. Raises SourceError and WarehouseError; too many rejects are told by `check_rejects` of each outcome.
    """
    with ExitStack() as stack:
        parts = {
            collection.id: _prepared(
                stack, source, collection, warehouse, run_id=run_id, schema=schema, adopt=adopt, report=report
            )
            for collection in collections
        }
        queue = _Queue(parts, warehouse, run_id=run_id, schema=schema)
        reached_end = queue.read(source, limits, clock=clock)
        outcomes = {part.collection.label: part.finish(queue.cost, reached_end=reached_end) for part in parts.values()}
    for label, count in sorted(queue.undeclared.items()):
        logger.warning("%d records of %s wait as rejects, since no defs.yaml declares it", count, label)
    return DrainOutcome(outcomes, dict(queue.undeclared), reached_end)


class _Part:
    """One declared collection of the queue, under way."""

    def __init__(self, run: CollectionRun, stream: RecordStream) -> None:
        self.collection = stream.plan.collection
        self._run = run
        self._stream = stream
        self._normalize = Normalizer(self.collection)

    def write(self, share: Page) -> StreamedPage:
        """The share with its frame; it is committed when this returns."""
        streamed = normalized_page(share, self._normalize)
        self._run.write([streamed])
        return streamed

    def finish(self, cost: PageCost, *, reached_end: bool) -> SyncOutcome:
        """What became of the collection; what the deliveries cost holds for the run, and stands with each."""
        self._stream.reached_end = reached_end
        outcome = self._run.finish()
        return replace(
            outcome,
            requests=cost.requests,
            bytes=cost.bytes,
            retries=cost.retries,
            rate_limit_seconds=cost.rate_limit_seconds,
            seconds={**outcome.seconds, "fetch": cost.seconds},
        )


def _prepared(
    stack: ExitStack,
    source: Source,
    collection: Collection,
    warehouse: Warehouse,
    *,
    run_id: str,
    schema: str,
    adopt: bool,
    report: Callable[[Progress], None],
) -> _Part:
    plan = ReadPlan(collection, mode="live", window=None, partition_keys=(), window_starts=(), adopt=adopt)
    target = collection_target(collection)
    ledger = Ledger(str(target.table), target.label, schema)
    stream = RecordStream(plan, source)
    # A share is far smaller than what a second connection would be worth.
    writer = TableWriter(warehouse, target, ledger, run_id=run_id, mode=plan.mode, lane=Lane())
    lanes = stack.enter_context(Lanes([writer]))
    run = CollectionRun(stream, warehouse, ledger, lanes, run_id=run_id, batch_records=BATCH_RECORDS, report=report)
    run.prepare()
    return _Part(run, stream)


class _Queue:
    """The deliveries of one run, and their sums."""

    def __init__(self, parts: Mapping[str, _Part], warehouse: Warehouse, *, run_id: str, schema: str) -> None:
        self.cost = PageCost(requests=0)
        self.undeclared: Counter[str] = Counter()
        self._parts = parts
        self._warehouse = warehouse
        self._run_id = run_id
        self._schema = schema
        self.records = 0

    def read(self, source: Source, limits: DrainLimits, *, clock: Callable[[], float]) -> bool:
        """True when the queue came to its end, False when the limits did."""
        started, began_at = clock(), None
        # Not fetched ahead: what one run holds unacknowledged, no other can have, and a consumer gives only so much of it.
        deliveries = source.pages(ReadRequest(frozenset(self._parts)))
        try:
            for delivery in deliveries:
                began_at = began_at or delivery.received_at
                is_caught_up = self._store(delivery, began_at)
                if delivery.cursor is not None:
                    source.committed(delivery.cursor)
                if is_caught_up:
                    # What comes now is the next run's: a queue into which something is always coming would never be empty.
                    return True
                is_enough = limits.max_records is not None and self.records >= limits.max_records
                if is_enough or (limits.max_seconds is not None and clock() - started >= limits.max_seconds):
                    return False
        finally:
            if isinstance(deliveries, Generator):
                # Now, and not when its memory is collected: closing gives back what was not acknowledged.
                deliveries.close()
        return True

    def _store(self, delivery: Page, began_at: datetime) -> bool:
        """Everything that was delivered is committed when this returns: as rows, as rejects, or as records that wait undeclared.

        True where all of it came in after the run had begun.
        """
        self.cost = _sum(self.cost, delivery.cost)
        undeclared, written = {}, []
        for collection_id, share in shares_of(delivery).items():
            part = self._parts.get(collection_id or "")
            if part is None:
                undeclared[collection_id] = share
            else:
                written.append(part.write(share))
                self.records += written[-1].normalized.fetched
        if undeclared:
            kept = attempt(partial(self._keep, undeclared), "keeping records of collections that are not declared")
            self.undeclared.update(kept)
            self.records += sum(kept.values())
        return not undeclared and all(is_news(streamed, began_at) for streamed in written)

    def _keep(self, undeclared: Mapping[str | None, Page]) -> dict[str, int]:
        with self._warehouse.connect() as connection:
            migrate(connection, self._schema)
            return keep_undeclared(connection, undeclared, run_id=self._run_id, schema=self._schema)


def _sum(one: PageCost, other: PageCost) -> PageCost:
    return PageCost(
        requests=one.requests + other.requests,
        bytes=one.bytes + other.bytes,
        retries=one.retries + other.retries,
        rate_limit_seconds=one.rate_limit_seconds + other.rate_limit_seconds,
        seconds=one.seconds + other.seconds,
    )
