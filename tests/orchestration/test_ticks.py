"""A tick looks for news before it launches runs: what it launches then, what it says, and what stays true of freshness."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from sequin_pipeline.catalog import Collection, SourceDeclaration, TableName, Windows
from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.catalog_files import folder_tree
from sequin_pipeline.orchestration.component import CollectionSync
from sequin_pipeline.orchestration.freshness import judge
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, WarehouseResource, live_state
from sequin_pipeline.orchestration.schedules import build_job_and_schedule
from sequin_pipeline.orchestration.ticks import Found, find_due, looks_first
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import Page, ReadRequest, SourceIdentity
from tests.orchestration.files import write
from tests.support.builders import ListSource, record
from tests.support.reading import query
from tests.support.syncing import sync

pytestmark = pytest.mark.slow

MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
COLLECTIONS = tuple(Collection("demo", name, TableName("demo", name), MONTHS) for name in ("one", "two", "three"))
JOB = "sync_demo"


def records(of: Collection, *ids: str) -> list[dict[str, object]]:
    return [record(one, collection_id=of.id) for one in ids]


@dataclass
class Sources:
    """The sources of all collections, as the resource opens them; what is in `instead` takes a source's place."""

    pages: Mapping[str, list[list[dict[str, object]]]]
    instead: dict[str, Any] = field(default_factory=dict)
    opened: dict[str, ListSource] = field(default_factory=dict)

    def open(self, of: Collection) -> Any:
        return self.instead.get(of.label) or self.opened.setdefault(of.label, ListSource(self.pages[of.label]))


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def sources(warehouse_url: str) -> Sources:
    """Each collection has been read to its end."""
    pages = {of.label: [records(of, "r1", "r2")] for of in COLLECTIONS}
    for of in COLLECTIONS:
        sync(warehouse_url, *pages[of.label], of=of, run_id="first")
    return Sources(pages)


def evaluate(
    instance: dg.DagsterInstance, url: str, sources: Sources, *, skip_empty: bool = True
) -> tuple[list[list[str]], str | None]:
    """The assets of each run that a tick asks for, and what it says where it asks for none."""
    warehouse = WarehouseResource(url=url)
    runs = build_job_and_schedule(COLLECTIONS, cron="*/15 * * * *", skip_empty=skip_empty)
    assets = [*map(build_source, COLLECTIONS), *map(build_asset, COLLECTIONS)]
    resources = {SOURCE: sources, IO_MANAGER: dg.mem_io_manager, WAREHOUSE: warehouse}
    definitions = dg.Definitions.merge(runs, dg.Definitions(assets=assets, resources=resources))
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime.now(UTC),
        repository_def=definitions.get_repository_def(),
        resources={WAREHOUSE: warehouse, SOURCE: sources},
    )
    with context:
        evaluated = definitions.resolve_schedule_def(f"{JOB}_schedule").evaluate_tick(context)
    launched = [[key.to_user_string() for key in request.asset_selection or []] for request in evaluated.run_requests or []]
    return launched, evaluated.skip_message


def asked(instance: dg.DagsterInstance, url: str, sources: Sources, *, seconds: float = 30.0) -> Found:
    state = live_state(WarehouseResource(url=url))
    return find_due(instance, JOB, COLLECTIONS, state, warehouse=Warehouse(url), open_source=sources.open, seconds=seconds)


