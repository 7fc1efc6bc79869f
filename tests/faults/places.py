"""Where each source can fail: one kind of its requests, sent to a server that fails on demand, and what it makes of the same records.

Six records come two by two, and the third cannot be stored. The clocks of source and server are one, and move when somebody waits.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.runs.collection_run import BATCH_RECORDS
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import DrainLimits
from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_app
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.stripe.source import StripeSource
from tests.e2e.project import SandboxControls
from tests.faults.faulty_api import PAGE_RECORDS, cursor_after, faulty_api, things
from tests.faults.landing import THING, Landing, lines
from tests.faults.watched_queue import WatchedQueue, stored_in
from tests.sources.reading import TOKEN, StandingTime, source
from tests.sources.stripe.fake import START, FakeStripe, fake_stripe
from tests.sources.stripe.shop import ACCOUNT, KEY
from tests.sources.stripe.syncing import PLAIN
from tests.support.between import Between, nothing
from tests.support.builders import collection
from tests.support.fold import Record
from tests.support.queues import CONSUMER, queue_of
from tests.support.reading import raw

UNFIT = {"status": "active", "amount": "no number"}
COUNT, BAD = 6, 2
"""So many records, and the place of the one that cannot be stored."""

SENT = [record if number != BAD else {**record, "data": UNFIT} for number, record in enumerate(things(1, COUNT))]

OLD = 1_262_304_000 + 3600
"""An hour after the first second of which Stripe has anything."""

PRICE = collection(name="price", table="demo.thing", columns=THING.columns, observes_time=True)
"""Of a class of objects that Stripe has, in the table that every landing has."""

OBJECTS = "/v1/prices/"

ACK_WAIT_MILLISECONDS = 400
"""Less than the first pause between two attempts: what was lost on the way comes again with the next one."""

WELL_AFTERWARDS_SECONDS = 60.0
"""Until the next run: whatever was lost on the way has come back to its queue."""


Happens = Callable[[int], None]


class Place(Protocol):
    """One way of one source to its records, and a landing for what it reads.

    `kind` is that of the source for a process of its own. `records` are what the landing is given, in their order. `fails_from` is the
    number of the request that asks for the third record. Of those before it so many come `again` to a run that goes on behind one that
    failed, and of the first four so many `again_when_killed`, to one behind a run that was killed when it had committed the fourth.
    """

    landing: Landing
    kind: str
    url: str
    records: list[Record]
    fails_from: int
    again: int
    again_when_killed: int

    def set_faults(self, *faults: str) -> None:
        """For this kind of requests, counted anew."""
        ...

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        """One run to its end; `happens` is that of Between, `options` are those of HttpOptions, where HTTP is spoken. Each delivery of a
        queue is a batch."""
        ...

    def cursor(self, delivered: int) -> str | None:
        """Where the live cursor stands behind so many records."""
        ...

    def check(self, delivered: int) -> None:
        """All that holds for the table and for the source's side when so many records have been committed."""
        ...


class AskedPlace(Place, Protocol):
    """One kind of requests over HTTP. A run that begins at the one that fails sends `requests` in all, and its second one of this kind asks
    for the record `second` records after the first of all."""

    time: StandingTime
    requests: int
    second: int

    def purpose(self, delivered: int) -> str:
        """How messages about such a request begin, when so many records have been given."""
        ...

    def malformed(self, found: str, beginning: str) -> str:
        """A pattern of what is said of an answer that is none; `found` is the page API's own word."""
        ...

    def refused(self, status: int) -> str:
        """A pattern of what is said of a refusal."""
        ...

    def begins_anew_after(self, status: int | None) -> bool:
        """Does the source ask once more, from an earlier place, since what it was to go on behind may be gone?"""
        ...

    def asked(self) -> int:
        """How many requests of this kind have been sent."""
        ...


class Opaque:
    """What places have in common whose cursors nobody else can read."""

    reads: list[Between]
    cursors: dict[int, str | None]

    def cursor(self, delivered: int) -> str | None:
        """That of the last page that a run had been given, when so many records were first asked about."""
        last = [page.cursor for read in self.reads for page in read.given][-1]
        return self.cursors.setdefault(delivered, last)


