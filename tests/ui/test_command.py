"""`sequin-pipeline ui` as a person runs it: once, twice, on a port that is taken, and until Ctrl-C."""

import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.cli.daemon_claim import claimed_storage
from sequin_pipeline.environment.settings import VARIABLES
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.support.commands import Finished, RunMain
from tests.ui.conftest import Surroundings
from tests.ui.running import END_SECONDS, RunningUi, free_port, processes_of_session, running_ui, wait_for

pytestmark = pytest.mark.ui

LAUNCH = """mutation ($path: [String!]!, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {
    selector: {
      repositoryName: "__repository__", repositoryLocationName: "sequin_pipeline", jobName: "sync_github", assetSelection: [{path: $path}]
    }
    executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""

LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"


def test_it_serves_the_definitions_under_the_name_that_schedules_are_remembered_by(ui: RunningUi) -> None:
    locations = ui.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]

    assert locations == [{"name": "sequin_pipeline", "loadStatus": "LOADED"}]


def test_it_listens_on_loopback_only(ui: RunningUi) -> None:
    port = int(ui.url.rpartition(":")[2])

    with pytest.raises(ConnectionRefusedError):
        # All of 127.0.0.0/8 is this machine: only a server on every address answers at this one.
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_it_says_where_everything_is_and_prefixes_what_its_processes_say(ui: RunningUi, surroundings: Surroundings) -> None:
    said = ui.log.read_text()

    assert f"warehouse        your WAREHOUSE_URL {surroundings.warehouse_url}" in said
    assert f"switch schedules on   {ui.url}/automation" in said
    for name in ("code server", "webserver", "daemon"):
        assert f"\n{name.ljust(11)} | " in said
    assert "WARNING - The code location name" not in said


def start_another(run_main: RunMain, variables: Mapping[str, str], directory: Path, *options: str) -> Finished:
    """A second `ui`, which is expected to end by itself."""
    without = [name for name in VARIABLES if name not in variables]
    return run_main("ui", *options, folder=directory, variables=variables, without=without)


def test_a_second_one_says_where_the_first_runs_and_starts_nothing(ui: RunningUi, run_main: RunMain) -> None:
    port = ui.url.rpartition(":")[2]

    second = start_another(run_main, ui.variables, ui.directory, "--port", port)

    assert (second.status, second.stdout) == (0, f"The UI is already running at {ui.url} (process {ui.process.pid}).\n")


def test_a_second_one_on_another_port_is_refused(ui: RunningUi, run_main: RunMain) -> None:
    second = start_another(run_main, ui.variables, ui.directory, "--port", "1")

    assert second.status == 2
    assert f"a UI on the same Dagster storage is already running at {ui.url} (process {ui.process.pid})" in second.stderr


def test_a_second_one_on_another_machine_is_refused(
    surroundings: Surroundings, dagster_url: str, run_main: RunMain, tmp_path: Path
) -> None:
    """Another home stands for another machine: nothing but the storage tells of the first."""
    variables = {
        **surroundings.variables,
        "DAGSTER_POSTGRES_URL": dagster_url,
        "SEQUIN_PIPELINE_HOME": str(tmp_path / "elsewhere"),
    }
    with claimed_storage(dagster_url):
        done = start_another(run_main, variables, surroundings.directory, "--port", str(free_port()))

    assert done.status == 2
    assert (
        f"another UI is at work on the same Dagster storage (sequin-pipeline ui on {socket.gethostname()}), and a second daemon would do "
        "everything twice: use that one, or end it first"
    ) in done.stderr
    with claimed_storage(dagster_url):
        pass  # the first has ended, and so has its claim


def test_a_port_that_another_program_has_is_refused_by_its_number(
    surroundings: Surroundings, dagster_url: str, run_main: RunMain
) -> None:
    variables = surroundings.variables | {"DAGSTER_POSTGRES_URL": dagster_url}
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        done = start_another(run_main, variables, surroundings.directory, "--port", str(port))

    assert done.status == 2
    assert f"the UI cannot listen on port {port} of 127.0.0.1: Address already in use." in done.stderr


def test_ctrl_c_ends_runs_at_work_and_leaves_nothing_behind(
    surroundings: Surroundings, dagster_url: str, empty_url: str, tmp_path: Path
) -> None:
    with running_sandbox(RecordedFeed(), Settings(delay_ms=60_000)) as sandbox_url:
        variables = surroundings.variables | {
            "DAGSTER_POSTGRES_URL": dagster_url,
            "WAREHOUSE_URL": empty_url,
            "SEQUIN_API_URL": sandbox_url,
            "SEQUIN_COLLECTIONS": str(surroundings.definitions),
        }
        shutil.copy(surroundings.directory / "dagster.yaml", tmp_path)
        with running_ui(tmp_path, variables) as ui:
            children = ui.children()
            window = [{"key": "dagster/partition", "value": "2024-01"}]
            launched = ui.ask(LAUNCH, path=["github", "user"], tags=window)["launchRun"]
            assert launched["__typename"] == "LaunchRunSuccess", launched
            # A run that is called started may yet be at its imports, where the signal ends it without a word.
            wait_for(lambda: _has_tables(empty_url), 60, what=lambda: f"the run, which is {_statuses(dagster_url)}")

            ui.process.send_signal(signal.SIGINT)

            assert ui.process.wait(timeout=END_SECONDS) == 0
    assert _statuses(dagster_url) == {"FAILURE"}
    assert [processes_of_session(pid) for pid in children.values()] == [[], [], []]
    assert ui.log.read_text().endswith("The UI has ended; nothing of it is left running.\n")


def _has_tables(warehouse_url: str) -> bool:
    with psycopg.connect(warehouse_url) as connection:
        return connection.execute("select 1 from pg_tables where schemaname = 'github'").fetchone() is not None


def _statuses(dagster_url: str) -> set[str]:
    with psycopg.connect(dagster_url) as connection:
        return {status for (status,) in connection.execute("select status from runs")}