def test_a_tick_with_nothing_new_launches_nothing_and_freshness_and_the_live_range_stay_true(
    instance: dg.DagsterInstance, warehouse_url: str, sources: Sources
) -> None:
    warehouse = WarehouseResource(url=warehouse_url)
    with psycopg.connect(warehouse_url) as connection:
        connection.execute(
            "update sequin_pipeline.runs set started_at = started_at - interval '3 hours',"
            " heartbeat_at = heartbeat_at - interval '3 hours', ended_at = ended_at - interval '3 hours'"
        )
    before = live_state(warehouse)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    late = [status.passed for _, status in judge(warehouse, COLLECTIONS, cron="0 * * * *", now=soon)]

    launched, said = evaluate(instance, warehouse_url, sources)

    statuses = [status for _, status in judge(warehouse, COLLECTIONS, cron="0 * * * *", now=soon)]
    assert launched == []
    assert said is not None
    assert said.startswith("Nothing new in 3 collections (asked in 0.")
    assert [[request.after for request in source.requests] for source in sources.opened.values()] == [["1"]] * 3
    assert late == [False] * 3
    assert [status.passed for status in statuses] == [True] * 3
    assert "there was nothing new" in statuses[0].description
    assert live_state(warehouse) == before


def test_only_what_has_something_new_is_launched(instance: dg.DagsterInstance, warehouse_url: str, sources: Sources) -> None:
    sources.pages["demo/two"].append(records(COLLECTIONS[1], "r3"))

    launched, said = evaluate(instance, warehouse_url, sources)

    assert launched == [["demo/two"]]
    assert said is None
    assert query(warehouse_url, "select label from sequin_pipeline.runs where asked_at is not null order by 1") == [
        ("demo/one",),
        ("demo/three",),
    ]


def test_without_skip_empty_nothing_is_asked(instance: dg.DagsterInstance, warehouse_url: str, sources: Sources) -> None:
    launched, _ = evaluate(instance, warehouse_url, sources, skip_empty=False)

    assert launched == [["demo/one", "demo/three", "demo/two"]]
    assert sources.opened == {}


def test_a_tick_says_in_a_sentence_why_it_launches(instance: dg.DagsterInstance, warehouse_url: str, sources: Sources) -> None:
    sources.pages["demo/two"].append(records(COLLECTIONS[1], "r3"))

    found = asked(instance, warehouse_url, sources)

    assert found.told.partition(" (asked in ")[0] == "Runs for 1 collection, nothing new in 2 collections"
    assert found.told.endswith(" s); demo/two: there are new records")


@dataclass
class Broken(ListSource):
    """A source that cannot be reached."""

    page_records: list[list[dict[str, object]]] = field(default_factory=list)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        self.requests.append(request)
        raise SourceUnavailable("the source of this test is down")


def test_what_cannot_be_asked_gets_a_run_and_not_every_collection_waits_for_it(
    own_instance: dg.DagsterInstance, warehouse_url: str, sources: Sources
) -> None:
    down = Broken()
    sources.instead = {of.label: down for of in COLLECTIONS}
    own_instance.event_log_storage.set_concurrency_slots("records_api", 1)

    found = asked(own_instance, warehouse_url, sources)

    assert len(down.requests) == 2
    assert sorted(found.due.values()) == [
        "its source could not be asked (it does not answer for other collections)",
        "its source could not be asked (the source of this test is down)",
        "its source could not be asked (the source of this test is down)",
    ]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.runs where asked_at is not null") == [(0,)]


@pytest.fixture
def own_instance() -> Iterator[dg.DagsterInstance]:
    """One whose pool nobody has used."""
    with dg.instance_for_test() as instance:
        yield instance


@dataclass
class Silent(ListSource):
    """A source that answers only once nobody waits any longer."""

    page_records: list[list[dict[str, object]]] = field(default_factory=list)
    identity: SourceIdentity = field(default_factory=lambda: SourceIdentity("list", "http://demo"))
    end: threading.Event = field(default_factory=threading.Event)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        self.end.wait()
        yield from ()


