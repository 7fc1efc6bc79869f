"""Worlds in which a history takes place: a source that changes and fails at random, and the fold of what runs were given of it."""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.reads import Read, RestApi
from sequin_pipeline.runs.queue_run import DrainLimits
from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_app
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources import Page, Source
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.rest.source import rest_source
from sequin_pipeline.sources.stripe.source import StripeSource
from tests.e2e.project import SandboxControls
from tests.faults.landing import THING, Landing, empty_fold, lines
from tests.faults.places import PRICE, WELL_AFTERWARDS_SECONDS, changed, compact, in_order
from tests.faults.watched_queue import WatchedQueue, stored_in
from tests.soak.growing import GrowingStream, is_bad
from tests.sources.reading import StandingTime, source
from tests.sources.rest.reading import CURSOR, LIST, PAGINATORS
from tests.sources.stripe.fake import FakeStripe, fake_stripe
from tests.sources.stripe.shop import ACCOUNT, KEY
from tests.sources.stripe.syncing import PLAIN
from tests.support.between import Between
from tests.support.fold import Fold, Record
from tests.support.queues import queue_of
from tests.support.reading import query
from tests.support.rest_api import FakeRest, fake_rest

IDS = 5
"""Few, so that versions meet."""

PATIENCE = RetryPolicy(budget_seconds=20.0)

FAULTS = ("status:500", "status:429,retry-after=1", "reset-before", "cut:30", "html", "json-cut", "other-object", "broken-gzip")


OBSERVED = replace(THING, observes_time=True)
NEWEST_FIRST = replace(LIST, params={}, is_ascending=False, is_descending=True)
LISTED_ONLY = replace(LIST, params={}, is_ascending=False, version=None, paginator=CURSOR)


class Stopped(BaseException):
    """The process was killed here."""


@dataclass
class Mortal(Between):
    """Dies when commit number `dies_at` has been made, before the source is told of it."""

    dies_at: int | None = None

    def committed(self, cursor: str) -> None:
        self.commits.append(cursor)
        if len(self.commits) == self.dies_at:
            raise Stopped
        self.source.committed(cursor)

    def kept(self) -> list[Page]:
        """The pages that have been committed: for each commit up to a page with its cursor, with which a batch can have ended."""
        end = 0
        for commit in self.commits:
            found = [number for number, page in enumerate(self.given, 1) if number > end and page.cursor == commit]
            end = next((number for number in found if _ends_a_batch(self.given[number - 1])), found[-1])
        return self.given[:end]


def _ends_a_batch(page: Page) -> bool:
    return bool(json.loads(page.records)) or (page.listed is not None and page.listed.is_complete)


@dataclass
class World(ABC):
    """A source with its server, and the table that runs fill. `fold` is kept up by `deliver`, `cursor` is the live one."""

    landing: Landing
    chance: Random
    time: StandingTime
    fold: Fold
    cursor: str | None = None

    @abstractmethod
    def change(self) -> None:
        """Something happens at the source."""

    @abstractmethod
    def set_faults(self, *faults: str) -> None: ...

    @abstractmethod
    def source(self) -> Source: ...

    @abstractmethod
    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        """What the page must hold, by what is known of the source, and whether each can be stored."""

    def run(self, read: Mortal, *, batch_records: int = 1) -> None:
        """One run. Each delivery of a queue is a batch, and so is each page where it matters what else a batch holds."""
        self.landing.sync(read, warehouse=self.warehouse(), batch_records=batch_records)

    def warehouse(self) -> Warehouse:
        return Warehouse(self.landing.url, sleep=lambda seconds: None)

    def deliver(self, pages: Sequence[Page]) -> None:
        """These have been committed."""
        for page in pages:
            records = self.records_of(page)
            good = [record for record, is_good in records if is_good]
            self.fold.deliver_batch(good, rejected=())
            self.landing.deliver(*good, rejected=[record for record, is_good in records if not is_good])
            self.cursor = page.cursor or self.cursor

    def check(self, *, has_ended: bool) -> None:
        """The table is the fold, counts are conserved, and the cursor stands behind what was committed. What an older version or a
        newer one makes of a reject shows when a run has ended."""
        self.landing.check_rows(self.fold)
        self.landing.check_counts(rows=len(self.fold.rows))
        assert self.landing.cursors() - {None} == {self.cursor} - {None}
        if has_ended:
            self.check_rejects()

    def check_rejects(self) -> None:
        self.landing.check_rejects(self.fold)

    def let_time_pass(self) -> None:
        """As much as it takes until whatever can be seen is seen by the next run; for most sources none."""
        self.set_faults()

    @abstractmethod
    def is_at_rest(self) -> bool:
        """Has everything been delivered that will ever be?"""

    @abstractmethod
    def check_truth(self) -> None:
        """At rest: nothing that the source has is missing."""


