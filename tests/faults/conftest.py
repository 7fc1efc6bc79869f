"""An empty table for each test, a server to be killed, and projects to run commands in."""

from collections.abc import Callable, Iterator

import pytest

from sequin_pipeline.errors import SourceRefused
from tests.e2e.conftest import command, make_project  # noqa: F401 - fixtures
from tests.faults.landing import Landing
from tests.faults.phases import HOLDABLE
from tests.faults.places import Place
from tests.support.ledgers import with_ledger
from tests.support.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def own_server() -> Iterator[PostgresServer]:
    """One that only tests of this folder use: they may kill it, and hold its commits."""
    with running_server(HOLDABLE) as server:
        yield server


@pytest.fixture(scope="session")
def own_ledger_template(own_server: PostgresServer) -> str:
    """A database there that holds an empty ledger."""
    return with_ledger(own_server)


@pytest.fixture(autouse=True)
def written_every_way(every_way: None) -> None:
    """Batches of these tests go every way, each test's another one."""


@pytest.fixture
def make_own_database(own_server: PostgresServer, own_ledger_template: str) -> Iterator[Callable[[], str]]:
    """Makes another fresh database on it at each call, with an empty ledger, and returns its libpq URL; all are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        made.append(own_server.make_database(own_ledger_template))
        return own_server.url(made[-1])

    yield make
    for database in made:
        own_server.release(database)


@pytest.fixture
def landing(warehouse_url: str) -> Landing:
    return Landing(warehouse_url)


@pytest.fixture
def place(make_own_database: Callable[[], str], request: pytest.FixtureRequest) -> Iterator[Place]:
    """One of EACH, where the first two records have been stored."""
    with request.param(make_own_database()) as place:
        place.set_faults(f"status:401,from={place.fails_from}")
        with pytest.raises(SourceRefused):
            place.sync()
        place.set_faults()
        place.landing.deliver(*place.records[:2])
        place.check(2)
        yield place
