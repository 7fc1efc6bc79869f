"""Starting, adopting, looking at, saving and stopping the embedded server, as any command does."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import EmbeddedServer
from sequin_pipeline.environment.embedded.os_user import server_user
from sequin_pipeline.errors import WarehouseError
from tests.environment.embedded.conftest import Environ, environ_of, postmaster_pid, rows
from tests.support import postgres

START = "import os; from sequin_pipeline.environment import embedded; print(embedded.start(os.environ).was_running)"


def test_the_first_start_makes_the_databases_and_the_next_adopts_the_server(environ: Environ) -> None:
    first = embedded.start(environ)
    pid = postmaster_pid(first)

    second = embedded.start(environ)

    assert (first.was_running, second.was_running) == (False, True)
    assert postmaster_pid(second) == pid
    assert rows(second.url("postgres"), "select datname from pg_database where not datistemplate order by 1") == [
        ("dagster",),
        ("postgres",),
        ("sandbox",),
        ("warehouse",),
    ]


def test_six_commands_at_once_start_one_server(environ: Environ) -> None:
    command = [sys.executable, "-c", START]
    starters = [subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True) for _ in range(6)]

    said = sorted(starter.communicate()[0].strip() for starter in starters)

    assert [starter.returncode for starter in starters] == [0] * 6
    assert said == ["False", "True", "True", "True", "True", "True"]


def test_the_server_outlives_the_command_that_started_it(made: Environ) -> None:
    subprocess.run([sys.executable, "-c", START], env={**os.environ, **made}, check=True, stdout=subprocess.DEVNULL)

    server = embedded.status(made)

    assert server is not None
    assert rows(server.url("warehouse"), "select 1") == [(1,)]


def test_stop_ends_open_sessions_and_says_whether_there_was_a_server(made: Environ) -> None:
    server = embedded.start(made)
    with psycopg.connect(server.url("warehouse")) as session:
        stopped = embedded.stop(made)

        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    assert stopped is True
    assert embedded.stop(made) is False
    assert embedded.status(made) is None


def test_a_home_that_was_never_used_is_not_running_and_stays_unmade(environ: Environ, scratch: Path) -> None:
    assert embedded.status(environ) is None
    assert embedded.stop(environ) is False
    assert list(scratch.iterdir()) == []


def test_rows_survive_stop_and_start(made: Environ) -> None:
    server = embedded.start(made)
    with psycopg.connect(server.url("warehouse")) as connection:
        connection.execute("create table kept as select 7 as n")
    embedded.stop(made)

    server = embedded.start(made)

    assert rows(server.url("warehouse"), "select n from kept") == [(7,)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("with space", id="space"),
        pytest.param("o'brien", id="apostrophe"),
        pytest.param("a,b", id="comma"),
        pytest.param("größe%41+1", id="beyond-ascii-and-escapes"),
        pytest.param("l" * 120, id="longer-than-a-socket-address"),
    ],
)
def test_the_home_may_have_any_ordinary_path(scratch: Path, name: str) -> None:
    server = embedded.start(environ_of(scratch / name))

    assert rows(server.url("sandbox"), "select current_database()::text") == [("sandbox",)]
    assert stat.S_IMODE(server.home.socket_directory.stat().st_mode) == 0o700


def test_the_server_listens_on_no_network(shared: EmbeddedServer) -> None:
    server = psutil.Process(postmaster_pid(shared))

    assert server.net_connections(kind="inet") == []
    assert [Path(socket.laddr).parent for socket in server.net_connections(kind="unix") if socket.laddr] == [
        shared.home.socket_directory
    ]


def test_data_log_and_socket_are_closed_to_others(shared: EmbeddedServer) -> None:
    home = shared.home
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home.data, home.log, home.socket_directory)}

    assert modes == {"data": 0o700, "log": 0o700, "run": 0o700}


def test_what_a_user_may_lose_is_durable_and_times_are_utc(shared: EmbeddedServer) -> None:
    settings = "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'TimeZone') order by name"

    assert rows(shared.url("warehouse"), settings) == [("TimeZone", "UTC"), ("fsync", "on"), ("synchronous_commit", "on")]


def test_the_servers_environment_holds_nothing_of_ours(made: Environ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUIN_API_TOKEN", "hush")
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tokyo")

    server = embedded.start(made)

    names = set(psutil.Process(postmaster_pid(server)).environ())
    assert names & {"SEQUIN_API_TOKEN", "PGOPTIONS"} == set()


def test_a_dump_restores_into_another_database(shared: EmbeddedServer, tmp_path: Path) -> None:
    environ = environ_of(shared.home.root)
    with psycopg.connect(shared.url("warehouse"), autocommit=True) as connection:
        connection.execute("create table saved as select 'å' as name")
        connection.execute("create database restored")

    embedded.dump(environ, "warehouse", path=tmp_path / "warehouse.dump")

    restore: list[str | Path] = [
        postgres.binaries() / "pg_restore",
        "--dbname",
        shared.url("restored"),
        tmp_path / "warehouse.dump",
    ]
    subprocess.run(restore, check=True)
    assert rows(shared.url("restored"), "select name from saved") == [("å",)]
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse.dump"]
    assert stat.S_IMODE((tmp_path / "warehouse.dump").stat().st_mode) == 0o600


def test_a_dump_that_fails_leaves_the_last_one(shared: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "nothing.dump"
    path.write_text("the last one")

    with pytest.raises(WarehouseError, match=r"database 'nothing' of the embedded Postgres was not saved: .*does not exist"):
        embedded.dump(environ_of(shared.home.root), "nothing", path=path)

    assert path.read_text() == "the last one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_server_takes_the_account_that_owns_its_data(shared: EmbeddedServer) -> None:
    account = server_user(shared.home.data)

    assert psutil.Process(postmaster_pid(shared)).uids().real == account.uid == shared.home.data.stat().st_uid