def test_who_has_not_answered_in_time_gets_a_run(instance: dg.DagsterInstance, warehouse_url: str, sources: Sources) -> None:
    silent = Silent()
    sources.instead["demo/two"] = silent
    sources.pages["demo/three"].append(records(COLLECTIONS[2], "r3"))
    try:
        found = asked(instance, warehouse_url, sources, seconds=0.7)
    finally:
        silent.end.set()

    assert found.due == {"demo/two": "it has not answered in time", "demo/three": "there are new records"}
    assert found.nothing_new == ["demo/one"]
    assert found.seconds < 2


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_run_that_failed_before_the_ledger_heard_of_it_is_followed_by_another(
    own_instance: dg.DagsterInstance, warehouse_url: str, sources: Sources, status: dg.DagsterRunStatus
) -> None:
    job = dg.define_asset_job(JOB, selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor)
    assets = [*map(build_source, COLLECTIONS), *map(build_asset, COLLECTIONS)]
    resources = {SOURCE: sources, IO_MANAGER: dg.mem_io_manager, WAREHOUSE: WarehouseResource(url=warehouse_url)}
    definition = dg.Definitions(assets=assets, jobs=[job], resources=resources).resolve_job_def(JOB)
    own_instance.create_run_for_job(
        definition,
        status=status,
        tags={"sequin_pipeline/mode": "live"},
        asset_selection=frozenset({dg.AssetKey(["demo", "two"])}),
    )

    with psycopg.connect(warehouse_url) as connection:
        # SQLite, where this instance keeps its runs, tells whole seconds.
        connection.execute("update sequin_pipeline.runs set started_at = started_at - interval '1 minute'")

    assert asked(own_instance, warehouse_url, sources).due == {"demo/two": "the last run failed"}
    sync(warehouse_url, *sources.pages["demo/two"], of=COLLECTIONS[1], run_id="second")
    assert asked(own_instance, warehouse_url, sources).due == {}


def test_two_ticks_at_once_come_to_the_same(instance: dg.DagsterInstance, warehouse_url: str, sources: Sources) -> None:
    sources.pages["demo/two"].append(records(COLLECTIONS[1], "r3"))

    with ThreadPoolExecutor(2) as ticks:
        found = [tick.result() for tick in [ticks.submit(asked, instance, warehouse_url, sources) for _ in range(2)]]

    assert [(dict(one.due), sorted(one.nothing_new)) for one in found] == [
        ({"demo/two": "there are new records"}, ["demo/one", "demo/three"])
    ] * 2


def test_a_run_that_reads_on_while_a_tick_asks_is_neither_told_of_nor_repeated(
    instance: dg.DagsterInstance, warehouse_url: str, sources: Sources
) -> None:
    @dataclass
    class Overtaken(ListSource):
        page_records: list[list[dict[str, object]]] = field(default_factory=list)

        def pages(self, request: ReadRequest) -> Iterator[Page]:
            sync(warehouse_url, [], records(COLLECTIONS[1], "r3"), of=COLLECTIONS[1], run_id="manual")
            yield from ()

    sources.instead["demo/two"] = Overtaken()

    found = asked(instance, warehouse_url, sources)

    assert (found.due, sorted(found.nothing_new), found.moved) == ({}, ["demo/one", "demo/three"], ["demo/two"])
    assert ", another run has just read on in 1 collection (asked in" in found.told


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sequin", True),
        ("rest", True),
        ("stripe", True),
        ("sequin_consumer", False),
        ("sequin_stream", False),
        ("airbyte", False),
    ],
)
def test_queues_and_connectors_are_not_asked(kind: str, *, expected: bool) -> None:
    assert looks_first([replace(COLLECTIONS[0], source=SourceDeclaration(kind=kind))]) is expected


@pytest.mark.parametrize(("line", "expected"), [("", True), ("  skip_empty: false\n", False), ("  skip_empty: true\n", True)])
def test_a_file_says_whether_empty_ticks_are_skipped(tmp_path: Path, line: str, *, expected: bool) -> None:
    write(tmp_path, demo=f"  provider: demo\n  schedule: '* * * * *'\n{line}  collections: {{one: }}\n")

    (component,) = folder_tree(tmp_path).get_all_components(CollectionSync)

    assert component.skip_empty is expected