@dataclass
class RecordsWorld(World):
    """The records API: its pages."""

    api: SandboxControls = field(kw_only=True)
    growing: GrowingStream = field(kw_only=True)
    sent: list[Record] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def change(self) -> None:
        added = [self.as_sent(one) for one in self.growing.grow(self.chance.randint(1, 6))]
        self.sent += added
        self.api.append(lines(*added))

    def as_sent(self, drawn: Record) -> Record:
        return drawn

    def set_faults(self, *faults: str) -> None:
        self.api.set_faults(*faults)

    def source(self) -> Source:
        return source(self.api.url, token=None, time=self.time, retry=PATIENCE)

    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        found = json.loads(page.records)
        assert all(record in self.sent for record in found)
        self.seen.update(lines(*found))
        return [(record, not is_bad(record)) for record in found]

    def is_at_rest(self) -> bool:
        return set(lines(*self.sent)) == self.seen

    def check_truth(self) -> None:
        assert self.fold.rows == _fold_of(self.sent).rows


@dataclass
class QueueWorld(RecordsWorld):
    """One of the queues; what is lost on the way comes again before the next run."""

    kind: str = field(kw_only=True)
    watch: WatchedQueue = field(kw_only=True)

    def as_sent(self, drawn: Record) -> Record:
        """Sequin Stream sends the last values with each deletion."""
        is_bare = self.kind == "stream" and drawn["data"] is None
        return {**drawn, "data": {"status": "gone", "amount": 0}} if is_bare else drawn

    def source(self) -> Source:
        self.time.seconds += WELL_AFTERWARDS_SECONDS
        return queue_of(self.kind, self.api.url, options=self.time.options(retry=PATIENCE))

    def run(self, read: Mortal, *, batch_records: int = 1) -> None:
        """Ends with the last message that is known of, since waiting for one more takes real time, or before."""
        waiting = max(1, len(self.sent) - len(self.seen))
        limits = DrainLimits(max_records=self.chance.choice((waiting, waiting, self.chance.randint(1, waiting))))
        self.landing.drain(read, warehouse=self.warehouse(), limits=limits)

    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        found = json.loads(page.records)
        if self.kind == "consumer":
            expected = [(record, self.sent.index(record)) for record in found]
        else:
            positions = [record["updated_idx"] // (64 * 4096) for record in found]
            expected = [(changed(self.sent[place - 1], position=place), place) for place in positions]
            assert found == [record for record, _ in expected]
        self.seen.update(str(place).encode() for _, place in expected)
        return [(record, not is_bad(record)) for record, _ in expected]

    def deliver(self, pages: Sequence[Page]) -> None:
        super().deliver(pages)
        self.cursor = None

    def check(self, *, has_ended: bool) -> None:
        super().check(has_ended=has_ended)
        assert self.watch.too_early == []

    def is_at_rest(self) -> bool:
        return len({json.dumps(one) for one in self.sent}) <= len(self.seen)

    def check_truth(self) -> None:
        """In any order, but for what a bare tombstone keeps, which is the object that came before it."""
        if self.kind == "stream":
            assert self.fold.rows == _fold_of(_changes(self.sent)).rows
            return
        truth = {record_id: (row.version, row.is_deleted) for record_id, row in _fold_of(self.sent).rows.items()}
        assert {record_id: (row.version, row.is_deleted) for record_id, row in self.fold.rows.items()} == truth


@dataclass
class ListingWorld(World):
    """A source that lists everything now and then, to find what is gone."""

    listed: dict[int, set[str]] = field(default_factory=dict)

    def deliver(self, pages: Sequence[Page]) -> None:
        """What a complete listing has not shown is gone."""
        for page in pages:
            if page.listed and page.listed.is_complete:
                self._sweep(page.listed.version)
            elif page.listed:
                self.listed.setdefault(page.listed.version, set()).update(page.listed.ids)
            super().deliver([page])

    def counts_as_gone(self, record_id: str, seen: set[str]) -> bool:
        """Is what a listing did not show deleted, or may it have been left out?"""
        return True

    def _sweep(self, version: int) -> None:
        seen = self.listed.pop(version, set())
        gone = [
            {
                "id": record_id,
                "updated_idx": version,
                "deleted": True,
                "inserted_at": (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=version)).isoformat(),
                "upstream_created_at": row.created_at,
            }
            for record_id, row in sorted(self.fold.rows.items())
            if not row.is_deleted and row.version <= version and record_id not in seen and self.counts_as_gone(record_id, seen)
        ]
        self.fold.deliver_batch(gone, rejected=())
        self.landing.deliver(*gone)

    def check_rejects(self) -> None:
        """Which of them a later listing has settled shows at rest."""


