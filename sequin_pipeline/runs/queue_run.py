"""This module carries out one run of a queue.

Every delivery is taken apart by collection, each share committed to its table, and then acknowledged. It stands beside
collection_run.py, which reads one collection, and is made of the same parts: what a collection's run prepares, writes and leaves
behind is decided there. What is decided here: when a delivery counts as stored, and when the run ends. No Dagster.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from sequin_pipeline import threads
from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.ledger.undeclared import keep_undeclared
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse, attempt
from sequin_pipeline.read.by_collection import shares_of
from sequin_pipeline.read.stream import Portion, RecordStream, RunConfig, normalized_portion
from sequin_pipeline.runs.collection_run import CollectionRun
from sequin_pipeline.runs.outcome import Progress, SyncOutcome
from sequin_pipeline.sources import Page, PageCost, ReadRequest, Source

logger = logging.getLogger("sequin_pipeline.drain")

CLOSING_SECONDS = 3.0
"""A queue that has nothing is waited for a second; one that does not answer must not hold up whoever interrupts."""


@dataclass(frozen=True)
class DrainLimits:
    """This value says how much one run takes before it leaves the rest to the next, looked at between deliveries.

    None means all that waits when it begins.
    """

    max_records: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class DrainOutcome:
    """This value says what a run of a queue did, by label of each declared collection.

    It also counts how many records wait undeclared, by their label.
    """

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
    """Writes every collection's share of each delivery of a queue.

    It ends when the queue is empty, or gives only what came in after the run had begun, or `limits` are reached. A delivery is
    acknowledged once all its shares are committed and its undeclared records are kept. When anything fails before that, it is
    given back whole: what of it was committed already is known by its version when it comes again. Holds one connection, and now
    and then a second, however many collections there are. Raises SourceError and WarehouseError; too many rejects are told by
    `check_rejects` of each outcome.
    """
    with ExitStack() as stack:
        # Shares are committed one after the other.
        shared = stack.enter_context(Session(warehouse))
        parts = {}
        for collection in collections:
            stream = RecordStream(
                RunConfig(collection, "live", window=None, partition_keys=(), window_starts=(), adopt=adopt), source
            )
            # One lane: a share is far smaller than what a second connection would be worth.
            run = stack.enter_context(CollectionRun(stream, [shared], run_id=run_id, schema=schema, report=report))
            parts[collection.id] = _Part(run, collection)
        queue = _Queue(parts, warehouse, run_id=run_id, schema=schema)
        reached_end = queue.read(source, limits, clock=clock)
        outcomes = {part.collection.label: part.finish(queue.cost, reached_end=reached_end) for part in parts.values()}
    for label, count in sorted(queue.undeclared.items()):
        logger.warning("%d records of %s wait as rejects, since no defs.yaml declares it", count, label)
    return DrainOutcome(outcomes, dict(queue.undeclared), reached_end)


class _Part:
    """A part is one declared collection of the queue, under way."""

    def __init__(self, run: CollectionRun, collection: Collection) -> None:
        self.collection = collection
        self._run = run
        self._normalizer = Normalizer(collection)

    def read(self, share: Page) -> Portion:
        """Returns the share with its frame; the one before has been written."""
        return normalized_portion(self._run.complete(share), self._normalizer)

    def write(self, share: Portion) -> None:
        """Writes the share, which is committed when this returns."""
        self._run.write(share)

    def finish(self, cost: PageCost, *, reached_end: bool) -> SyncOutcome:
        """Returns what became of the collection; what the deliveries cost holds for the run, and stands with each."""
        outcome = self._run.finish(reached_end=reached_end)
        return replace(
            outcome,
            requests=cost.requests,
            bytes=cost.bytes,
            retries=cost.retries,
            rate_limit_seconds=cost.rate_limit_seconds,
            seconds={**outcome.seconds, "fetch": cost.seconds},
            lanes=None,
        )


@dataclass(frozen=True)
class _Taken:
    """This value is a delivery by collection.

    It holds the shares of those that are declared, with their frames, and those of the others.
    """

    shares: Sequence[tuple[_Part, Portion]]
    undeclared: Mapping[str | None, Page]


class _Deliveries:
    """This class asks a queue for what it gives, in order.

    `ask_ahead` has it asked for the next delivery while the last one is being stored. `close` gives back what was not
    acknowledged.
    """

    def __init__(self, source: Source, request: ReadRequest) -> None:
        self._source = source
        self._request = request
        self._pages = source.pages(request)
        self._ahead: Future[Page | None] | None = None
        self._count = 0
        self._gives_two = True

    def __iter__(self) -> Iterator[Page]:
        while (delivery := self._next()) is not None:
            self._count += 1
            yield delivery

    def _next(self) -> Page | None:
        if self._ahead is None:
            return next(self._pages, None)
        ahead, self._ahead = self._ahead, None
        delivery = ahead.result()
        if delivery is None:
            # A consumer allows only so many messages to be unacknowledged: while some were, that it gave none says nothing.
            self._pages = self._source.pages(self._request)
            delivery = next(self._pages, None)
            self._gives_two = delivery is None
        return delivery

    def ask_ahead(self) -> None:
        """Asks ahead only a queue that has given two deliveries: most runs find one, and what they hold no other can have."""
        if self._count > 1 and self._gives_two:
            self._ahead = threads.start(partial(next, self._pages, None), "sequin-delivery-ahead")

    def close(self) -> None:
        """Waits for a request under way, but not for long: what it delivers comes again by itself."""
        if self._ahead is not None and not wait([self._ahead], timeout=CLOSING_SECONDS).done:
            logger.warning("a request to the queue is still under way: what it and the last one delivered comes again later")
            return
        if isinstance(self._pages, Generator):
            # Now, and not when its memory is collected.
            self._pages.close()


class _Queue:
    """This class holds the deliveries of one run, and their sums."""

    def __init__(self, parts: Mapping[str, _Part], warehouse: Warehouse, *, run_id: str, schema: str) -> None:
        self.cost = PageCost(requests=0)
        self.undeclared: Counter[str] = Counter()
        self._parts = parts
        self._warehouse = warehouse
        self._run_id = run_id
        self._schema = schema
        self.records = 0

    def read(self, source: Source, limits: DrainLimits, *, clock: Callable[[], float]) -> bool:
        """Returns True when the queue came to its end, False when the limits did."""
        started, began_at = clock(), None
        with closing(_Deliveries(source, ReadRequest(frozenset(self._parts)))) as deliveries:
            for delivery in deliveries:
                began_at = began_at or delivery.received_at
                taken = self._take_apart(delivery)
                # What comes now is the next run's: a queue into which something is always coming would never be empty.
                is_caught_up = not taken.undeclared and all(share.is_news(began_at) for _, share in taken.shares)
                if not is_caught_up and not self._has_reached(limits):
                    deliveries.ask_ahead()
                self._store(taken)
                if delivery.cursor is not None:
                    source.committed(delivery.cursor)
                if is_caught_up:
                    return True
                if self._has_reached(limits) or (limits.max_seconds is not None and clock() - started >= limits.max_seconds):
                    return False
        return True

    def _has_reached(self, limits: DrainLimits) -> bool:
        return limits.max_records is not None and self.records >= limits.max_records

    def _take_apart(self, delivery: Page) -> _Taken:
        self.cost += delivery.cost
        undeclared, shares = {}, []
        for collection_id, share in shares_of(delivery).items():
            part = self._parts.get(collection_id or "")
            if part is None:
                undeclared[collection_id] = share
            else:
                shares.append((part, part.read(share)))
        self.records += sum(share.normalized.fetched for _, share in shares)
        return _Taken(shares, undeclared)

    def _store(self, taken: _Taken) -> None:
        """Stores everything that was delivered: as rows, as rejects, or as records that wait undeclared.

        All of it is committed when this returns.
        """
        for part, share in taken.shares:
            part.write(share)
        if taken.undeclared:
            kept = attempt(partial(self._keep, taken.undeclared), "keeping records of collections that are not declared")
            self.undeclared.update(kept)
            self.records += sum(kept.values())

    def _keep(self, undeclared: Mapping[str | None, Page]) -> dict[str, int]:
        with self._warehouse.connect() as connection:
            migrate(connection, self._schema)
            return keep_undeclared(connection, undeclared, run_id=self._run_id, schema=self._schema)
