"""`sequin-pipeline db …` as a person runs it, from its output to its exit status."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import HOME_VARIABLE
from sequin_pipeline.sandbox import launcher
from tests.environment.embedded.conftest import Environ
from tests.environment.test_settings import CLOSED
from tests.support.commands import Finished, RunMain

Run = Callable[..., Finished]
PIPELINE_VARIABLES = ("WAREHOUSE_URL", "SEQUIN_API_URL", "SEQUIN_API_TOKEN", "DAGSTER_POSTGRES_URL", "DAGSTER_HOME")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").touch()
    return tmp_path


@pytest.fixture
def run(made: Environ, project: Path, run_main: RunMain) -> Iterator[Run]:
    """Runs `sequin-pipeline db` in the project, on a server that has been started before; ends its sandbox."""

    def run(*arguments: str, **variables: str) -> Finished:
        without = [name for name in PIPELINE_VARIABLES if name not in variables]
        return run_main("db", *arguments, folder=project, variables={**made, **variables}, without=without)

    yield run
    launcher.stop(launcher.default_home(made))


def test_start_says_what_runs_where_and_tells_dagster(run: Run, made: Environ, project: Path) -> None:
    home = made[HOME_VARIABLE]

    done = run("start")

    api_url = launcher.running_url(launcher.default_home(made))
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        f"  warehouse  postgresql://postgres@/warehouse?host={home}/run&port=5432&hostaddr=",
        f"  sandbox    postgresql://postgres@/sandbox?host={home}/run&port=5432&hostaddr=",
        f"  dagster    postgresql://postgres@/dagster?host={home}/run&port=5432&hostaddr=",
        f"warehouse        embedded Postgres postgresql://postgres@/sandbox?host={home}/run&port=5432&hostaddr=",
        "records API      the sandbox, since SEQUIN_API_URL is not set",
        f"Dagster storage  embedded Postgres postgresql://postgres@/dagster?host={home}/run&port=5432&hostaddr=",
        f"Dagster home     {project}",
        f"The sandbox serves the records API on {api_url}.",
        f"Written to {project}/.env for dg and dagster. All of it runs until `sequin-pipeline db stop`.",
    ]
    assert (project / ".env").read_text() == (
        f'WAREHOUSE_URL="${{WAREHOUSE_URL:-postgresql://postgres@/sandbox?host={home}/run&port=5432&hostaddr=}}"'
        "  # written by sequin-pipeline\n"
        'DAGSTER_POSTGRES_URL="${DAGSTER_POSTGRES_URL:-postgresql+psycopg2:///?dsn=postgresql%3A%2F%2Fpostgres%40%2Fdagster%3Fhost%3D'
        f"{quote(home, safe='')}%2Frun"
        f'%26port%3D5432%26hostaddr%3D{CLOSED}}}"  # written by sequin-pipeline\n'
        f'DAGSTER_HOME="${{DAGSTER_HOME:-{project}}}"  # written by sequin-pipeline\n'
        f'SEQUIN_API_URL="${{SEQUIN_API_URL:-{api_url}}}"  # written by sequin-pipeline\n'
        'SEQUIN_API_TOKEN="${SEQUIN_API_TOKEN:-sandbox}"  # written by sequin-pipeline\n'
    )
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600


def test_start_touches_nothing_where_all_is_yours(run: Run, made: Environ, project: Path) -> None:
    yours = {"WAREHOUSE_URL": "postgres://you:hush@db/w", "DAGSTER_POSTGRES_URL": "postgres://you:hush@db/d"}

    done = run("start", SEQUIN_API_URL="https://api.example", **yours)

    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "The embedded Postgres is not needed: postgresql://you:***@db/w is yours."
    assert embedded.status(made) is None
    assert not (project / ".env").exists()


def test_start_takes_out_of_the_env_file_what_you_have_set_since(run: Run, project: Path) -> None:
    run("start")

    run("start", SEQUIN_API_URL="https://api.example", WAREHOUSE_URL="postgres://you:hush@db/w")

    names = [line.partition("=")[0] for line in (project / ".env").read_text().splitlines()]
    assert names == ["DAGSTER_POSTGRES_URL", "DAGSTER_HOME"]


def test_stop_ends_the_sandbox_too(run: Run, made: Environ) -> None:
    run("start")

    done = run("stop")

    assert done.stdout == "The sandbox has been stopped.\nThe embedded Postgres has been stopped.\n"
    assert launcher.running_url(launcher.default_home(made)) is None


def test_status_stop_and_url_tell_by_their_exit_status(run: Run, made: Environ) -> None:
    embedded.start(made)

    codes = [run(*arguments).status for arguments in (["status"], ["stop"], ["status"], ["stop"], ["url"], ["url", "nope"])]

    assert codes == [0, 0, 3, 0, 0, 2]


def test_url_is_all_that_url_prints(run: Run, made: Environ) -> None:
    assert run("url", "sandbox").stdout == f"postgresql://postgres@/sandbox?host={made[HOME_VARIABLE]}/run&port=5432&hostaddr=\n"


def test_dump_starts_the_server_and_writes_the_file(run: Run, project: Path) -> None:
    done = run("dump", "sandbox", "sandbox.dump")

    assert (done.status, done.stdout) == (0, "Database 'sandbox' has been saved to sandbox.dump.\n")
    assert (project / "sandbox.dump").read_bytes().startswith(b"PGDMP")


def test_a_refusal_is_one_sentence_and_status_2(run: Run, project: Path) -> None:
    done = run("start", WAREHOUSE_URL="postgres://you:hush@db/w")

    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("sequin-pipeline: WAREHOUSE_URL names a database of yours (postgresql://you:***@db/w)")
    assert len(done.stderr.splitlines()) == 1
    assert not (project / ".env").exists()
