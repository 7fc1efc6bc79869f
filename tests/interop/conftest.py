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

    def make(name: str) -> App:
        if name != "sqlalchemy" and shutil.which("npm") is None:
            pytest.skip("npm is not installed: the example applications for Node cannot be run")
        url = make_database()
        try:
            folder = copy_of(name, tmp_path / name)
        except RegistryUnreachable as error:
            if os.environ.get("INTEROP_REQUIRED"):
                raise
            pytest.skip(f"the packages of examples/{name} are not in the cache, and npm cannot get them: {error}")
        app = App(name, folder, f"postgresql://postgres@127.0.0.1:{port}{urlsplit(url).path}", url)
        maker = app.commands.table_maker
        return replace(app, table_maker=replace(app, name=maker, folder=copy_of(maker, tmp_path / maker))) if maker else app

    return make
