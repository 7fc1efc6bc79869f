"""Ticks of a provider's schedule: which runs they ask for, from where the live cursors stand."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.status import CompletedRun
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, LiveState, WarehouseResource, live_state
from sequin_pipeline.orchestration.schedules import build_job_and_schedule
from sequin_pipeline.orchestration.table_checks import build_table_checks
from sequin_pipeline.orchestration.unmarked_windows import times_to_ask_from
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.windows import KeyRange, live_range

pytestmark = pytest.mark.slow

MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
COLLECTIONS = tuple(Collection("stripe", name, TableName("stripe", name), MONTHS) for name in ("charge", "invoice", "plan"))
TICK = datetime(2024, 5, 2, 12, 15, tzinfo=UTC)


@dg.asset(key=["stripe", "revenue"], deps=[["stripe", "invoice"]], group_name="stripe")
def revenue() -> None: ...


@dg.asset(key=["finance", "ledger"], deps=[["stripe", "invoice"]], group_name="finance")
def finance() -> None: ...


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """A stored one: a tick opens its instance by reference."""
    with dg.instance_for_test() as instance:
        yield instance


def evaluate(
    instance: dg.DagsterInstance,
    state: LiveState,
    *,
    at: datetime = TICK,
    clock: datetime = TICK,
    of: tuple[Collection, ...] = COLLECTIONS,
) -> tuple[list[dg.RunRequest], str | None]:
    runs = build_job_and_schedule(
        of, cron="*/15 * * * *", skip_empty=False, read_state=lambda warehouse: state, clock=lambda: clock
    )
    assets = [*map(build_source, COLLECTIONS), *map(build_asset, COLLECTIONS), revenue, finance]
    resources = {SOURCE: object(), IO_MANAGER: dg.mem_io_manager, WAREHOUSE: WarehouseResource(url="postgresql://")}
    definitions = dg.Definitions.merge(runs, build_table_checks(COLLECTIONS), dg.Definitions(assets=assets, resources=resources))
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources={WAREHOUSE: WarehouseResource(url="postgresql://")},
    )
    with context:
        evaluated = definitions.resolve_schedule_def("sync_stripe_schedule").evaluate_tick(context)
    return list(evaluated.run_requests or []), evaluated.skip_message


def tick(instance: dg.DagsterInstance, times: Mapping[str, datetime | None], at: datetime = TICK) -> list[dg.RunRequest]:
    requests, _ = evaluate(instance, LiveState(times), at=at)
    return requests


def asked(requests: list[dg.RunRequest]) -> list[tuple[list[str], Mapping[str, str]]]:
    return [
        (
            [key.to_user_string() for key in request.asset_selection or []],
            {
                name: value
                for name, value in request.tags.items()
                if name.startswith(("dagster/asset_partition_range", "sequin_pipeline/", ".dagster/sequin"))
            },
        )
        for request in requests
    ]


def test_the_first_tick_is_the_initial_load_from_the_first_window(instance: dg.DagsterInstance) -> None:
    requests = tick(instance, {})

    assert asked(requests) == [
        (
            ["stripe/charge", "stripe/invoice", "stripe/plan", "stripe/revenue"],
            {
                "dagster/asset_partition_range_start": "2024-01",
                "dagster/asset_partition_range_end": "2024-05",
                "sequin_pipeline/mode": "live",
                ".dagster/sequin_pipeline_first_load": "true",
            },
        )
    ]


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        pytest.param(
            LiveState({}), [(["invoice", "plan"], None), (["charge"], "1"), (["charge"], "2"), (["charge"], "3")], id="first"
        ),
        pytest.param(
            LiveState({}, shards_left={"stripe/charge": (2, 4)}),
            [(["invoice", "plan"], None), (["charge"], "2"), (["charge"], "4")],
            id="begun with another number",
        ),
        pytest.param(LiveState({"stripe/charge": None}), [(["charge", "invoice", "plan"], None)], id="loaded"),
        pytest.param(
            LiveState({}, completed_runs={"stripe/charge": CompletedRun("run", TICK)}),
            [(["charge", "invoice", "plan"], None)],
            id="read and empty",
        ),
    ],
)
def test_a_first_load_that_is_divided_is_a_run_for_each_shard_that_is_left(
    instance: dg.DagsterInstance, state: LiveState, runs: list[tuple[list[str], str | None]]
) -> None:
    divided = (replace(COLLECTIONS[0], shards=3), *COLLECTIONS[1:])

    requests, _ = evaluate(instance, state, of=divided)

    found = [
        (
            [key.path[-1] for key in request.asset_selection or () if key.path[-1] != "revenue"],
            request.tags.get("sequin_pipeline/shard"),
        )
        for request in requests
    ]
    assert sorted(found, key=str) == sorted(runs, key=str)
    assert len({request.run_key for request in requests}) == len(requests)


def test_collections_with_the_same_range_share_a_run(instance: dg.DagsterInstance) -> None:
    requests = tick(
        instance,
        {
            "stripe/charge": datetime(2024, 5, 2, 12, tzinfo=UTC),
            "stripe/invoice": datetime(2024, 4, 30, tzinfo=UTC),
            "stripe/plan": datetime(2024, 5, 1, 9, tzinfo=UTC),
        },
    )

    assert asked(requests) == [
        (
            ["stripe/charge", "stripe/plan"],
            {
                "dagster/asset_partition_range_start": "2024-05",
                "dagster/asset_partition_range_end": "2024-05",
                "sequin_pipeline/mode": "live",
            },
        ),
        (
            ["stripe/invoice", "stripe/revenue"],
            {
                "dagster/asset_partition_range_start": "2024-04",
                "dagster/asset_partition_range_end": "2024-05",
                "sequin_pipeline/mode": "live",
            },
        ),
    ]


def test_a_tick_asks_for_the_checks_of_the_steps_and_not_for_those_of_whole_tables(instance: dg.DagsterInstance) -> None:
    (request,) = tick(instance, {})

    assert {(key.asset_key.to_user_string(), key.name) for key in request.asset_check_keys or []} == {
        (f"stripe/{collection.name}", name)
        for collection in COLLECTIONS
        for name in ("conservation", "open_rejects", "required_columns", "drift")
    }


def test_the_present_window_is_that_of_the_ticks_time(instance: dg.DagsterInstance) -> None:
    times = {f"stripe/{collection.name}": datetime(2024, 5, 31, 23, tzinfo=UTC) for collection in COLLECTIONS}

    before = tick(instance, times, datetime(2024, 5, 31, 23, 45, tzinfo=UTC))
    after = tick(instance, times, datetime(2024, 6, 1, tzinfo=UTC))

    assert [request.tags["dagster/asset_partition_range_end"] for request in (*before, *after)] == ["2024-05", "2024-06"]


STARTING, STARTED, FAILURE = dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize(
    ("status", "mode", "tags", "ended_ago", "is_skipped"),
    [
        pytest.param(STARTING, "live", {}, timedelta(hours=3), True, id="about to start"),
        pytest.param(STARTED, "live", {}, timedelta(), True, id="started just now"),
        pytest.param(
            STARTED, "live", {}, timedelta(hours=3), True, id="started long ago: whether it is dead is the sensor's to say"
        ),
        pytest.param(STARTED, "backfill", {}, timedelta(), False, id="a backfill"),
        pytest.param(FAILURE, "live", {}, timedelta(), False, id="failed"),
        pytest.param(FAILURE, "live", {"dagster/will_retry": "false"}, timedelta(), False, id="failed, and is not run again"),
        pytest.param(FAILURE, "live", {"dagster/will_retry": "true"}, timedelta(), True, id="failed, and its retry is to come"),
        pytest.param(
            FAILURE,
            "live",
            {"dagster/will_retry": "true", "dagster/auto_retry_run_id": "another"},
            timedelta(),
            False,
            id="failed, and its retry has come and gone",
        ),
        pytest.param(
            FAILURE, "live", {"dagster/will_retry": "true"}, timedelta(minutes=3), False, id="failed, and its retry does not come"
        ),
        pytest.param(FAILURE, "backfill", {"dagster/will_retry": "true"}, timedelta(), False, id="a backfill that is run again"),
    ],
)
def test_a_tick_passes_while_a_live_run_is_at_work_or_about_to_be_retried(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    mode: str,
    tags: Mapping[str, str],
    ended_ago: timedelta,
    *,
    is_skipped: bool,
) -> None:
    run = instance.create_run_for_job(known_job(), status=status, tags={"sequin_pipeline/mode": mode, **tags})

    requests, skipped = evaluate(instance, LiveState({}), clock=datetime.now(UTC) + ended_ago)

    found = instance.get_run_by_id(run.run_id)
    instance.delete_run(run.run_id)
    assert bool(requests) is not is_skipped
    assert skipped == (f"run {run.run_id} is at work on stripe and will read to the end of the stream" if is_skipped else None)
    assert found is not None
    assert found.status == status


DAYS = Windows("day", datetime(2024, 1, 1, tzinfo=UTC))
ENDED_AT = datetime(2024, 5, 2, 12, tzinfo=UTC)
SUCCESS = dg.DagsterRunStatus.SUCCESS
EVERY_DAY = ("2024-01-01", "2024-05-02")


@pytest.mark.parametrize(
    ("cursor_at", "status", "windows", "ended", "expected"),
    [
        pytest.param(None, SUCCESS, EVERY_DAY, ENDED_AT, ("2024-05-02", "2024-05-02"), id="empty"),
        pytest.param(
            datetime(2024, 1, 9, tzinfo=UTC), SUCCESS, EVERY_DAY, ENDED_AT, ("2024-05-02", "2024-05-02"), id="quiet since January"
        ),
        pytest.param(
            None,
            SUCCESS,
            EVERY_DAY,
            datetime(2024, 5, 2, 0, 30, tzinfo=UTC),
            ("2024-05-01", "2024-05-02"),
            id="started at midnight",
        ),
        pytest.param(
            datetime(2024, 1, 9, tzinfo=UTC),
            SUCCESS,
            ("2024-01-09", "2024-04-29"),
            ENDED_AT,
            ("2024-04-29", "2024-05-02"),
            id="started days after it was asked for",
        ),
        pytest.param(
            None,
            SUCCESS,
            ("2024-01-09", "2024-04-29"),
            ENDED_AT,
            ("2024-04-29", "2024-05-02"),
            id="started days after it was asked for, and is empty",
        ),
        pytest.param(
            datetime(2024, 5, 2, 3, tzinfo=UTC),
            SUCCESS,
            EVERY_DAY,
            datetime(2024, 4, 30, tzinfo=UTC),
            ("2024-05-02", "2024-05-02"),
            id="has read what came after its start",
        ),
        pytest.param(datetime(2024, 1, 9, tzinfo=UTC), FAILURE, EVERY_DAY, ENDED_AT, EVERY_DAY, id="failed in Dagster"),
        pytest.param(None, FAILURE, EVERY_DAY, ENDED_AT, EVERY_DAY, id="failed in Dagster, and is empty"),
        pytest.param(
            datetime(2024, 1, 9, tzinfo=UTC), SUCCESS, EVERY_DAY, None, ("2024-01-08", "2024-05-02"), id="not in the ledger"
        ),
        pytest.param(None, SUCCESS, EVERY_DAY, None, EVERY_DAY, id="not in the ledger, and no cursor either"),
        pytest.param(
            datetime(2024, 1, 9, tzinfo=UTC),
            SUCCESS,
            ("2024-01", "2024-05"),
            ENDED_AT,
            ("2024-01-08", "2024-05-02"),
            id="its windows were months",
        ),
    ],
)
def test_a_quiet_collection_asks_for_what_came_since_its_last_completed_run(
    instance: dg.DagsterInstance,
    cursor_at: datetime | None,
    status: dg.DagsterRunStatus,
    windows: tuple[str, str],
    ended: datetime | None,
    expected: tuple[str, str],
) -> None:
    plan = replace(COLLECTIONS[2], windows=DAYS)
    run = instance.create_run_for_job(
        known_job(),
        status=status,
        tags={
            "sequin_pipeline/mode": "live",
            "dagster/asset_partition_range_start": windows[0],
            "dagster/asset_partition_range_end": windows[1],
        },
    )
    completed = CompletedRun(run.run_id, ended) if ended else CompletedRun("another", ENDED_AT)
    state = LiveState({"stripe/plan": cursor_at}, completed_runs={"stripe/plan": completed})

    times = times_to_ask_from(instance, "sync_stripe", [plan], state)

    instance.delete_run(run.run_id)
    assert live_range(DAYS, times["stripe/plan"], TICK) == KeyRange(*expected)


def test_an_empty_collection_that_was_read_is_no_first_load(instance: dg.DagsterInstance) -> None:
    completed = {f"stripe/{collection.name}": CompletedRun("run", ENDED_AT) for collection in COLLECTIONS}

    requests, _ = evaluate(instance, LiveState({}, completed_runs=completed))

    assert [".dagster/sequin_pipeline_first_load" in request.tags for request in requests] == [False]


def known_job() -> dg.JobDefinition:
    job = dg.define_asset_job("sync_stripe", selection=[revenue])
    return dg.Definitions(assets=[revenue], jobs=[job]).resolve_job_def("sync_stripe")


def test_a_fresh_warehouse_has_no_cursors_and_no_runs(warehouse_url: str) -> None:
    assert live_state(WarehouseResource(url=warehouse_url)) == LiveState({})


def test_the_last_run_that_ended_is_the_completed_one_and_neither_a_backfill_nor_one_at_work(warehouse_url: str) -> None:
    warehouse = WarehouseResource(url=warehouse_url)
    live_state(warehouse)
    ledger = Ledger("stripe.plan", "stripe/plan")
    with warehouse.open().connect() as connection:
        ledger.register_table(connection, SourceIdentity("sequin", "https://api.example.com"), on_delete="mark", row_count=0)
        for run_id, mode, has_ended, hour in (
            ("older", "live", True, 8),
            ("completed", "live", True, 9),
            ("backfill", "backfill", True, 10),
            ("at work", "live", False, 11),
        ):
            ledger.show_life(connection, run_id, mode=mode, seconds=0, pages=1, records=1, has_ended=has_ended)
            connection.execute(
                "update sequin_pipeline.runs set started_at = %(at)s, ended_at = case when ended_at is not null then %(at)s end"
                " where run_id = %(run)s",
                {"at": datetime(2024, 5, 2, hour, tzinfo=UTC), "run": run_id},
            )

    assert live_state(warehouse).completed_runs == {"stripe/plan": CompletedRun("completed", datetime(2024, 5, 2, 9, tzinfo=UTC))}


def test_a_schedule_starts_stopped_and_names_its_job() -> None:
    tickets = Collection("help-scout", "ticket", TableName("help_scout", "ticket"), MONTHS)

    (schedule,) = build_job_and_schedule([tickets], cron="0 * * * *").schedules or []

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.name == "sync_help_scout_schedule"
    assert schedule.job_name == "sync_help_scout"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.execution_timezone == "UTC"