@dataclass
class OfPages:
    """Requests for pages of the records API."""

    kind = "sequin"
    again = again_when_killed = 0

    landing: Landing
    time: StandingTime
    api: SandboxControls
    records: list[Record] = field(default_factory=lambda: list(SENT))
    fails_from: int = 2
    requests: int = 3
    second: int = 4

    @property
    def url(self) -> str:
        return self.api.url

    def set_faults(self, *faults: str) -> None:
        self.api.set_faults(*faults)

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        pages = Between(source(self.url, time=self.time, **options), happens)
        return self.landing.sync(pages, warehouse=warehouse, batch_records=batch_records)

    def cursor(self, delivered: int) -> str | None:
        return cursor_after(delivered)

    def purpose(self, delivered: int) -> str:
        return f"reading demo:thing after cursor '{cursor_after(delivered)}'"

    def malformed(self, found: str, beginning: str) -> str:
        return rf"{found}.*, beginning with {beginning}, where a JSON object with `records` and `cursor` was expected .*"

    def refused(self, status: int) -> str:
        if status in (401, 403):
            return token_refused(status, "SEQUIN_API_TOKEN")
        return (
            rf"{not_served(status, 'SEQUIN_API_URL')}\. The cursor of an earlier run is most likely no longer known there: run again with "
            r"--full-refresh to read the collection from its earliest record; rows that are there stay"
        )

    def begins_anew_after(self, status: int | None) -> bool:
        return False

    def asked(self) -> int:
        return len(self.api.page_requests())

    def check(self, delivered: int) -> None:
        self.landing.check(cursor=self.cursor(delivered))


@dataclass
class OfQueue:
    """Requests for messages of one of the queues, two at a time."""

    again = 0
    again_when_killed = 2

    landing: Landing
    time: StandingTime
    kind: str
    api: SandboxControls
    watch: WatchedQueue
    records: list[Record]
    fails_from: int = 2
    requests: int = 2
    second: int = 4
    verb: str = ""
    taken: int = 0

    @property
    def url(self) -> str:
        return self.api.url

    @property
    def path(self) -> str:
        return self.verb or ("/receive" if self.kind == "stream" else "/next")

    def set_faults(self, *faults: str) -> None:
        self.api.set_faults(*(f"{fault},path={self.path}" for fault in faults))

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        """Ends with the last message: waiting for one more takes real time."""
        self.time.seconds += WELL_AFTERWARDS_SECONDS
        queue = queue_of(self.kind, self.url, token=TOKEN, options=self.time.options(**options))
        limits = DrainLimits(max_records=COUNT - self.taken)
        return self.landing.drain(Between(queue, happens), warehouse=warehouse, limits=limits)

    def cursor(self, delivered: int) -> str | None:
        return None

    def purpose(self, delivered: int) -> str:
        return f"draining sequin_{self.kind} '{CONSUMER}'"

    @property
    def variables(self) -> str:
        return "SEQUIN_STREAM" if self.kind == "stream" else "SEQUIN_API"

    def malformed(self, found: str, beginning: str) -> str:
        return (
            rf"an answer that holds no messages \(.*\), beginning with {beginning}, where JSON with an array of messages was expected "
            rf"\(does {self.variables}_URL name the right server\?\).*"
        )

    def refused(self, status: int) -> str:
        if status in (401, 403):
            return token_refused(status, f"{self.variables}_TOKEN")
        unknown = rf"\. Is there a consumer '{CONSUMER}'\? Fix `queue` in the defs\.yaml, or the address" if status == 404 else ""
        return not_served(status, f"{self.variables}_URL") + unknown

    def begins_anew_after(self, status: int | None) -> bool:
        return False

    def asked(self) -> int:
        return len(self.api.requests(self.path))

    def check(self, delivered: int) -> None:
        """What has been acknowledged was stored before, and is all that has been committed."""
        self.taken = delivered
        self.landing.check(cursor=None)
        assert self.watch.too_early == []
        assert self.watch.acknowledged == [(one["upstream_id"], one["updated_idx"]) for one in self.records[:delivered]]


