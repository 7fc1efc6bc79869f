"""Where sources by declaration can fail: a list of a REST API, which is asked for what has changed since the newest object known, and a
connector, whose last state holds only once something has followed it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.reads import RestApi, StreamRead, Variable
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.runs.collection_run import BATCH_RECORDS
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.feed import ConnectorFeed
from sequin_pipeline.sources.connectors.process import Limits
from sequin_pipeline.sources.connectors.source import ConnectorSource
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.rest.source import rest_source
from tests.faults.faulty_api import PAGE_RECORDS
from tests.faults.landing import THING, Landing
from tests.faults.places import COUNT, SENT, Happens, Opaque, in_order, not_served, token_refused, values
from tests.sources.connectors.child import Step, installed
from tests.sources.reading import TOKEN, StandingTime
from tests.sources.rest.reading import CURSOR, LIST
from tests.support.between import Between, nothing
from tests.support.builders import collection
from tests.support.fold import Record
from tests.support.rest_api import FakeRest, fake_rest, iso

OBSERVED = collection(columns=THING.columns, observes_time=True)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""By the clock of who reads a connector."""

KEY_REFUSED: tuple[Step, ...] = (("error", "config_error", "the key is refused"), ("exit_with", 1))

LINE_BY_LINE = Limits(silence_seconds=60.0, grace_seconds=0.2, lines=1)
"""So that pages are those that are asked for, however the lines come."""

CONNECTOR_PAGE = PAGE_RECORDS + 2
"""Two new objects, and those that come again behind a run that failed."""

BEARER = {"type": "bearer", "token": Variable("API_TOKEN")}


def opened(base_url: str, **options: Any) -> KeyedSource:
    """A source for the list of a fake, with its token; `options` are those of `rest_source`."""
    api = RestApi(base_url, {"thing": replace(LIST, paginator=CURSOR)}, auth=BEARER)
    return rest_source(api, {"API_TOKEN": TOKEN}, **options)


def connector(folder: Path, *fault: Step, page_records: int, **options: Any) -> ConnectorSource:
    """A connector that sends what a file in the folder has, a state behind each second object, and fails in front of the third where a
    `fault` is given. `options` are those of `ConnectorSource`."""
    fails = [PAGE_RECORDS + 1, *fault] if fault else []
    read: list[Step] = [["changes", "thing", str(folder / "things.json"), PAGE_RECORDS, *fails], ["status", "thing", "COMPLETE"]]
    protocol = Airbyte(installed(folder, {"read": read}, limits=LINE_BY_LINE))
    feed = ConnectorFeed(protocol, {"thing": StreamRead("thing")}, page_records=page_records)
    return ConnectorSource(feed, SourceIdentity("airbyte", "child"), **options)


@dataclass
class OfRest(Opaque):
    """Requests for pages of a list in the order of its changes. Who goes on is given the newest object that is known once more."""

    kind = "rest"
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


@dataclass
class OfConnector(Opaque):
    """A connector of Airbyte's protocol, which sends no requests that we could see. Of a read that fails the state of what came last is not
    kept."""

    kind = "airbyte"
    again = 2
    again_when_killed = 3

    landing: Landing
    folder: Path
    records: list[Record]
    fails_from: int = 2
    fault: tuple[Step, ...] = ()
    page_records: int = PAGE_RECORDS
    reads: list[Between] = field(default_factory=list)
    cursors: dict[int, str | None] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The folder of its objects."""
        return str(self.folder)

    def set_faults(self, *faults: str) -> None:
        assert set(faults) <= {f"status:401,from={self.fails_from}"}
        self.fault = KEY_REFUSED if faults else ()

    def sync(
        self,
        *,
        happens: Happens = nothing,
        warehouse: Warehouse | None = None,
        batch_records: int = BATCH_RECORDS,
        **options: Any,
    ) -> SyncOutcome:
        """Later runs have pages with room for what comes again, as of a REST API. There are no options of HTTP."""
        source = connector(self.folder, *self.fault, page_records=self.page_records, now=lambda: NOW, **options)
        self.reads.append(Between(source, happens))
        self.page_records = CONNECTOR_PAGE
        return self.landing.sync(self.reads[-1], warehouse=warehouse, batch_records=batch_records)

    def check(self, delivered: int) -> None:
        self.landing.check(cursor=self.cursor(delivered))


@contextmanager
def of_connector(url: str) -> Iterator[OfConnector]:
    """Objects that have changed a minute after each other, the last one just now."""
    with TemporaryDirectory() as folder:
        things = {}
        for number, sent in enumerate(SENT, 1):
            name = str(sent["upstream_id"])
            things[name] = {"id": name, "updated": iso(NOW - timedelta(minutes=COUNT - number)), **values(sent)}
        (Path(folder) / "things.json").write_text(json.dumps(things))
        records = [keyed(one, updated=one["updated"]) for one in things.values()]
        yield OfConnector(Landing(url, of=OBSERVED, written=in_order), Path(folder), records)


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
