"""Freshness: judged by what the ledger says of live runs, against the ticks of the schedule."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.freshness import build_freshness, due_since
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, WarehouseResource
from sequin_pipeline.sources import SourceIdentity

MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
PLAN = Collection("stripe", "plan", TableName("stripe", "plan"), MONTHS)
LEDGER = Ledger("stripe.plan", "stripe/plan")
TICK = datetime(2024, 5, 2, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


@pytest.fixture
def warehouse(warehouse_url: str) -> WarehouseResource:
    """With a ledger that knows the table and no run."""
    warehouse = WarehouseResource(url=warehouse_url)
    with warehouse.open().connect() as connection:
        migrate(connection)
        LEDGER.register_table(connection, SourceIdentity("list", "http://demo"), on_delete="mark", row_count=0)
    return warehouse


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def run_at(warehouse: WarehouseResource, run_id: str, *, mode: str, ended_at: datetime | None) -> None:
    """A run of the ledger that showed life just now, or ended then."""
    with warehouse.open().connect() as connection:
        LEDGER.show_life(connection, run_id, mode=mode, seconds=0, pages=1, records=1, has_ended=ended_at is not None)
        if ended_at is not None:
            connection.execute("update sequin_pipeline.runs set ended_at = %s where run_id = %s", (ended_at, run_id))


def look(
    instance: dg.DagsterInstance, warehouse: WarehouseResource, now: datetime, *, cursor: str | None = None
) -> tuple[list[tuple[bool, str, str | None]], str | None]:
    """What the sensor evaluates at that time, and its cursor."""
    freshness = build_freshness("stripe", [PLAN], cron="*/15 * * * *", clock=lambda: now)
    (sensor,) = freshness.sensors or []
    assert isinstance(sensor, dg.SensorDefinition)
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={WAREHOUSE: warehouse})
    with context:
        result = sensor.evaluate_tick(context)
    events = [event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert all((event.asset_key, event.check_name) == (dg.AssetKey(["stripe", "plan"]), "freshness") for event in events)
    return [(event.passed, event.severity.value, event.description) for event in events], result.cursor


@pytest.mark.parametrize(
    ("cron", "now", "since"),
    [
        ("*/15 * * * *", "2024-05-02T12:14", "2024-05-02T11:45"),
        ("*/15 * * * *", "2024-05-02T12:15", "2024-05-02T12:00"),
        ("0 6 * * *", "2024-05-02T06:59", "2024-05-01T06:00"),
        ("0 6 * * *", "2024-05-02T07:00", "2024-05-02T06:00"),
        ("0 6 * * 1-5", "2024-05-05T12:00", "2024-05-03T06:00"),
        ("@hourly", "2024-05-02T12:30", "2024-05-02T11:00"),
    ],
)
def test_a_run_has_an_hour_or_its_interval_to_come_to_its_end(cron: str, now: str, since: str) -> None:
    assert due_since(cron, datetime.fromisoformat(f"{now}Z")) == datetime.fromisoformat(f"{since}Z")


def test_a_live_run_that_ended_in_time_is_fresh(instance: dg.DagsterInstance, warehouse: WarehouseResource) -> None:
    run_at(warehouse, "live-1", mode="live", ended_at=TICK + timedelta(minutes=2))

    evaluated, _ = look(instance, warehouse, TICK + QUARTER)

    assert evaluated == [(True, "ERROR", "the last live run ended at 2024-05-02 12:02Z")]


def test_a_run_that_does_not_happen_turns_it_red(instance: dg.DagsterInstance, warehouse: WarehouseResource) -> None:
    run_at(warehouse, "live-1", mode="live", ended_at=TICK - timedelta(minutes=2))

    evaluated, _ = look(instance, warehouse, TICK + QUARTER)

    said = "the last live run ended at 2024-05-02 11:58Z, one should have since 2024-05-02 12:00Z"
    assert evaluated == [(False, "ERROR", said)]


def test_a_backfill_does_not_turn_it_green(instance: dg.DagsterInstance, warehouse: WarehouseResource) -> None:
    run_at(warehouse, "backfill-1", mode="backfill", ended_at=TICK + timedelta(minutes=14))

    evaluated, _ = look(instance, warehouse, TICK + QUARTER)

    assert evaluated == [(False, "ERROR", "no live run has ended yet, one should have since 2024-05-02 12:00Z")]


def test_a_late_run_that_is_at_work_is_a_warning(instance: dg.DagsterInstance, warehouse: WarehouseResource) -> None:
    run_at(warehouse, "first-load", mode="live", ended_at=None)

    evaluated, _ = look(instance, warehouse, TICK + QUARTER)

    said = "no live run has ended yet, one should have since 2024-05-02 12:00Z; run first-load is at work"
    assert evaluated == [(False, "WARN", said)]


def test_the_sensor_speaks_only_when_there_is_something_new(instance: dg.DagsterInstance, warehouse: WarehouseResource) -> None:
    run_at(warehouse, "live-1", mode="live", ended_at=TICK + timedelta(minutes=2))

    first, cursor = look(instance, warehouse, TICK + QUARTER)
    again, cursor = look(instance, warehouse, TICK + QUARTER, cursor=cursor)
    late, cursor = look(instance, warehouse, TICK + 2 * QUARTER, cursor=cursor)
    still_late, _ = look(instance, warehouse, TICK + 4 * QUARTER, cursor=cursor)

    assert [passed for passed, *_ in first] == [True]
    assert again == []
    assert [passed for passed, *_ in late] == [False]
    assert still_late == []


def test_the_sensor_speaks_again_after_a_materialization_since_dagster_hides_older_verdicts(
    instance: dg.DagsterInstance, warehouse: WarehouseResource
) -> None:
    run_at(warehouse, "backfill-1", mode="backfill", ended_at=TICK)
    _, cursor = look(instance, warehouse, TICK + QUARTER)

    @dg.asset(key=["stripe", "plan"])
    def backfilled() -> None: ...

    assert dg.materialize([backfilled], instance=instance).success
    again, cursor = look(instance, warehouse, TICK + QUARTER, cursor=cursor)
    third, _ = look(instance, warehouse, TICK + QUARTER, cursor=cursor)

    assert [passed for passed, *_ in again] == [False]
    assert third == []


def test_the_check_can_be_executed_by_hand(warehouse: WarehouseResource) -> None:
    run_at(warehouse, "live-1", mode="live", ended_at=TICK + timedelta(minutes=2))
    freshness = build_freshness("stripe", [PLAN], cron="*/15 * * * *", clock=lambda: TICK + QUARTER)
    assets = dg.Definitions(assets=[build_source(PLAN), build_asset(PLAN)])
    resources = dg.Definitions(resources={SOURCE: object(), IO_MANAGER: dg.mem_io_manager, WAREHOUSE: warehouse})
    job = dg.define_asset_job(
        "by_hand", selection=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(["stripe", "plan"]), "freshness"))
    )

    result = (
        dg.Definitions.merge(assets, freshness, resources, dg.Definitions(jobs=[job]))
        .resolve_job_def("by_hand")
        .execute_in_process()
    )

    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.description) == (True, "the last live run ended at 2024-05-02 12:02Z")


def test_the_sensor_starts_stopped_as_the_schedule_does() -> None:
    (sensor,) = build_freshness("help-scout", [PLAN], cron="@hourly").sensors or []

    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.name == "help_scout_freshness"
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
