"""pgbouncer in transaction mode in front of the test server: a connection of the server is lent for one transaction at a time."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.postgres import fast_folder, unprivileged_account

SETTINGS = """\
[databases]
* = host={socket} port=5432 user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
logfile = {folder}/pgbouncer.log
ignore_startup_parameters = extra_float_digits
"""
START_SECONDS = 20.0


def is_installed() -> bool:
    return program() is not None


def program() -> str | None:
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


@contextmanager
def pooler_folder() -> Iterator[Path]:
    """A folder that the server's account may write to."""
    folder = Path(tempfile.mkdtemp(prefix="sequin-pooler-", dir=fast_folder()))
    account = unprivileged_account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def pooler(folder: Path, server_socket: Path, *, connections: int) -> Iterator[Path]:
    """Runs in `folder`, which the server's account may write to, and lends so many connections a database; yields its socket's folder."""
    found = program()
    assert found is not None
    account = unprivileged_account()
    settings = folder / "pgbouncer.ini"
    settings.write_text(SETTINGS.format(socket=server_socket, folder=folder, connections=connections))
    with subprocess.Popen(
        [found, "-q", settings],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    ) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            url = f"postgresql://postgres@/pgbouncer?host={folder}&port=6432"
            while psycopg.pq.PGconn.ping(url.encode()) != psycopg.pq.Ping.OK:
                assert process.poll() is None, (folder / "pgbouncer.log").read_text()
                assert time.monotonic() < deadline, "pgbouncer did not start"
                time.sleep(0.01)
            yield folder
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