@dataclass
class OfStripe(Opaque):
    """Requests for pages of a list, for pages of events, or for single objects: those whose path holds `path`."""

    kind = "stripe"
    again = again_when_killed = 0

    landing: Landing
    time: StandingTime
    fake: FakeStripe
    path: str
    about: str
    records: list[Record]
    requests: int
    fails_from: int = 2
    second: int = 4
    reads: list[Between] = field(default_factory=list)
    cursors: dict[int, str | None] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.fake.url

    def set_faults(self, *faults: str) -> None:
        self.fake.faults.replace(f"{fault},path={self.path}" for fault in faults)

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        http = self.time.options(now=self.fake.clock, **options)
        stripe = StripeSource(
            {ACCOUNT.name: KEY}, (ACCOUNT,), base_url=self.url, objects=PLAIN, requests_per_second=math.inf, options=http
        )
        self.reads.append(Between(stripe, happens))
        return self.landing.sync(self.reads[-1], warehouse=warehouse, batch_records=batch_records)

    def purpose(self, delivered: int) -> str:
        return self.about.format(f"up_r{delivered + 1}")

    def malformed(self, found: str, beginning: str) -> str:
        return rf"an answer that is not Stripe's \(.*\), beginning with {beginning} \(does STRIPE_API_URL name Stripe's API\?\).*"

    def refused(self, status: int) -> str:
        return token_refused(status, "STRIPE_API_KEY") if status in (401, 403) else not_served(status, "STRIPE_API_URL")

    def begins_anew_after(self, status: int | None) -> bool:
        return status in (400, 404) and self.path != OBJECTS

    def asked(self) -> int:
        return sum(self.path in path for path in self.fake.paths_asked())

    def check(self, delivered: int) -> None:
        self.landing.check(cursor=self.cursor(delivered))


def deliver(place: Place, *records: Record) -> None:
    """Says that these have been committed, but for the one that cannot be stored, which was rejected."""
    bad = place.records[BAD]
    place.landing.deliver(*(one for one in records if one is not bad), rejected=[bad] if bad in records else [])


def deliver_rest(place: Place) -> None:
    """Says that a run has been given what was left behind the first two."""
    deliver(place, *place.records[BAD - place.again :])


def token_refused(status: int, variable: str) -> str:
    fix = rf"the source does not accept the token that was sent: set {variable} to a token that may read there"
    return rf"status {status} \(.*\), saying '.*': {fix}"


def not_served(status: int, variable: str) -> str:
    return rf"status {status} \(.*\), saying '.*': the source will not serve this request: check {variable} and what is asked for"


@contextmanager
def of_pages(url: str) -> Iterator[OfPages]:
    with faulty_api(SENT) as api:
        yield OfPages(Landing(url), StandingTime(), api)


@contextmanager
def of_queue(url: str, kind: str) -> Iterator[OfQueue]:
    records, written = (SENT, raw) if kind == "consumer" else ([changed(one) for one in SENT], compact)
    landing, time = Landing(url, written=written), StandingTime()
    settings = Settings(token=TOKEN, max_ack_pending=PAGE_RECORDS, ack_wait_ms=ACK_WAIT_MILLISECONDS)
    app = build_app(RecordedFeed(lines(*SENT)), settings, clock=time.clock)
    watch = WatchedQueue(app, stored_in(url, str(landing.of.table)))
    with running_app(watch) as api_url:
        yield OfQueue(landing, time, kind, SandboxControls(api_url), watch, records)


