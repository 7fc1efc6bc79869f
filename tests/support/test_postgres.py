"""The suite's own server keeps what the other tests rely on."""

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psycopg
import pytest

from tests.support import postgres
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer
from tests.support.waits import PATIENCE_SECONDS


def test_each_database_is_fresh_and_empty(make_database: Callable[[], str]) -> None:
    first, second = make_database(), make_database()

    with psycopg.connect(first) as connection:
        connection.execute("create table only_here ()")
    with psycopg.connect(second) as connection:
        tables = connection.execute("select relname from pg_class where relname = 'only_here'").fetchall()

    assert tables == []


def test_the_server_listens_on_its_private_socket_only(warehouse_url: str, postgres_server: PostgresServer) -> None:
    with psycopg.connect(warehouse_url) as connection:
        addresses = connection.execute("show listen_addresses").fetchone()

    assert addresses == ("",)
    assert postgres_server.socket_directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.processes
def test_the_server_ends_when_the_session_is_killed() -> None:
    script = (
        "import os, sys; from tests.support.postgres import running_server\n"
        "with running_server() as server:\n"
        "    print(server.pid, server.socket_directory, flush=True); sys.stdin.read()"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    assert session.stdout is not None
    pid, folder = session.stdout.readline().split()
    ended = os.pidfd_open(int(pid))

    session.kill()
    session.communicate()

    assert _has_ended(ended, timeout_seconds=PATIENCE_SECONDS)
    assert not (Path(folder) / "data" / "postmaster.pid").exists()
    with postgres._scratch_folder():
        assert not Path(folder).exists()


def _has_ended(pidfd: int, *, timeout_seconds: float) -> bool:
    readable, _, _ = select.select([pidfd], [], [], timeout_seconds)
    os.close(pidfd)
    return bool(readable)


@pytest.mark.parametrize("losses", [1, 3])
def test_a_lock_that_another_session_removes_before_it_is_held_is_made_anew(
    losses: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers do that start in the same instant: each looks for what dead sessions left."""
    monkeypatch.setattr(postgres, "fast_folder", lambda: tmp_path)
    lock, left = fcntl.flock, [losses]

    def after_another_session(file: IO[bytes], operation: int) -> None:
        if operation == fcntl.LOCK_EX and left[0]:
            left[0] -= 1
            monkeypatch.setattr(fcntl, "flock", lock)
            for found in tmp_path.glob("*.lock"):
                postgres._sweep(found)
            monkeypatch.setattr(fcntl, "flock", after_another_session)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_another_session)
    with postgres._scratch_folder() as folder:
        assert folder.with_suffix(".lock").exists()
        postgres._sweep(folder.with_suffix(".lock"))
        assert folder.is_dir()

    assert list(tmp_path.iterdir()) == []
