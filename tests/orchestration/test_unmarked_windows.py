"""Windows that a live run left unmarked are asked for again, however many runs of other collections have been since."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.ledger.status import CompletedRun
from sequin_pipeline.orchestration.resources import LiveState
from sequin_pipeline.orchestration.unmarked_windows import PAGE_RUNS, times_to_ask_from

MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
CHARGE, INVOICE, PLAN = (Collection("stripe", name, TableName("stripe", name), MONTHS) for name in ("charge", "invoice", "plan"))
JOB = "sync_stripe"
CURSOR_AT = datetime(2024, 6, 15, tzinfo=UTC)
SINCE_FEBRUARY = datetime(2024, 2, 1, 1, tzinfo=UTC)
FAILURE, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def ran(
    instance: dg.DagsterInstance, *collections: Collection, status: dg.DagsterRunStatus, first: str = "2024-02", **more: str
) -> None:
    """A live run of these collections, the newest so far."""
    tags = {
        **{f"sequin_pipeline/{name}": value for name, value in more.items()},
        "sequin_pipeline/mode": "live",
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": "2024-06",
    }
    selection = frozenset(dg.AssetKey([one.provider, one.name]) for one in collections)
    instance.add_run(dg.DagsterRun(job_name=JOB, status=status, tags=tags, asset_selection=selection))


@pytest.mark.parametrize("later", [0, PAGE_RUNS - 1, PAGE_RUNS, 3 * PAGE_RUNS])
def test_a_failed_run_behind_any_number_of_others_is_asked_for_from_its_first_window(
    instance: dg.DagsterInstance, later: int
) -> None:
    ran(instance, INVOICE, status=FAILURE)
    for _ in range(later):
        ran(instance, CHARGE, status=SUCCESS)

    times = times_to_ask_from(instance, JOB, [CHARGE, INVOICE], LiveState({CHARGE.label: CURSOR_AT, INVOICE.label: CURSOR_AT}))

    assert times == {CHARGE.label: CURSOR_AT, INVOICE.label: SINCE_FEBRUARY}


def test_a_run_of_one_shard_marks_nothing_by_having_succeeded(instance: dg.DagsterInstance) -> None:
    ran(instance, INVOICE, status=SUCCESS, shard="2")

    times = times_to_ask_from(instance, JOB, [INVOICE], LiveState({INVOICE.label: CURSOR_AT}))

    assert times == {INVOICE.label: SINCE_FEBRUARY}


def test_only_the_last_run_of_a_collection_counts(instance: dg.DagsterInstance) -> None:
    ran(instance, CHARGE, INVOICE, PLAN, status=FAILURE, first="2024-01")
    ran(instance, INVOICE, status=FAILURE)
    ran(instance, PLAN, status=SUCCESS)
    cursor_times = dict.fromkeys(["stripe/invoice", "stripe/plan"], CURSOR_AT)

    times = times_to_ask_from(instance, JOB, [CHARGE, INVOICE, PLAN], LiveState(cursor_times))

    assert times == {INVOICE.label: SINCE_FEBRUARY, PLAN.label: CURSOR_AT}


def test_a_run_that_begins_behind_the_cursor_moves_nothing(instance: dg.DagsterInstance) -> None:
    ran(instance, CHARGE, status=FAILURE, first="2024-06")
    cursor_times = {CHARGE.label: datetime(2024, 5, 1, tzinfo=UTC), PLAN.label: None}

    times = times_to_ask_from(instance, JOB, [CHARGE, PLAN], LiveState(cursor_times))

    assert times == {CHARGE.label: datetime(2024, 5, 1, tzinfo=UTC), PLAN.label: None}


def test_windows_between_the_end_of_a_long_run_and_its_cursor_are_asked_for(instance: dg.DagsterInstance) -> None:
    """It was asked for windows up to June, read on until August, and marked none of July."""
    ran(instance, CHARGE, status=SUCCESS)
    [run] = instance.get_runs()
    august = datetime(2024, 8, 3, tzinfo=UTC)
    state = LiveState({CHARGE.label: august}, completed_runs={CHARGE.label: CompletedRun(run.run_id, august)})

    times = times_to_ask_from(instance, JOB, [CHARGE], state)

    assert times == {CHARGE.label: datetime(2024, 7, 1, tzinfo=UTC)}
