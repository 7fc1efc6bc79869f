"""Runs that a command executes in its own process: where Dagster shows them, what it hides of them, and what becomes of dead ones."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.orchestration.command_runs import alive, belongs_to_command, end_abandoned_runs, standing_on_timeline
from sequin_pipeline.orchestration.executor import FIRST_LOAD_TAG
from tests.support.checkout import CHECKOUT


@dg.op
def reading() -> None: ...


@dg.job(name="sync_demo")
def job() -> None:
    reading()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def executed(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    result = job.execute_in_process(instance=instance, tags=tags)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def test_a_commands_run_belongs_to_the_code_location_that_the_timeline_asks_for(instance: dg.DagsterInstance) -> None:
    with standing_on_timeline(instance, "sync_demo"):
        run = executed(instance)
    later = executed(instance)

    assert run.remote_job_origin is not None
    assert run.remote_job_origin.job_name == "sync_demo"
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@sequin_pipeline"
    assert later.remote_job_origin is None
    for declared in ('code_location_name = "sequin_pipeline"', "location_name: sequin_pipeline"):
        assert declared in (CHECKOUT / "pyproject.toml").read_text() + (CHECKOUT / "workspace.yaml").read_text()


def test_what_only_the_pipeline_reads_is_a_tag_that_dagster_hides(instance: dg.DagsterInstance) -> None:
    with alive(instance) as tags:
        shown = {name for name in {**tags, FIRST_LOAD_TAG: "true"} if not name.startswith(".dagster/")}

    assert shown == {"dagster/max_retries"}


def test_nobody_runs_a_commands_run_again(instance: dg.DagsterInstance) -> None:
    with alive(instance) as tags:
        run = executed(instance, tags)

    assert run.tags["dagster/max_retries"] == "0"


@pytest.mark.parametrize(
    ("tags", "parent", "expected"),
    [
        pytest.param({".dagster/sequin_pipeline_lock": "command.lock"}, None, True, id="a command's"),
        pytest.param({".dagster/sequin_pipeline_lock": "command.lock"}, "6a2f", False, id="executed again in the UI"),
        pytest.param({}, None, False, id="a schedule's"),
    ],
)
def test_a_run_is_a_commands_by_its_lock_unless_the_ui_executed_it_again(
    tags: dict[str, str], parent: str | None, *, expected: bool
) -> None:
    run = dg.DagsterRun("sync_demo", tags=tags, parent_run_id=parent, root_run_id=parent)

    assert belongs_to_command(run) is expected


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param(".dagster/sequin_pipeline_lock", id="of this version"),
        pytest.param("sequin_pipeline/lock", id="of an earlier version"),
    ],
)
def test_the_run_of_a_dead_command_is_ended_and_that_of_a_living_one_is_not(
    instance: dg.DagsterInstance, tmp_path: Path, tag: str
) -> None:
    left = tmp_path / "command.lock"
    left.touch()
    dead = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={tag: str(left)})
    with alive(instance) as tags:
        living = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)

        end_abandoned_runs(instance)

    statuses = [run.status for run in (instance.get_run_by_id(each.run_id) for each in (dead, living)) if run]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED]
