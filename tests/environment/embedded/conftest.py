"""Homes for embedded servers: short paths that the server's account can reach, nothing left running in them afterwards."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import BINDIR_VARIABLE, HOME_VARIABLE, EmbeddedServer
from sequin_pipeline.environment.embedded.processes import read_pid
from tests.support import postgres

Environ = dict[str, str]


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedServer]:
    """A running server that tests look at, and leave running."""
    with _scratch() as scratch:
        yield embedded.start(environ_of(scratch / "home"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder that everybody may enter; servers in homes directly below it are stopped at the end."""
    with _scratch() as scratch:
        yield scratch


@pytest.fixture
def environ_on_disk() -> Iterator[Environ]:
    """The same, whose home does not lie in shared memory."""
    with _scratch(Path("/var/tmp")) as scratch:
        yield environ_of(scratch / "home")


@pytest.fixture
def environ(scratch: Path) -> Environ:
    """An environment whose embedded server has never been started."""
    return environ_of(scratch / "home")


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """The home of a server that was started and stopped, to be copied: making one takes longer than most tests."""
    with _scratch() as scratch:
        embedded.start(environ_of(scratch / "home"))
        embedded.stop(environ_of(scratch / "home"))
        yield scratch / "home"


@pytest.fixture
def made(environ: Environ, made_home: Path) -> Environ:
    """An environment whose embedded server has been started before."""
    subprocess.run(["cp", "-a", made_home, environ[HOME_VARIABLE]], check=True)
    return environ


def environ_of(home: Path) -> Environ:
    return {HOME_VARIABLE: str(home), BINDIR_VARIABLE: str(postgres.binaries())}


def postmaster_pid(server: EmbeddedServer) -> int:
    pid = read_pid(server.home.data / "postmaster.pid")
    assert pid is not None
    return pid


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@contextmanager
def _scratch(folder: Path | None = None) -> Iterator[Path]:
    # Not tmp_path: pytest closes it to the account that the server runs as when the tests run as root.
    scratch = Path(tempfile.mkdtemp(prefix="sequin-embedded-", dir=folder or postgres.fast_folder()))
    scratch.chmod(0o755)
    try:
        yield scratch
    finally:
        for data in list(scratch.glob("**/data")):
            environ = environ_of(data.parent)
            embedded.stop(environ)
            shutil.rmtree(embedded.find_home(environ).socket_directory, ignore_errors=True)
        shutil.rmtree(scratch)