@dataclass
class StripeWorld(ListingWorld):
    """Stripe: a listing, events since, and a listing again each day. Some changes leave no event."""

    fake: FakeStripe = field(kw_only=True)

    def change(self) -> None:
        chance, fake = self.chance, self.fake
        for _ in range(chance.randint(1, 4)):
            name = f"r{chance.randrange(IDS)}"
            is_there = name in fake.listed("price")
            is_told = chance.random() < 0.7
            if is_there and chance.random() < 0.3:
                fake.remove("price", name, event="price.deleted" if is_told else None)
            else:
                amount = "no number" if chance.random() < 0.15 else chance.randrange(3)
                event = "price.updated" if is_there else "price.created"
                fake.put("price", name, event=event if is_told else None, status=chance.choice("ab"), amount=amount)
        fake.now += chance.choice((0, 0, 1, 5, 60, 3600, 25 * 3600))
        fake.page_records = chance.choice((1, 2, 3, 100))

    def set_faults(self, *faults: str) -> None:
        self.fake.faults.replace(faults)

    def source(self) -> Source:
        http = self.time.options(now=self.fake.clock, retry=PATIENCE)
        return StripeSource(
            {ACCOUNT.name: KEY}, (ACCOUNT,), base_url=self.fake.url, objects=PLAIN, requests_per_second=math.inf, options=http
        )

    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        return [(record, not is_bad(record)) for record in json.loads(page.records)]

    def is_at_rest(self) -> bool:
        return True

    def run(self, read: Mortal, *, batch_records: int = 1) -> None:
        super().run(read)

    def let_time_pass(self) -> None:
        """Until everything is listed again, in pages of one object."""
        super().let_time_pass()
        self.fake.now += 25 * 3600
        self.fake.page_records = 1

    def check_truth(self) -> None:
        """A row for each object that can be stored, and for none that is gone; one open reject for each that cannot. Of those that are
        gone and left no event the reject waits on: somebody has to look at it."""
        there = self.fake.listed("price")
        good = {name: each for name, each in there.items() if each["amount"] != "no number"}
        rows = query(self.landing.url, "select upstream_id, deleted, data from demo.thing")
        assert {name: data for name, deleted, data in rows if not deleted and (name in good or name not in there)} == good
        upstream_id = "convert_from(raw, 'UTF8')::json->>'upstream_id'"
        waiting = query(self.landing.url, f"select {upstream_id} from sequin_pipeline.rejects where resolved_at is null")
        assert sorted(str(name) for (name,) in waiting if name in there) == sorted(set(there) - set(good))


