"""The files beside the package: the instance, the workspace, and what `dg scaffold defs` writes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._daemon.monitoring.run_monitoring import monitor_starting_run

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


@pytest.mark.parametrize(
    ("file", "minutes", "is_failed"),
    [
        pytest.param("deploy/dagster.celery.yaml", 5, False, id="waits in the broker"),
        pytest.param("deploy/dagster.celery.yaml", 59, False, id="waits there for long"),
        pytest.param("deploy/dagster.celery.yaml", 61, True, id="nobody takes it"),
        pytest.param("dagster.yaml", 2, False, id="a process of this machine, which imports"),
        pytest.param("dagster.yaml", 4, True, id="a process of this machine, which died importing"),
    ],
)
def test_a_run_that_does_not_come_to_start_is_ended_when_no_launcher_takes_as_long(
    tmp_path: Path, file: str, minutes: int, *, is_failed: bool
) -> None:
    monitoring = yaml.safe_load((CHECKOUT / file).read_text(encoding="utf-8"))["run_monitoring"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"run_monitoring": monitoring, "telemetry": {"enabled": False}}))

    @dg.job
    def waiting() -> None: ...

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(waiting)
        launched = DagsterEvent(DagsterEventType.PIPELINE_STARTING.value, "waiting")
        instance.handle_new_event(
            dg.EventLogEntry(None, "debug", "", run.run_id, time.time() - 60 * minutes, dagster_event=launched)
        )
        monitor_starting_run(instance, instance.get_run_record_by_id(run.run_id), logging.getLogger("monitor"))
        status = instance.get_run_by_id(run.run_id).status

    assert (status == dg.DagsterRunStatus.FAILURE) is is_failed
