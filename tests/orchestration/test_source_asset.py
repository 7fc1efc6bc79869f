"""The API's side of a collection as somebody observes it by hand: how far the live runs have read, by the ledger."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection, TableName, Windows
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.orchestration.assets import build_source
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource, live_state
from sequin_pipeline.sources import SourceIdentity

PLAN = Collection("stripe", "plan", TableName("stripe", "plan"), Windows("month", datetime(2024, 1, 1, tzinfo=UTC)))
NOON = datetime(2024, 5, 2, 12, tzinfo=UTC)


def observe(warehouse: WarehouseResource) -> dict[str, object]:
    key = dg.AssetKey(["sequin", "stripe", "plan_source"])
    job = dg.define_asset_job("observing", selection=dg.AssetSelection.assets(key))
    definitions = dg.Definitions(assets=[build_source(PLAN)], jobs=[job], resources={WAREHOUSE: warehouse})
    result = definitions.resolve_job_def("observing").execute_in_process()
    [event] = result.get_asset_observation_events()
    observed = event.asset_observation_data.asset_observation
    assert observed.asset_key == key
    return {name: value.value for name, value in observed.metadata.items() if not name.startswith("dagster/")}


@pytest.mark.slow
def test_observing_by_hand_asks_the_ledger_and_not_the_api(warehouse_url: str) -> None:
    warehouse = WarehouseResource(url=warehouse_url)
    before = observe(warehouse)
    live_state(warehouse)
    ledger = Ledger("stripe.plan", "stripe/plan")
    with warehouse.open().connect() as connection:
        ledger.register_table(connection, SourceIdentity("sequin", "https://api.example.com"), on_delete="mark", row_count=0)
        ledger.show_life(connection, "a-run", mode="live", seconds=0, pages=1, records=1, has_ended=True)
        connection.execute("update sequin_pipeline.runs set started_at = %s", (NOON,))

    after = observe(warehouse)

    assert (before, after) == ({}, {"last_live_run_started": NOON.timestamp()})
