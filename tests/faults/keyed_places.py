"""Where sources by declaration can fail: a list of a REST API, which is asked for what has changed since the newest object known."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.reads import RestApi, Variable
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.runs.collection_run import BATCH_RECORDS
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.rest.source import rest_source
from tests.faults.faulty_api import PAGE_RECORDS
from tests.faults.landing import THING, Landing
from tests.faults.places import SENT, Happens, in_order, not_served, token_refused, values
from tests.sources.reading import TOKEN, StandingTime
from tests.sources.rest.reading import CURSOR, LIST
from tests.support.between import Between, nothing
from tests.support.builders import collection
from tests.support.fold import Record
from tests.support.rest_api import FakeRest, fake_rest

OBSERVED = collection(columns=THING.columns, observes_time=True)

BEARER = {"type": "bearer", "token": Variable("API_TOKEN")}


def opened(base_url: str, **options: Any) -> KeyedSource:
    """A source for the list of a fake, with its token; `options` are those of `rest_source`."""
    api = RestApi(base_url, {"thing": replace(LIST, paginator=CURSOR)}, auth=BEARER)
    return rest_source(api, {"API_TOKEN": TOKEN}, **options)


@dataclass
class OfRest:
    """Requests for pages of a list in the order of its changes. Who goes on is given the newest object that is known once more."""

    kind = "rest"
    can_reread = True
    again = again_when_killed = 1

    landing: Landing
    time: StandingTime
    fake: FakeRest
    records: list[Record]
    fails_from: int = 2
    requests: int = 2
    second: int = 4
    reads: list[Between] = field(default_factory=list)
    cursors: dict[int, str | None] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.fake.base_url

    def set_faults(self, *faults: str) -> None:
        self.fake.faults.replace(faults)

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        """Behind the first run a page has room for what comes again, so that two objects of it are new."""
        http = self.time.options(now=lambda: self.fake.now, **options)
        self.reads.append(Between(opened(self.url, options=http), happens))
        try:
            return self.landing.sync(self.reads[-1], warehouse=warehouse, batch_records=batch_records)
        finally:
            self.fake.page_records = PAGE_RECORDS + self.again

    def cursor(self, delivered: int) -> str | None:
        """As of Stripe."""
        last = [page.cursor for read in self.reads for page in read.given][-1]
        return self.cursors.setdefault(delivered, last)

    def purpose(self, delivered: int) -> str:
        return "reading thing (GET things)"

    def malformed(self, found: str, beginning: str) -> str:
        return rf"an answer that has no array at 'data', beginning with {beginning} \(do `path` and `select` name the list\?\).*"

    def refused(self, status: int) -> str:
        return token_refused(status, "API_TOKEN") if status in (401, 403) else not_served(status, "`base_url`")

    def begins_anew_after(self, status: int | None) -> bool:
        return False

    def asked(self) -> int:
        return len(self.fake.lists())

    def check(self, delivered: int) -> None:
        self.landing.check(cursor=self.cursor(delivered))


@contextmanager
def of_rest(url: str) -> Iterator[OfRest]:
    """Objects that have changed a minute after each other, the last one just now."""
    with fake_rest(token=TOKEN, page_records=PAGE_RECORDS) as fake:
        for sent in SENT:
            fake.now += timedelta(minutes=1)
            fake.put(str(sent["upstream_id"]), **values(sent))
        records = [keyed(one, updated=one["updated_at"], upstream_created_at=one["created_at"]) for one in fake.things.values()]
        yield OfRest(Landing(url, of=OBSERVED, written=in_order), StandingTime(), fake, records)


def keyed(thing: Mapping[str, Any], *, updated: str, **times: str | None) -> Record:
    """An object as a record, in the order in which it is written; its version is the time of its change in microseconds."""
    return {
        "id": derived_id("default", OBSERVED.id, thing["id"]),
        "upstream_id": thing["id"],
        "updated_idx": int(datetime.fromisoformat(updated).timestamp()) * 10**6,
        "deleted": False,
        "inserted_at": times.get("upstream_created_at") or updated,
        **times,
        "upstream_updated_at": updated,
        "collection_id": OBSERVED.id,
        "provider": "demo",
        "sync": {"id": "default", "external_id": None, "metadata": {}},
        "data": dict(thing),
    }
