"""Child tables in Dagster: an asset each below its parent, whose step tells of them, and two checks of the daily job."""

from dataclasses import replace

import dagster as dg
import pytest

from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.orchestration.assets import build_asset, build_source
from sequin_pipeline.orchestration.child_assets import build_child_specs
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, WarehouseResource
from sequin_pipeline.orchestration.run_config import CollectionConfig
from sequin_pipeline.orchestration.table_checks import build_table_check_job, build_table_checks
from tests.orchestration.test_step import COLLECTION, ONE_RECORD, Opened, Sink
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.reading import execute
from tests.support.syncing import sync

INVOICE = with_children(replace(COLLECTION, name="invoice"))
PARENT = dg.AssetKey(["stripe", "invoice"])
API = dg.AssetKey(["sequin", "stripe", "invoice_source"])


def test_each_child_is_an_asset_below_its_parent_with_lineage_by_path() -> None:
    line, tax, label = build_child_specs(INVOICE)

    assert [spec.key.to_user_string() for spec in (line, tax, label)] == [
        "stripe/invoice_line",
        "stripe/invoice_line_tax",
        "stripe/invoice_label",
    ]
    assert [dep.asset_key for dep in tax.deps] == [PARENT, line.key]
    lineage = tax.metadata["dagster/column_lineage"].deps_by_column
    assert lineage["rate"] == [
        dg.TableColumnDep(asset_key=API, column_name="$.lines.data[*].taxes[*].rate"),
        dg.TableColumnDep(asset_key=PARENT, column_name="data"),
    ]
    assert lineage["parent_id"] == [dg.TableColumnDep(asset_key=PARENT, column_name="id")]
    columns = [column.name for column in line.metadata["dagster/column_schema"].columns]
    assert columns == [
        *("parent_id", "id", "sync_id", "internal_id", "updated_idx", "deleted", "position", "amount", "data"),
        *("inserted_at", "updated_at"),
    ]


@pytest.mark.parametrize(("config", "told"), [(None, "materialization"), (CollectionConfig(sync_id="s1"), "observation")])
def test_the_parents_step_tells_of_its_children(config: CollectionConfig | None, told: str) -> None:
    table = str(INVOICE.children[0].table)
    found = replace(ONE_RECORD, children={table: ChildCounts(1, 2, 3, 4)}, child_rows={table: 9})

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [build_asset(INVOICE), *build_child_specs(INVOICE)],
            resources={SOURCE: Opened(), IO_MANAGER: Sink(found)},
            tags={"dagster/asset_partition_range_start": "2024-03", "dagster/asset_partition_range_end": "2024-03"},
            run_config=dg.RunConfig({"stripe__invoice": config}) if config else None,
            instance=instance,
            selection=[PARENT],
        )

    events = [event for event in result.all_events if event.asset_key == dg.AssetKey(["stripe", "invoice_line"])]
    (event,) = [event for event in events if event.is_step_materialization or event.is_asset_observation]
    data = event.event_specific_data
    metadata = data.materialization.metadata if told == "materialization" else data.asset_observation.metadata
    numbers = {"inserted": 1, "updated": 2, "unchanged": 3, "removed": 4, "dagster/row_count": 9}
    assert {name: metadata[name].value for name in numbers} == numbers


def test_children_without_their_parent_fail_the_daily_check(warehouse_url: str) -> None:
    of = with_children(collection())
    sync(warehouse_url, [record(name, 1, data={"lines": {"data": [{"id": "a"}]}}) for name in ("r", "s")], of=of)
    before = checks(warehouse_url)
    execute(warehouse_url, "delete from demo.thing where id = 'r'", "delete from demo.thing_line where parent_id = 's'")

    after = checks(warehouse_url)

    assert before == dict.fromkeys(before, (True, before["table_parents"][1])) | {"table_row_count": (True, "2 rows")}
    assert after["table_parents"] == (
        False,
        "rows of parents that are not there: 'r'. Somebody else removed these, and not their children",
    )
    assert after["table_row_count"][0] is False


def checks(warehouse_url: str) -> dict[str, tuple[bool, str | None]]:
    of = with_children(collection())
    resources = {SOURCE: object(), IO_MANAGER: dg.mem_io_manager, WAREHOUSE: WarehouseResource(url=warehouse_url)}
    definitions = dg.Definitions.merge(
        dg.Definitions(assets=[build_source(of), build_asset(of), *build_child_specs(of)], resources=resources),
        build_table_checks([of]),
        build_table_check_job([of]),
    )
    result = definitions.resolve_job_def("full_table_checks").execute_in_process()
    line = dg.AssetKey(["demo", "thing_line"])
    return {
        one.check_name: (one.passed, one.description) for one in result.get_asset_check_evaluations() if one.asset_key == line
    }
