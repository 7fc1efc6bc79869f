"""Projects with fresh databases, Dagster's already holding its tables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.e2e.project import ROOT, MakeProject, Project, build_project
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def dagster_template(postgres_server: PostgresServer) -> str:
    """A database in which Dagster has made its tables: copied, it saves seconds a project."""
    database = postgres_server.make_database()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", postgres_server.url(database).replace("postgresql://", "postgresql+psycopg2://"))
        with dg.DagsterInstance.from_config(str(ROOT)) as instance:
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
