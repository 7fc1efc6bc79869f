"""Projects with fresh databases, Dagster's already holding its tables."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sequin_pipeline.cli import main
from tests.e2e.project import Command, Finished, MakeProject, Project, build_project
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def dagster_template(postgres_server: PostgresServer) -> str:
    """A database in which Dagster has made its tables: copied, it saves seconds a project."""
    import dagster as dg  # here, so that whoever borrows a fixture of this file does not wait for it

    database = postgres_server.make_database()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", postgres_server.url(database).replace("postgresql://", "postgresql+psycopg2://"))
        with dg.DagsterInstance.from_config(str(CHECKOUT)) as instance:
            instance.get_runs()
    return database


@pytest.fixture
def make_project(
    tmp_path: Path, postgres_server: PostgresServer, dagster_template: str, make_database: Callable[[], str]
) -> Iterator[MakeProject]:
    """Makes a project that reads the API at the URL given."""
    made: list[str] = []

    def make(api_url: str) -> Project:
        made.append(postgres_server.make_database(dagster_template))
        return build_project(
            tmp_path / f"project_{len(made)}",
            warehouse_url=make_database(),
            dagster_url=postgres_server.url(made[-1]),
            api_url=api_url,
        )

    yield make
    for database in made:
        postgres_server.release(database)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the console script's function as in the project's folder and environment, without the start of a process."""

    def run(project: Project, *arguments: str) -> Finished:
        with monkeypatch.context() as patch:
            for name, value in project.environment().items():
                patch.setenv(name, value)
            for name in ("WAREHOUSE_URL", "SEQUIN_API_URL", "SEQUIN_API_TOKEN"):
                if not project.environment()[name]:
                    patch.delenv(name)
            patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
            patch.chdir(project.folder)
            patch.setattr(sys, "argv", ["sequin-pipeline", *arguments])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Finished(ended.value.code, said.out, said.err)

    return run
