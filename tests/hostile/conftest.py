"""A database for all cases of a module: they are sent together, so that each proves that the others are there."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def shared_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The libpq URL of a database of this module's own."""
    database = postgres_server.make_database()
    yield postgres_server.url(database)
    postgres_server.release(database)
