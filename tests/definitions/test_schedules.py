"""Ticks of a provider's schedule: which runs they ask for, from where the live cursors stand."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from sequin_pipeline.assets import build_asset, build_source_spec
from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.resources import WarehouseResource
from sequin_pipeline.schedules import build_job_and_schedule

MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
COLLECTIONS = tuple(Collection("stripe", name, TableName("stripe", name), MONTHS) for name in ("charge", "invoice", "plan"))
TICK = datetime(2024, 5, 2, 12, 15, tzinfo=UTC)


@dg.asset(key=["stripe", "revenue"], deps=[["stripe", "invoice"]], group_name="stripe")
def revenue() -> None: ...


@dg.asset(key=["finance", "ledger"], deps=[["stripe", "invoice"]], group_name="finance")
def finance() -> None: ...


def tick(times: Mapping[str, datetime | None], at: datetime = TICK) -> dg.SkipReason | list[dg.RunRequest]:
    runs = build_job_and_schedule("stripe", COLLECTIONS, cron="*/15 * * * *", cursor_times=lambda warehouse: times)
    assets = [*map(build_source_spec, COLLECTIONS), *map(build_asset, COLLECTIONS), revenue, finance]
    resources = {"source": object(), "io_manager": dg.mem_io_manager, "warehouse": WarehouseResource(url="postgresql://")}
    definitions = dg.Definitions.merge(runs, dg.Definitions(assets=assets, resources=resources))
    context = dg.build_schedule_context(
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources={"warehouse": WarehouseResource(url="postgresql://")},
    )
    with context:
        evaluated = definitions.resolve_schedule_def("sync_stripe_schedule").evaluate_tick(context)
    return list(evaluated.run_requests or [])


def asked(requests: list[dg.RunRequest]) -> list[tuple[list[str], Mapping[str, str]]]:
    return [
        (
            [key.to_user_string() for key in request.asset_selection or []],
            {
                name: value
                for name, value in request.tags.items()
                if name.startswith(("dagster/asset_partition_range", "sequin_pipeline/"))
            },
        )
        for request in requests
    ]


def test_the_first_tick_is_the_initial_load_from_the_first_window() -> None:
    requests = tick({})

    assert asked(requests) == [
        (
            ["stripe/charge", "stripe/invoice", "stripe/plan", "stripe/revenue"],
            {
                "dagster/asset_partition_range_start": "2024-01",
                "dagster/asset_partition_range_end": "2024-05",
                "sequin_pipeline/mode": "live",
            },
        )
    ]


def test_collections_with_the_same_range_share_a_run() -> None:
    requests = tick(
        {
            "stripe/charge": datetime(2024, 5, 2, 12, tzinfo=UTC),
            "stripe/invoice": datetime(2024, 4, 30, tzinfo=UTC),
            "stripe/plan": datetime(2024, 5, 1, 9, tzinfo=UTC),
        }
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


def test_the_present_window_is_that_of_the_ticks_time() -> None:
    times = {f"stripe/{collection.name}": datetime(2024, 5, 31, 23, tzinfo=UTC) for collection in COLLECTIONS}

    before = tick(times, datetime(2024, 5, 31, 23, 45, tzinfo=UTC))
    after = tick(times, datetime(2024, 6, 1, tzinfo=UTC))

    assert [request.tags["dagster/asset_partition_range_end"] for request in (*before, *after)] == ["2024-05", "2024-06"]


def test_a_schedule_starts_stopped_and_names_its_job() -> None:
    (schedule,) = (
        build_job_and_schedule("help-scout", COLLECTIONS, cron="0 * * * *", cursor_times=lambda warehouse: {}).schedules or []
    )

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.name == "sync_help_scout_schedule"
    assert schedule.job_name == "sync_help_scout"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.execution_timezone == "UTC"
