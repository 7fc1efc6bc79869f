"""Applications with databases of their own, which they reach by TCP as applications do."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.interop.apps import App, RegistryUnreachable, copy_of
from tests.support.postgres import PostgresServer
from tests.support.proxy import commit_losing_proxy

MakeApp = Callable[[str], App]


@pytest.fixture(scope="session")
def port(postgres_server: PostgresServer) -> Iterator[int]:
    """Of the test server, which itself listens on no network, on loopback."""
    with commit_losing_proxy(postgres_server.socket_directory / ".s.PGSQL.5432") as proxy:
        yield proxy.port


@pytest.fixture
def make_app(tmp_path: Path, port: int, make_database: Callable[[], str]) -> MakeApp:
    """Makes the example of that name, with a fresh and empty database."""
    return lambda name: _app(name, tmp_path, port, make_database())


@pytest.fixture
def make_migrated(
    tmp_path_factory: pytest.TempPathFactory,
    port: int,
    postgres_server: PostgresServer,
    migrated: dict[str, tuple[App, str]],
) -> Iterator[MakeApp]:
    """Makes the example of that name, with a fresh database in which its own tool has made its tables."""
    made: list[str] = []

    def make(name: str) -> App:
        if name not in migrated:
            template = postgres_server.make_database()
            app = _app(name, tmp_path_factory.mktemp(name), port, postgres_server.url(template))
            app.migrate()
            migrated[name] = app, template
        app, template = migrated[name]
        made.append(postgres_server.make_database(template))
        return app.on(_address(port, made[-1]), postgres_server.url(made[-1]))

    yield make
    for database in made:
        postgres_server.release(database)


@pytest.fixture(scope="session")
def migrated() -> dict[str, tuple[App, str]]:
    """Each application that has been made, and the database that its tool has migrated: some take ten seconds for it."""
    return {}


def _app(name: str, folder: Path, port: int, url: str) -> App:
    if name != "sqlalchemy" and shutil.which("npm") is None:
        pytest.skip("npm is not installed: the example applications for Node cannot be run")
    try:
        app = App(name, copy_of(name, folder / name), _address(port, urlsplit(url).path[1:]), url)
        maker = app.commands.table_maker
        return replace(app, table_maker=replace(app, name=maker, folder=copy_of(maker, folder / maker))) if maker else app
    except RegistryUnreachable as error:
        if os.environ.get("INTEROP_REQUIRED"):
            raise
        pytest.skip(f"the packages of examples/{name} are not in the cache, and npm cannot get them: {error}")


def _address(port: int, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"
