"""Whatever was killed, and whatever it left behind, the next start brings the server back and harms nobody."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded.os_user import server_user
from sequin_pipeline.environment.embedded.processes import is_server
from tests.environment.embedded.conftest import Environ, postmaster_pid, rows

KILL = 9


def test_a_killed_server_comes_back_with_what_was_committed(made: Environ) -> None:
    server = embedded.start(made)
    with closing(psycopg.connect(server.url("warehouse"))) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as n")
        connection.commit()
        connection.execute("insert into kept select generate_series(1001, 2000)")
        os.kill(postmaster_pid(server), KILL)

        server = embedded.start(made)

    assert server.was_running is False
    assert rows(server.url("warehouse"), "select count(*), max(n) from kept") == [(1000, 1000)]


@pytest.fixture
def stranger(made: Environ) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the server's own account that has nothing to do with it."""
    account = server_user(embedded.find_home(made).data)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, **_identity(account.uid, account.gid)) as process:
        yield process
        process.kill()


def test_a_reused_process_number_does_not_keep_the_server_from_starting(
    made: Environ, stranger: "subprocess.Popen[bytes]"
) -> None:
    home = embedded.start(made).home
    _leave_locks(made, pid=stranger.pid)

    server = embedded.start(made)

    assert server.was_running is False
    assert postmaster_pid(server) != stranger.pid
    assert stranger.poll() is None
    assert home.socket_lock.read_text().splitlines()[0] == str(postmaster_pid(server))


def test_stop_harms_no_stranger_whose_number_a_stale_file_names(made: Environ, stranger: "subprocess.Popen[bytes]") -> None:
    embedded.start(made)
    _leave_locks(made, pid=stranger.pid)

    assert embedded.stop(made) is False

    assert stranger.poll() is None


def test_a_zombie_does_not_keep_the_server_from_starting(made: Environ) -> None:
    embedded.start(made)
    account = server_user(embedded.find_home(made).data)
    zombie = subprocess.Popen(["true"], **_identity(account.uid, account.gid))
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    _leave_locks(made, pid=zombie.pid)

    server = embedded.start(made)

    assert server.was_running is False
    zombie.wait()


def test_locks_of_a_process_that_is_gone_are_no_obstacle(made: Environ) -> None:
    embedded.start(made)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    _leave_locks(made, pid=gone.pid)

    assert embedded.start(made).was_running is False


def test_a_start_that_was_killed_halfway_leaves_nothing_that_counts(environ: Environ) -> None:
    home = embedded.find_home(environ)
    half_made = home.root / "data.new-killed"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    server = embedded.start(environ)

    assert server.was_running is False
    assert not half_made.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["postgres", "-D", "/srv/data"], True, id="the-server"),
        pytest.param(["/usr/bin/postgres", "-D", "/srv/data"], True, id="with-its-path"),
        pytest.param(["postgres", "-D", "/srv/data2"], False, id="of-another-directory"),
        pytest.param(["sleep", "/srv/data"], False, id="another-program"),
    ],
)
def test_a_server_is_told_by_program_and_data_directory(arguments: list[str], *, expected: bool) -> None:
    command = [arguments[0], "-c", "import sys; print(flush=True); sys.stdin.read()", *arguments[1:]]
    with subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as found:
        assert found.stdout is not None
        found.stdout.readline()  # before its program runs, a process has no arguments to be told by
        answer = is_server(found.pid, Path("/srv/data"))
        found.kill()

    assert answer is expected


def _leave_locks(environ: Environ, *, pid: int) -> None:
    """As a crash leaves them, once the number has gone to another process."""
    home = embedded.find_home(environ)
    postmaster, socket = (home.data / "postmaster.pid").read_text(), home.socket_lock.read_text()
    embedded.stop(environ)
    for path, text in ((home.data / "postmaster.pid", postmaster), (home.socket_lock, socket)):
        path.write_text("\n".join([str(pid), *text.splitlines()[1:]]) + "\n")
        account = server_user(home.data)
        account.give(path)


def _identity(uid: int, gid: int) -> dict[str, Any]:
    return {"user": uid, "group": gid} if os.geteuid() == 0 else {}
