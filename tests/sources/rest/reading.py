"""How tests declare the fake API's list and run over it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sequin_pipeline.reads import Read, RestApi, Variable
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import Page, ReadRequest
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.rest.source import rest_source
from tests.support.between import Between, nothing
from tests.support.builders import collection
from tests.support.reading import rows
from tests.support.rest_api import FakeRest
from tests.support.syncing import sync

THING = collection(observes_time=True)
TOKEN = "secret-token-7Q"
ENVIRONMENT = {"API_TOKEN": TOKEN, "CLIENT_SECRET": "client-secret-9X", "ORGS": "a, b", "NONE": " , "}

PAGE_NUMBER = {"type": "page_number", "base_page": 1}
CURSOR = {"type": "cursor", "cursor_path": "paging.next", "cursor_param": "after"}
PAGINATORS: Mapping[str, Mapping[str, object]] = {
    "page_number": PAGE_NUMBER,
    "offset": {"type": "offset", "limit": 2, "total_path": "paging.total"},
    "header_link": {"type": "header_link"},
    "json_link": {"type": "json_link", "next_url_path": "paging.link"},
    "cursor": CURSOR,
}

LIST = Read(
    path="things",
    key=(("id",),),
    select=("data",),
    version=("updated_at",),
    created=("created_at",),
    deleted=("gone",),
    params={"since": "{since}"},
    is_ascending=True,
    paginator=PAGE_NUMBER,
)

IMPATIENT = RetryPolicy(budget_seconds=2.0)


@dataclass
class Runs:
    """Runs over one fake API into one database; time is the fake's."""

    fake: FakeRest
    warehouse_url: str = ""
    read: Read = LIST
    auth: Mapping[str, Any] | None = None
    relist_hours: int = 24
    details_a_run: int = 1000
    waits: list[float] = field(default_factory=list)
    api: dict[str, Any] = field(default_factory=dict)

    def options(self) -> HttpOptions:
        return HttpOptions(
            retry=IMPATIENT,
            sleep=self._sleep,
            clock=lambda: self.fake.now.timestamp(),
            now=lambda: self.fake.now,
            random=lambda: 1.0,
        )

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.fake.now += timedelta(seconds=seconds)

    def source(self, **overrides: Any) -> KeyedSource:
        read = replace(self.read, **overrides) if overrides else self.read
        api = RestApi(self.fake.base_url, {"thing": read}, auth=self.auth, **self.api)
        return rest_source(
            api, ENVIRONMENT, relist_hours=self.relist_hours, options=self.options(), details_a_run=self.details_a_run
        )

    def sync(self, *, happens: Callable[[int], None] = nothing, last: int | None = None, **overrides: Any) -> SyncOutcome:
        """One live run; the fake's clock moves on by a minute afterwards."""
        try:
            return sync(self.warehouse_url, of=THING, source=Between(self.source(**overrides), happens, last), batch_records=1)
        finally:
            self.fake.now += timedelta(minutes=1)

    def pages(self, after: str | None = None, **overrides: Any) -> list[Page]:
        return list(self.source(**overrides).pages(ReadRequest(frozenset({"demo:thing"}), after=after)))

    def live(self) -> dict[str, Any]:
        return dict(rows(self.warehouse_url, "upstream_id", "data", table="demo.thing where not deleted"))

    def deleted(self) -> set[str]:
        return {name for (name,) in rows(self.warehouse_url, "upstream_id", table="demo.thing where deleted")}


def bearer() -> dict[str, Any]:
    return {"type": "bearer", "token": Variable("API_TOKEN")}
