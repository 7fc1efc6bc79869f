"""The resources of a project: under which keys they are, what they take from the environment, and what they refuse."""

import dagster as dg
import pandas as pd
import psycopg
import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.definitions import build_definitions
from sequin_pipeline.orchestration.project_resources import RESOURCES
from sequin_pipeline.resources import WarehouseResource
from tests.orchestration.files import write

DEMO = "  provider: demo\n  collections: {thing: {}}\n"
THING = dg.AssetKey(["demo", "thing"])
NO_WAREHOUSE = (
    "WAREHOUSE_URL is not set in the environment of this process: set it to postgresql://user:password@host:5432/database, or give "
    "the project a resource 'sequin_warehouse' with a url, as in WarehouseResource(url=...)"
)


@dg.asset(key=["marts", "plans"], metadata={"sequin_pipeline/key": "plan_id"})
def plans() -> pd.DataFrame:
    return pd.DataFrame({"plan_id": ["basic", "pro"]})


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute(f"select count(*) from {table}").fetchone() or (0,)
        return int(count)


def test_the_keys_are_of_our_own_and_the_location_has_a_default_io_manager_beside_them(tmp_path) -> None:
    definitions = build_definitions(write(tmp_path, demo=DEMO))

    assert set(definitions.resources or {}) == {"sequin_source", "sequin_warehouse", "sequin_io_manager", "io_manager"}
    asset = definitions.resolve_assets_def(THING)
    assert asset.op.required_resource_keys == {"sequin_source", "sequin_io_manager"}
    assert {output.io_manager_key for output in asset.op.output_defs if output.name == "result"} == {"sequin_io_manager"}


def test_an_asset_that_names_no_io_manager_is_merged_in_the_location_of_the_package(
    tmp_path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    definitions = dg.Definitions.merge(build_definitions(write(tmp_path, demo=DEMO)), dg.Definitions(assets=[plans]))

    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(asset_selection=[plans.key])

    assert result.success
    assert rows(warehouse_url, "marts.plans") == 2


@pytest.mark.parametrize(
    ("resource", "config"),
    [("source", {"variables": {}}), ("warehouse", {"url": "postgresql://"}), ("io_manager", {"ledger_schema": "other"})],
)
def test_run_config_for_a_resource_that_collections_do_not_use_is_refused(tmp_path, resource: str, config: object) -> None:
    """Taken in silence, it would let records land elsewhere than somebody has written down."""
    job = build_definitions(write(tmp_path, demo=DEMO)).resolve_job_def("sync_demo")

    with pytest.raises(dg.DagsterInvalidConfigError, match=f'Received unexpected config entr.* root:resources.*"?{resource}'):
        job.execute_in_process(run_config={"resources": {resource: {"config": config}}}, partition_key="2024-01")


@pytest.mark.parametrize("value", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_a_run_without_a_warehouse_says_which_variable_to_set(
    tmp_path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("WAREHOUSE_URL", value)
    monkeypatch.setenv("SEQUIN_API_URL", "http://127.0.0.1:9")
    job = build_definitions(write(tmp_path, demo=DEMO)).resolve_job_def("sync_demo")

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key="2024-01", raise_on_error=False)

    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.user_failure_data.description == NO_WAREHOUSE


def test_an_empty_url_of_a_resource_does_not_mean_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a variable of the user's own gives that is not set: rows would land in another database."""
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://elsewhere")

    with pytest.raises(ConfigurationError, match="'sequin_warehouse' with a url"):
        WarehouseResource(url="").open()


def test_the_io_manager_writes_into_the_warehouse_that_the_project_defines(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    monkeypatch.setenv("ANALYTICS_URL", warehouse_url)
    theirs = {**RESOURCES, "sequin_warehouse": WarehouseResource(url=dg.EnvVar("ANALYTICS_URL"))}

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([plans], resources={**theirs, "io_manager": theirs["sequin_io_manager"]}, instance=instance)

    assert result.success
    assert rows(warehouse_url, "marts.plans") == 2
