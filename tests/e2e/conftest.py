"""Projects with fresh databases, Dagster's already holding its tables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Command, MakeProject, Project, build_project
from tests.support.commands import Finished, RunMain
from tests.support.described import types_described_once
from tests.support.postgres import PostgresServer

__all__ = ["types_described_once"]


@pytest.fixture
def warehouse_url(empty_url: str) -> str:
    """Of an empty database: who makes the ledger, and what becomes of it then, matters here."""
    return empty_url


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
def command(run_main: RunMain) -> Command:
    """Runs the console script's function as in the project's folder and environment, without the start of a process."""

    def run(project: Project, *arguments: str) -> Finished:
        variables = project.environment()
        empty = [name for name in ("WAREHOUSE_URL", "SEQUIN_API_URL", "SEQUIN_API_TOKEN") if not variables[name]]
        kept = {name: value for name, value in variables.items() if name not in empty}
        return run_main(*arguments, folder=project.folder, variables=kept, without=empty)

    return run
