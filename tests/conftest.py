"""Fixtures for every test: a real Postgres, and a fresh database in it for each test that asks."""

from collections.abc import Callable, Iterator

import pytest

from tests.support import postgres
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer

# What speaks of rows in its assertions, for tests of several folders.
pytest.register_assert_rewrite("tests.faults.landing")


# These folders' tests are begun first, since some of them wait for minutes, and would else still do so when all others have ended.
BEGUN_FIRST = ("ui", "interop", "e2e", "environment", "faults")
# Tests of these folders share what takes long to start, so that one worker runs them all.
TOGETHER = ("ui",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the tests, and says which of them one worker must run: those that share a fixture of their module, or of their folder."""
    for item in items:
        folder = _folder_of(item)
        if folder in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder))
    items.sort(key=lambda item: BEGUN_FIRST.index(folder) if (folder := _folder_of(item)) in BEGUN_FIRST else len(BEGUN_FIRST))


def _folder_of(item: pytest.Item) -> str:
    """The folder of `tests` in which the test's file lies, at whatever depth."""
    return item.path.relative_to(CHECKOUT / "tests").parts[0]


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
