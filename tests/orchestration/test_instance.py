"""The files beside the package: the instance, the workspace, and what `dg scaffold defs` writes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml

from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.orchestration.component import CollectionSyncScaffolder
from tests.support.checkout import CHECKOUT


def test_the_instance_keeps_runs_in_postgres(make_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", make_database().replace("postgresql://", "postgresql+psycopg2://", 1))

    @dg.asset
    def one() -> None: ...

    with dg.DagsterInstance.from_config(str(CHECKOUT)) as instance:
        result = dg.materialize([one], instance=instance)

    with dg.DagsterInstance.from_config(str(CHECKOUT)) as opened_again:
        assert [run.run_id for run in opened_again.get_runs()] == [result.run_id]
        assert opened_again.get_latest_materialization_event(dg.AssetKey("one")) is not None


def test_the_instance_runs_only_lost_runs_again_and_ends_them_after_a_day() -> None:
    settings = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"))

    assert settings["run_retries"] == {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    assert settings["run_monitoring"] == {
        "enabled": True,
        "max_runtime_seconds": 86400,
        "free_slots_after_run_end_seconds": 60,
    }
    assert settings["telemetry"] == {"enabled": False}
    assert settings["nux"] == {"enabled": False}


def test_the_workspace_is_one_location_of_a_fixed_name() -> None:
    workspace = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text(encoding="utf-8"))

    assert workspace == {
        "load_from": [{"python_module": {"module_name": "sequin_pipeline.definitions", "location_name": "sequin_pipeline"}}]
    }


def test_a_scaffolded_file_loads_and_takes_the_folder_for_the_provider(tmp_path: Path) -> None:
    folder = tmp_path / "linear"
    folder.mkdir()

    CollectionSyncScaffolder().scaffold(
        dg.ScaffoldRequest(
            type_name="sequin_pipeline.component.CollectionSync",
            target_path=folder,
            scaffold_format="yaml",
            project_root=tmp_path,
            params=SimpleNamespace(),
        )
    )

    assert list(load_collections({"SEQUIN_COLLECTIONS": str(tmp_path)})) == ["linear/example"]