@contextmanager
def of_listing(url: str) -> Iterator[OfStripe]:
    """Newest first, as Stripe lists; so old that no window of time is cut in two, and one page is asked for after the other."""
    with fake_stripe() as fake:
        fake.page_records = PAGE_RECORDS
        records = []
        for number, sent in enumerate(SENT):
            made = fake.put("price", str(sent["upstream_id"]), created=OLD - 60 * number, **values(sent))
            records.append(observed(made, version=START * 10**6, entered=OLD - 60 * number))
        about = "listing stripe:price of sync 'main'"
        # Two pages, and the events since.
        yield OfStripe(_landing_of_prices(url), StandingTime(), fake, "/v1/prices", about, records, requests=3)


@contextmanager
def of_events(url: str, *, page_records: int = PAGE_RECORDS) -> Iterator[OfStripe]:
    """After a listing of nothing; the newest events come first."""
    with fake_stripe() as fake:
        fake.page_records = page_records
        about = "reading the events of stripe:price of sync 'main'"
        # Two pages, and the four objects that they name.
        place = OfStripe(_landing_of_prices(url), StandingTime(), fake, "/v1/events", about, [], requests=6)
        place.sync()
        fake.now += 60
        for sent in reversed(SENT):
            made = fake.put("price", str(sent["upstream_id"]), event="price.created", **values(sent))
            place.records.insert(0, observed(made, version=fake.now * 10**6 + 1, entered=fake.now))
        yield place


@contextmanager
def of_objects(url: str) -> Iterator[OfStripe]:
    """One event a page, so that one object is read again after the other."""
    with of_events(url, page_records=1) as place:
        about = "reading stripe:price '{}' of sync 'main'"
        yield replace(place, path=OBJECTS, about=about, fails_from=3, requests=8, second=3)


def _landing_of_prices(url: str) -> Landing:
    return Landing(url, of=PRICE, written=compact)


def values(sent: Record) -> dict[str, Any]:
    data = sent["data"]
    assert isinstance(data, dict)
    return data


def changed(sent: Record, *, position: int | None = None) -> Record:
    """The record as Sequin Stream tells of it: its position in the log is its version, 64 bytes and 4,096 versions for each; where none
    is given, positions are the versions that were sent."""
    sync, upstream_id = sent["sync"], str(sent["upstream_id"])
    assert isinstance(sync, dict)
    return {
        "collection_id": sent["collection_id"],
        "provider": sent["provider"],
        "stream_id": CONSUMER,
        "sync": {"id": sync["id"], "external_id": None, "metadata": {}},
        "deleted": sent["deleted"],
        "inserted_at": sent["inserted_at"],
        "id": derived_id(sync["id"], str(sent["collection_id"]), upstream_id),
        "upstream_id": upstream_id,
        "updated_idx": (position or int(str(sent["updated_idx"]))) * 64 * 4096,
        "data": sent["data"],
    }


def observed(made: Mapping[str, Any], *, version: int, entered: int) -> Record:
    """An object of Stripe as a record."""
    return {
        "id": derived_id("main", PRICE.id, made["id"]),
        "collection_id": PRICE.id,
        "provider": "demo",
        "sync": {"id": "main", "external_id": "tenant-1", "metadata": {"region": "eu"}},
        "upstream_id": made["id"],
        "updated_idx": version,
        "deleted": False,
        "inserted_at": iso(entered),
        "upstream_created_at": iso(made["created"]),
        "upstream_updated_at": None,
        "data": dict(made),
    }


def iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def compact(record: Record) -> bytes:
    """As the sources write it that build a record: without space, but for an object that is handed on as it came."""
    head = {name: value for name, value in record.items() if name != "data"}
    has_space = record["provider"] == "demo" and "stream_id" in record
    data = json.dumps(record["data"], separators=None if has_space else (",", ":"))
    return f'{json.dumps(head, separators=(",", ":"))[:-1]},"data":{data}}}'.encode()


def in_order(record: Record) -> bytes:
    """As a source of keyed objects writes it: what is the object's own first, and the object as its API wrote it."""
    head = {name: value for name, value in record.items() if name != "data"}
    return f'{json.dumps(head, separators=(",", ":"))[:-1]},"data":{json.dumps(record["data"])}}}'.encode()
