"""A step whose source fails: what Dagster tries again and what it does not, and what its page and its log tell about retries."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, Queue, SourceDeclaration
from sequin_pipeline.errors import SourceRefused, SourceUnavailable
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.queue_asset import build_queue_asset
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WarehouseResource
from sequin_pipeline.sources import Listed, Page, ReadRequest, Source
from tests.faults.faulty_api import IMPATIENT, faulty_api, things
from tests.faults.landing import THING
from tests.sources.reading import source
from tests.support.builders import ListSource, page_of, record
from tests.support.checkout import CHECKOUT
from tests.support.reading import execute

AT_ONCE = dg.RetryPolicy(max_retries=1, delay=0)


@dataclass(frozen=True)
class Reading:
    """The source resource, reading one source whatever the collection."""

    source: Source

    def open(self, collection: Collection) -> Source:
        return self.source


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def materialize(
    instance: dg.DagsterInstance, warehouse_url: str, reading: Source, *, asset: dg.AssetsDefinition | None = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset or build_asset(THING, retry_policy=AT_ONCE)],
        resources={
            SOURCE: Reading(reading),
            IO_MANAGER: PostgresMergeIOManager(warehouse=WarehouseResource(url=warehouse_url)),
        },
        tags={
            "sequin_pipeline/mode": "live",
            "dagster/asset_partition_range_start": "2024-01",
            "dagster/asset_partition_range_end": "2024-01",
        },
        instance=instance,
        raise_on_error=False,
    )


def tries(result: dg.ExecuteInProcessResult) -> int:
    return 1 + len([event for event in result.all_events if event.is_step_up_for_retry])


@pytest.mark.parametrize(
    ("fault", "expected_tries", "expected_requests"),
    [
        pytest.param("status:401", 1, 1, id="token refused"),
        pytest.param("status:403", 1, 1, id="no permission"),
        pytest.param("status:422", 1, 1, id="request refused"),
        pytest.param("status:429,retry-after=3600", 1, 1, id="told to come back in an hour"),
        pytest.param("cursor-loop,from=2", 1, 3, id="cursor loop, repeated once"),
        pytest.param("html", 1, 3, id="no page, asked until time is up"),
        pytest.param("status:503", 2, 6, id="unavailable, asked until time is up, twice"),
    ],
)
def test_only_what_may_pass_is_tried_again(
    instance: dg.DagsterInstance, warehouse_url: str, fault: str, expected_tries: int, expected_requests: int
) -> None:
    with faulty_api(things(1, 4)) as api:
        api.set_faults(fault)
        result = materialize(instance, warehouse_url, source(api.url, retry=IMPATIENT))
        requests = api.arrived()

    assert not result.success
    assert (tries(result), requests) == (expected_tries, expected_requests)


def test_table_of_another_shape_is_not_tried_again_and_nothing_is_requested(
    instance: dg.DagsterInstance, warehouse_url: str
) -> None:
    execute(warehouse_url, "create schema demo", "create table demo.thing (id text primary key, amount text)")

    with faulty_api(things(1, 2)) as api:
        result = materialize(instance, warehouse_url, source(api.url))
        requests = api.arrived()

    assert not result.success
    assert (tries(result), requests) == (1, 0)


def test_retries_of_requests_are_in_the_log_and_the_metadata_of_a_run(
    warehouse_url: str, dagster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the instance as it is shipped: the line stands with the run's events, where the UI shows it."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url.replace("postgresql://", "postgresql+psycopg2://", 1))

    with faulty_api(things(1, 4)) as api, dg.DagsterInstance.from_config(str(CHECKOUT)) as instance:
        api.set_faults("status:429,at=2,retry-after=7")
        result = materialize(instance, warehouse_url, source(api.url))
        told = [
            entry.message for entry in instance.all_logs(result.run_id) if "attempt" in entry.message and not entry.dagster_event
        ]

    assert told == [
        "reading demo:thing after cursor 'Mg': attempt 1 failed with status 429 (Too Many Requests), saying "
        '\'{"summary":"Too Many Requests"}\'; retrying in 7.0 s'
    ]
    [materialization] = result.asset_materializations_for_node("demo__thing")
    numbers = {name: materialization.metadata[name].value for name in ("requests", "retries", "rate_limit_seconds")}
    assert numbers == {"requests": 4, "retries": 1, "rate_limit_seconds": 7.0}


GOOD, BAD = [record("a")], [record("b", data={"amount": "none"}), record("c")]
QUEUED = replace(THING, source=SourceDeclaration("sequin_consumer", queue=Queue("c1")))
LISTED = replace(THING, observes_time=True)


@dataclass
class Sweeping(ListSource):
    """Lists nothing of what is there, and then fails."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield replace(page_of([], "1"), listed=Listed("s1", 20))
        yield replace(page_of([], "2"), listed=Listed("s1", 20, is_complete=True))
        raise SourceUnavailable("the source of this test broke off")


@pytest.mark.parametrize(
    ("asset", "first", "failing", "name", "told"),
    [
        pytest.param(
            build_asset(THING, retry_policy=AT_ONCE),
            ListSource([GOOD]),
            ListSource([GOOD, BAD, []], breaks_at=2),
            "open_rejects",
            "1 open reject (`b`: column 'amount' (path $.amount, bigint) found the string 'none', where a number",
            id="rejects of a collection",
        ),
        pytest.param(
            build_queue_asset([QUEUED], retry_policy=AT_ONCE),
            ListSource([GOOD], can_reread=False),
            ListSource([BAD, []], can_reread=False, breaks_at=1),
            "open_rejects",
            "1 open reject (`b`: column 'amount' (path $.amount, bigint) found the string 'none', where a number",
            id="rejects of a queue",
        ),
        pytest.param(
            build_asset(LISTED, retry_policy=AT_ONCE),
            ListSource([[record(f"r{number}") for number in range(120)]]),
            Sweeping([]),
            "deletes_within_limit",
            "sync 's1': a complete listing did not have 120 of 120 rows of demo/thing that are not deleted (100%)",
            id="held deletes",
        ),
    ],
)
def test_what_a_run_left_waiting_before_it_failed_at_its_source_turns_its_check_red(
    instance: dg.DagsterInstance,
    warehouse_url: str,
    asset: dg.AssetsDefinition,
    first: Source,
    failing: Source,
    name: str,
    told: str,
) -> None:
    materialize(instance, warehouse_url, first, asset=asset)

    failed = materialize(instance, warehouse_url, failing, asset=asset)

    key = dg.AssetCheckKey(dg.AssetKey(["demo", "thing"]), name)
    (last,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert isinstance(last.evaluation, dg.AssetCheckEvaluation)
    assert (failed.success, last.evaluation.passed, last.run_id) == (False, False, failed.run_id)
    assert str(last.evaluation.description).startswith(told)


def test_where_the_ledger_cannot_be_read_either_each_check_stays_as_it_stood(
    instance: dg.DagsterInstance, warehouse_url: str
) -> None:
    materialize(instance, warehouse_url, ListSource([GOOD]))

    failed = materialize(instance, warehouse_url, Locked([], url=warehouse_url))

    checks = {check.check_name: check.passed for check in failed.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(("conservation", "drift", "open_rejects", "required_columns"), True)


@dataclass
class Locked(ListSource):
    """Fails, and with it the ledger."""

    url: str = ""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        execute(self.url, "alter table sequin_pipeline.rejects rename to gone")
        yield from ()
        raise SourceRefused("the token is refused")
