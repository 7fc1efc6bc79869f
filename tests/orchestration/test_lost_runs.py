"""Runs whose process or machine is gone: by which looks they are taken for lost, and what is done with them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest

from sequin_pipeline.ledger.processes import Process, enter
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.orchestration.lost_runs import Watch, build_lost_runs_sensor
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.postgres.warehouse import Warehouse

NOON = datetime(2024, 5, 2, 12, tzinfo=UTC)
ID = UUID(int=1)
LIMIT = timedelta(seconds=90)


def looks(*moments: tuple[float, float]) -> bool:
    """Whether a process is silent after looks at these seconds, each of which found a sign of life of the other seconds."""
    watch = Watch()
    for looked_at, beat_at in moments:
        process = Process(ID, "run", "worker-2", 7, NOON + timedelta(seconds=beat_at), LIMIT, is_lost=False)
        watch = Watch.from_json(watch.look([process], NOON + timedelta(seconds=looked_at)).to_json())
    return watch.is_silent(process)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        pytest.param([(0, 0)], False, id="the first look"),
        pytest.param([(600, 0)], False, id="the first look, long after"),
        pytest.param([(0, 0), (30, 30), (60, 60), (90, 90), (120, 120)], False, id="alive"),
        pytest.param([(0, 0), (30, 0), (60, 0)], False, id="not yet"),
        pytest.param([(0, 0), (30, 0), (60, 0), (90, 0)], True, id="dead"),
        pytest.param([(5, 0), (35, 0), (65, 0), (94, 0)], False, id="counted from the first look, not from the last life"),
        pytest.param([(0, 0), (30, 0), (60, 60), (90, 60), (120, 60)], False, id="life in between"),
        pytest.param([(0, 0), (400, 0)], False, id="the warehouse was down, or the daemon, or all slept"),
        pytest.param([(0, 0), (400, 0), (430, 410), (460, 440)], False, id="and it lives"),
        pytest.param([(0, 0), (400, 0), (430, 0), (460, 0)], False, id="and has still time to show it"),
        pytest.param([(0, 0), (400, 0), (430, 0), (460, 0), (490, 0)], True, id="and it is dead"),
        pytest.param([(0, 0), (85, 0), (91, 0)], True, id="looks that come late"),
    ],
)
def test_a_process_is_lost_when_every_look_found_the_same_sign_of_life_for_that_long(
    moments: list[tuple[float, float]], *, expected: bool
) -> None:
    assert looks(*moments) is expected


def test_each_process_says_itself_after_how_long_it_may_be_taken_for_lost() -> None:
    watch, found = Watch(), []
    for seconds in (0, 30, 60):
        found = [
            Process(UUID(int=limit), "run", "worker", 1, NOON, timedelta(seconds=limit), is_lost=False) for limit in (60, 90)
        ]
        watch = watch.look(found, NOON + timedelta(seconds=seconds))

    assert [watch.is_silent(process) for process in found] == [True, False]


def test_a_process_that_has_left_is_forgotten() -> None:
    process = Process(ID, "run", "worker", 1, NOON, LIMIT, is_lost=False)

    watch = Watch().look([process], NOON).look([], NOON + timedelta(seconds=30))

    assert watch == Watch(NOON + timedelta(seconds=30), {})


@dg.op
def reading() -> None: ...


@dg.job(name="sync_stripe")
def job() -> None:
    reading()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("run_retries: {enabled: true, max_retries: 1}\ntelemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def warehouse(warehouse_url: str) -> Warehouse:
    with Warehouse(warehouse_url).connect() as connection:
        migrate(connection)
    return Warehouse(warehouse_url)


STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
CANCELING, SUCCESS = dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.SUCCESS


def begin(warehouse: Warehouse, run_id: str, *, host: str = "worker-2", number: int = 1) -> None:
    """A process that enters, and shows no life from then on; no time at all is its limit."""
    with warehouse.connect() as connection:
        enter(connection, UUID(int=number), run_id, host=host, pid=40 + number, lost_after=timedelta())


def live(warehouse: Warehouse, number: int) -> None:
    with warehouse.connect() as connection:
        connection.execute(
            "update sequin_pipeline.processes set lost_after = '1 hour' where process_id = %s", (UUID(int=number),)
        )


def hosts(warehouse: Warehouse) -> list[tuple[object, ...]]:
    with warehouse.connect() as connection:
        return connection.execute("select host, lost_at is not null from sequin_pipeline.processes order by pid").fetchall()


def look(instance: dg.DagsterInstance, warehouse: Warehouse | str, *, cursor: str | None = None) -> tuple[str, str]:
    """Returns what the sensor says, and its cursor."""
    url = warehouse if isinstance(warehouse, str) else warehouse.url
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={WAREHOUSE: WarehouseResource(url=url)}, sensor_name="end_lost_runs"
    ) as context:
        evaluated = build_lost_runs_sensor(90.0).evaluate_tick(context)
    return str(evaluated.skip_message), str(evaluated.cursor)


def started(instance: dg.DagsterInstance, *, mode: str = "live", status: dg.DagsterRunStatus = STARTED) -> dg.DagsterRun:
    return instance.create_run_for_job(job, status=status, tags={"sequin_pipeline/mode": mode})


@pytest.mark.parametrize("mode", ["live", "backfill"])
def test_a_lost_run_is_ended_and_retried_and_gives_its_places_in_the_pool_back(
    instance: dg.DagsterInstance, warehouse: Warehouse, mode: str
) -> None:
    run = started(instance, mode=mode)
    pool = instance.event_log_storage
    pool.set_concurrency_slots("records_api", 1)
    pool.claim_concurrency_slot("records_api", run.run_id, "stripe__plan")
    pool.claim_concurrency_slot("records_api", run.run_id, "stripe__charge")
    begin(warehouse, run.run_id)

    said, _ = look(instance, warehouse)

    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert (ended.status, ended.tags["dagster/will_retry"]) == (FAILURE, "true")
    places = pool.get_concurrency_info("records_api")
    assert (places.claimed_slots, places.pending_steps) == ([], [])
    assert said == "1 processes are at work, of 1 runs; 1 runs were ended as lost"
    (event,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert event.message == (
        "The run is taken for dead: process 41 on 'worker-2' has shown no life for 0 seconds. The process or its machine ended, or hangs; "
        "what it committed stays, its places in the pool are free, and the next run continues with the first batch that was not committed."
    )


def test_a_run_that_lost_one_of_its_machines_is_ended_and_the_others_are_told(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    run = started(instance)
    begin(warehouse, run.run_id, host="lost", number=1)
    begin(warehouse, run.run_id, host="well", number=2)
    live(warehouse, 2)

    look(instance, warehouse)

    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == FAILURE
    assert ("well", True) in hosts(warehouse)


@pytest.mark.parametrize(
    ("status", "left"),
    [
        pytest.param(CANCELING, [("worker-2", False)], id="run monitoring ends it"),
        pytest.param(SUCCESS, [("worker-2", True)], id="succeeded"),
        pytest.param(FAILURE, [("worker-2", True)], id="ended in the UI"),
        pytest.param(None, [("worker-2", False)], id="a run of another Dagster's"),
    ],
)
def test_only_runs_at_work_are_ended_and_processes_of_ended_runs_are_told_to_stop(
    instance: dg.DagsterInstance, warehouse: Warehouse, status: dg.DagsterRunStatus | None, left: list[tuple[str, bool]]
) -> None:
    run = started(instance, status=status) if status else None
    begin(warehouse, run.run_id if run else "of another Dagster")

    look(instance, warehouse)

    found = instance.get_run_by_id(run.run_id) if run else None
    assert found is None or found.status == status
    assert hosts(warehouse) == left


def test_a_process_that_does_not_hear_that_its_run_has_ended_is_forgotten(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    begin(warehouse, started(instance, status=SUCCESS).run_id)

    look(instance, warehouse)
    look(instance, warehouse)

    assert hosts(warehouse) == []


def test_a_run_that_shows_life_between_the_looks_and_the_verdict_goes_on(
    instance: dg.DagsterInstance, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(instance)
    begin(warehouse, run.run_id)
    asked = dg.DagsterInstance.get_runs

    def show_life_first(*args: object, **named: object) -> object:
        with warehouse.connect() as connection:
            connection.execute("update sequin_pipeline.processes set beat_at = clock_timestamp()")
        return asked(*args, **named)

    monkeypatch.setattr(dg.DagsterInstance, "get_runs", show_life_first)
    look(instance, warehouse)

    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == STARTED


def test_a_look_that_ended_before_it_told_dagster_is_taken_up_by_the_next(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    run = started(instance)
    begin(warehouse, run.run_id)
    live(warehouse, 1)
    with warehouse.connect() as connection:
        connection.execute("update sequin_pipeline.processes set lost_at = clock_timestamp()")

    look(instance, warehouse)

    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == FAILURE


@pytest.mark.parametrize("url", ["", "postgresql://127.0.0.1:1/nowhere"], ids=["no warehouse named", "the warehouse is down"])
def test_a_ledger_that_cannot_be_read_begins_the_looks_again(instance: dg.DagsterInstance, url: str) -> None:
    before = Watch().look([Process(ID, "run", "worker", 1, NOON, LIMIT, is_lost=False)], NOON).to_json()

    said, cursor = look(instance, url, cursor=before)

    assert said.startswith("the ledger cannot be read: ")
    assert Watch.from_json(cursor) == Watch()


def test_the_sensor_looks_three_times_within_the_limit_and_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = [build_lost_runs_sensor(seconds) for seconds in (90.0, 3.0, 1.0)]

    assert [sensor.minimum_interval_seconds for sensor in sensors] == [30, 1, 1]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}
