"""Checks over whole tables: what they find when somebody else has written, and that they pass when nobody has."""

from dataclasses import replace

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, Column, parse_path
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, WarehouseResource
from sequin_pipeline.orchestration.table_checks import build_table_check_job, build_table_checks
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import collection, record
from tests.support.syncing import sync

THING = collection(columns=(Column("status", parse_path("status"), "text"), Column("amount", parse_path("amount"), "bigint")))
STRICT = replace(THING, columns=tuple(replace(column, is_required=True) for column in THING.columns))
BARE = record("r4", 4, deleted=True, data=None)
BAD = record("r5", 5, data={"status": "active", "amount": "a dozen"})


def execute(warehouse_url: str, of: Collection) -> dict[str, tuple[bool, str | None, dict[str, object]]]:
    """The daily job, as its schedule launches it."""
    resources = {SOURCE: object(), IO_MANAGER: dg.mem_io_manager, WAREHOUSE: WarehouseResource(url=warehouse_url)}
    definitions = dg.Definitions.merge(
        dg.Definitions(assets=[build_source(of), build_asset(of)], resources=resources),
        build_table_checks([of]),
        build_table_check_job([of]),
    )
    result = definitions.resolve_job_def("full_table_checks").execute_in_process()
    return {
        evaluation.check_name: (
            evaluation.passed,
            evaluation.description,
            {name: value.value for name, value in evaluation.metadata.items()},
        )
        for evaluation in result.get_asset_check_evaluations()
    }


def test_a_table_that_only_the_pipeline_wrote_passes(warehouse_url: str) -> None:
    sync(warehouse_url, [record("r1", 1), record("r2", 2), BARE], of=THING, run_id="run-1")

    assert execute(warehouse_url, STRICT) == {
        "table_row_count": (True, "3 rows", {"rows": 3, "expected_rows": 3}),
        "table_required_columns": (True, "no required value is missing", {"missing": {}}),
    }


def test_rows_that_somebody_else_removed_are_missed(warehouse_url: str) -> None:
    sync(warehouse_url, [record("r1", 1), record("r2", 2)], of=THING, run_id="run-1")
    with Warehouse(warehouse_url).connect() as connection:
        connection.execute("delete from demo.thing where id = 'r1'")

    passed, description, metadata = execute(warehouse_url, THING)["table_row_count"]

    assert not passed
    assert description is not None
    assert description.startswith("1 rows, where the ledger counted 2: somebody else wrote to the table.")
    assert metadata == {"rows": 1, "expected_rows": 2}


def test_live_rows_without_a_required_value_are_named(warehouse_url: str) -> None:
    without = [record(f"x{number:02}", number, data={"status": None}) for number in range(1, 13)]
    sync(
        warehouse_url,
        [record("r1", 20), *without, record("r3", 21, deleted=True, data={"amount": None}), BARE],
        of=THING,
        run_id="run-1",
    )

    passed, description, metadata = execute(warehouse_url, STRICT)["table_required_columns"]

    assert (passed, description) == (False, "10 or more rows lack a required value")
    missing = metadata["missing"]
    assert isinstance(missing, dict)
    assert len(missing) == 10
    assert missing.keys() < {f"x{number:02}" for number in range(1, 13)}
    assert all(names == ["status", "amount"] for names in missing.values())


@pytest.mark.parametrize(
    ("statement", "passed", "description"),
    [
        pytest.param(None, True, "the table has not been synced yet", id="never synced"),
        pytest.param(
            "drop table demo.thing",
            False,
            "the table is gone, and should have 1 rows: restore it, or run `sync --full-refresh`",
            id="dropped",
        ),
    ],
)
def test_a_table_that_is_not_there_is_told_from_one_that_is_gone(
    warehouse_url: str, statement: str | None, description: str, *, passed: bool
) -> None:
    if statement is not None:
        sync(warehouse_url, [record("r1", 1)], of=THING, run_id="run-1")
        with Warehouse(warehouse_url).connect() as connection:
            connection.execute(statement.encode())

    assert execute(warehouse_url, THING)["table_row_count"][:2] == (passed, description)


def test_the_daily_schedule_starts_stopped() -> None:
    (schedule,) = build_table_check_job([THING]).schedules or []

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.job_name) == ("0 5 * * *", "full_table_checks")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.description