@dataclass
class RestWorld(ListingWorld):
    """A REST API by declaration: what has changed at each run, page by page, and a listing each day. Things are changed, flagged, or gone
    without a word."""

    fake: FakeRest = field(kw_only=True)
    read: Read = field(kw_only=True)

    def change(self) -> None:
        chance, fake = self.chance, self.fake
        for _ in range(chance.randint(1, 4)):
            name = f"r{chance.randrange(IDS)}"
            if name in fake.things and chance.random() < 0.2:
                del fake.things[name]
            else:
                amount = "no number" if chance.random() < 0.15 else chance.randrange(3)
                fake.put(name, gone=chance.random() < 0.15, status=chance.choice("ab"), amount=amount)
        fake.now += timedelta(seconds=chance.choice((0, 0, 1, 5, 60, 3600, 25 * 3600)))
        fake.page_records = chance.choice((1, 2, 3, 100))

    def set_faults(self, *faults: str) -> None:
        """What lasts begins at once: many a run sends one request only."""
        self.fake.faults.replace(re.sub(r"from=\d", "from=1", fault) for fault in faults)

    def source(self) -> Source:
        http = self.time.options(now=lambda: self.fake.now, retry=PATIENCE)
        return rest_source(RestApi(self.fake.base_url, {"thing": self.read}), {}, options=http)

    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        return [(record, not is_bad(record)) for record in json.loads(page.records)]

    def is_at_rest(self) -> bool:
        return True

    def run(self, read: Mortal, *, batch_records: int = 1) -> None:
        super().run(read)

    def let_time_pass(self) -> None:
        """Until everything is listed again, in pages of one object."""
        super().let_time_pass()
        self.fake.now += timedelta(hours=25)
        self.fake.page_records = 1

    def check_truth(self) -> None:
        """As for Stripe: a row for each thing that can be stored, and for none that is gone."""
        there = self.fake.things
        good = {name: each for name, each in there.items() if each["amount"] != "no number" and not each["gone"]}
        rows = query(self.landing.url, "select upstream_id, deleted, data from demo.thing")
        alive = {name: data for name, deleted, data in rows if not deleted}
        assert {name: data for name, data in alive.items() if name in good or name not in there} == good


def _changes(sent: Sequence[Record]) -> list[Record]:
    return [changed(one, position=position) for position, one in enumerate(sent, 1)]


def _fold_of(records: Sequence[Record]) -> Fold:
    fold = empty_fold(Landing("").of)
    for record in records:
        if not is_bad(record):
            fold.deliver_batch([record], rejected=())
    return fold


@contextmanager
def records_world(url: str, chance: Random) -> Iterator[RecordsWorld]:
    app = build_app(RecordedFeed(is_compacted=False), Settings(limit_cap=chance.randint(1, 4)))
    with running_app(app) as api:
        landing = Landing(url)
        growing = GrowingStream(chance, ids=IDS)
        yield RecordsWorld(landing, chance, StandingTime(), empty_fold(landing.of), api=SandboxControls(api), growing=growing)


@contextmanager
def queue_world(url: str, chance: Random, kind: str) -> Iterator[QueueWorld]:
    landing = Landing(url, written=compact) if kind == "stream" else Landing(url)
    time = StandingTime()
    settings = Settings(max_ack_pending=chance.randint(1, 4), ack_wait_ms=400)
    watch = WatchedQueue(build_app(RecordedFeed(is_compacted=False), settings, clock=time.clock), stored_in(url, "demo.thing"))
    with running_app(watch) as api:
        growing = GrowingStream(chance, ids=IDS)
        fold = empty_fold(landing.of)
        controls = SandboxControls(api)
        yield QueueWorld(landing, chance, time, fold, api=controls, growing=growing, kind=kind, watch=watch)


@contextmanager
def stripe_world(url: str, chance: Random) -> Iterator[StripeWorld]:
    with fake_stripe() as fake:
        yield StripeWorld(Landing(url, of=PRICE, written=compact), chance, StandingTime(), empty_fold(PRICE), fake=fake)


@contextmanager
def rest_world(url: str, chance: Random, read: Read, order: int) -> Iterator[RestWorld]:
    with fake_rest(order=order) as fake:
        of = OBSERVED
        yield RestWorld(Landing(url, of=of, written=in_order), chance, StandingTime(), empty_fold(of), fake=fake, read=read)


WORLDS: dict[str, Callable[[str, Random], Any]] = {
    "records API": records_world,
    "consumer": lambda url, chance: queue_world(url, chance, "consumer"),
    "Sequin Stream": lambda url, chance: queue_world(url, chance, "stream"),
    "Stripe": stripe_world,
    "REST API, by changes": lambda url, chance: rest_world(url, chance, replace(LIST, paginator=PAGINATORS["header_link"]), 1),
    "REST API, newest first": lambda url, chance: rest_world(url, chance, NEWEST_FIRST, -1),
    "REST API, listed only": lambda url, chance: rest_world(url, chance, LISTED_ONLY, 0),
}
