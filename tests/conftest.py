"""Fixtures for every test: a real Postgres, and a fresh database in it for each test that asks."""

from collections.abc import Callable, Iterator

import pytest

from tests.support import postgres
from tests.support.postgres import PostgresServer

# What speaks of rows in its assertions, for tests of several folders.
pytest.register_assert_rewrite("tests.faults.landing")


def pytest_report_header() -> str:
    bindir = postgres.binaries()
    return f"postgres: {postgres.server_version(bindir)} ({bindir})"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One throw-away server for the whole session."""
    with postgres.running_server() as server:
        yield server


@pytest.fixture
def make_database(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes another fresh database at each call and returns its libpq URL; all are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres_server.make_database())
        return postgres_server.url(made[-1])

    yield make
    for database in made:
        postgres_server.release(database)


@pytest.fixture
def warehouse_url(make_database: Callable[[], str]) -> str:
    """The libpq URL of a fresh, empty database."""
    return make_database()
