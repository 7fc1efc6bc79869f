"""An unmanaged table under Dagster: what its asset says, what an input of it holds, what the daily checks find."""

import dagster as dg
import pandas as pd
import psycopg
import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.operate.audit import audit_table
from sequin_pipeline.orchestration.assets import asset_key, build_asset
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WarehouseResource
from sequin_pipeline.orchestration.table_checks import table_results
from tests.support.builders import ListSource, record
from tests.support.reading import execute
from tests.table.unmanaged.tables import MAPPING, SUBSCRIPTION, deliver, unmanaged

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

TIMED = {**MAPPING, "record_inserted_at": "streamedAt"}


class Opening:
    """A resource that opens a source, which nobody reads here."""

    def open(self, collection: object) -> ListSource:
        return ListSource([])


def load(url: str, of: Collection, *, partition_key: str | None, metadata: dict[str, object]) -> dg.ExecuteInProcessResult:
    upstream = build_asset(of)

    @dg.asset(
        ins={"rows": dg.AssetIn(asset_key(of), metadata=metadata)},
        partitions_def=upstream.partitions_def if partition_key else None,
        io_manager_key="memory",
    )
    def reader(rows: pd.DataFrame) -> pd.DataFrame:
        return rows

    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [upstream, reader],
            selection=[reader],
            partition_key=partition_key,
            resources={
                IO_MANAGER: PostgresMergeIOManager(warehouse=WarehouseResource(url=url)),
                "memory": dg.mem_io_manager,
                SOURCE: Opening(),
            },
            instance=instance,
            raise_on_error=False,
        )


def written(url: str) -> Collection:
    execute(url, SUBSCRIPTION, 'alter table app."Subscription" add column "streamedAt" timestamp')
    of = unmanaged(TIMED)
    times = ("2024-01-31T23:59:59Z", "2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z")
    records = [record(name, 1, inserted_at=at) for name, at in zip("abc", times, strict=True)]
    deliver(url, of, [*records, record("c", 2, inserted_at=times[2], deleted=True)])
    return of


@pytest.mark.parametrize(
    ("partition_key", "metadata", "expected"),
    [
        (None, {}, ["a", "b", "c"]),
        (None, {"sequin_pipeline/live_only": True}, ["a", "b"]),
        ("2024-01", {}, ["a"]),
        ("2024-02", {"sequin_pipeline/live_only": True}, ["b"]),
    ],
    ids=["whole", "live", "window", "live rows of a window"],
)
def test_an_input_reads_the_table_by_its_own_names(
    app_url: str, partition_key: str | None, metadata: dict[str, object], expected: list[str]
) -> None:
    execute(app_url, "do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$")
    of = written(app_url)

    result = load(app_url, of, partition_key=partition_key, metadata={"columns": ["recordId"], **metadata})

    assert result.success
    assert sorted(result.output_for_node("reader")["recordId"]) == expected


def test_a_window_of_a_table_without_a_column_for_it_is_refused(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    of = unmanaged(MAPPING)
    deliver(app_url, of, [record("a", 1)])

    result = load(app_url, of, partition_key="2024-02", metadata={})

    (event,) = result.get_step_failure_events()
    assert event.step_failure_data.user_failure_data is not None
    assert event.step_failure_data.user_failure_data.description == (
        "table 'app.Subscription' has no column for the time at which a version entered the stream, so that no window of it can be read: "
        "map `record_inserted_at` to one, or have the input depend on all partitions"
    )


def test_the_asset_shows_the_tables_own_columns() -> None:
    of = unmanaged({**MAPPING, "inserted_at": "createdAt"})

    metadata = build_asset(of).metadata_by_key[asset_key(of)]

    schema = metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [column.name for column in schema.columns] == [*MAPPING.values(), "createdAt"]
    lineage = metadata["dagster/column_lineage"]
    assert isinstance(lineage, dg.TableColumnLineage)
    assert list(lineage.deps_by_column) == ["Status", "amountCents"]


def test_the_daily_checks_let_the_application_add_and_remove_rows(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    of = unmanaged(MAPPING)
    deliver(app_url, of, [record("a", 1), record("b", 2)])
    execute(app_url, """delete from app."Subscription" where "recordId" = 'a'""")

    with psycopg.connect(app_url, autocommit=True) as connection:
        results = {result.check_name: result for result in table_results(asset_key(of), audit_table(connection, of))}

    assert {name: result.passed for name, result in results.items()} == dict.fromkeys(results, True)
    assert (
        results["table_row_count"].description == "1 rows; the application that owns the table has added or removed some of them"
    )


def test_the_daily_checks_find_a_table_that_is_gone(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    of = unmanaged(MAPPING)
    deliver(app_url, of, [record("a", 1)])
    execute(app_url, 'drop table app."Subscription"')

    with psycopg.connect(app_url, autocommit=True) as connection:
        row_count = next(iter(table_results(asset_key(of), audit_table(connection, of))))

    assert not row_count.passed
