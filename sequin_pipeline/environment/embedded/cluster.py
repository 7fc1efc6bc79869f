"""This module makes, configures, launches and shuts down one data directory; every function needs the home's lock.

When to do which is decided in server.py.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from psycopg import pq

from sequin_pipeline.environment.embedded.binaries import BINDIR_VARIABLE, Binaries
from sequin_pipeline.environment.embedded.home import Home
from sequin_pipeline.environment.embedded.memory import LEAST_BUFFERS, shared_buffers, usable_memory
from sequin_pipeline.environment.embedded.os_user import OsUser
from sequin_pipeline.environment.embedded.processes import is_server, read_pid
from sequin_pipeline.errors import ConfigurationError, WarehouseUnavailable
from sequin_pipeline.postgres.libpq import alone, closed_conninfo

START_SECONDS = 120
"""Recovery after a crash reads the log since the last checkpoint: seconds on a disk; half a minute has been reported."""
STOP_SECONDS = 60
LEFTOVER_SECONDS = 15
"""Processes of a killed server notice it within seconds, and until then Postgres refuses to start a second one beside them."""
POLL_SECONDS = 0.02
MEMORY_REFUSED = "could not map anonymous shared memory"
"""Postgres says this in English, for its data directory is made with the locale C."""
MIN_SHARED_MEMORY_BYTES = 256 * 1024**2
"""Docker gives /dev/shm 64 MB, which parallel queries use up: with less than this they get files instead."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    # Nobody replicates from it, and COPY into a new table need not be logged.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Seven files at most, one per day of the week.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}


def ping(home: Home) -> pq.Ping:
    """Asks whether a server answers at the socket; a process number would not tell, since it may be stale."""
    with alone():
        return pq.Ping(pq.PGconn.ping(closed_conninfo(home.url("postgres")).encode()))


def make(home: Home, binaries: Binaries, user: OsUser) -> None:
    """Makes the data directory beside its place, then moves it there: a process killed in between leaves nothing half-made."""
    for leftover in home.root.glob("data.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="data.new-", dir=home.root))
    user.give(scratch)
    try:
        options = ["-U", "postgres", "-E", "UTF8", "--auth-local=trust", "--auth-host=reject", *_locale(binaries)]
        if binaries.major >= 16:
            options += [option for name, value in _dynamic_memory().items() for option in ("-c", f"{name}={value}")]
        outcome = user.run([binaries.program("initdb"), "-D", scratch, *options])
        if outcome.returncode != 0:
            raise WarehouseUnavailable(f"initdb could not make the data directory {str(home.data)!r}: {outcome.output}")
        with (scratch / "postgresql.conf").open("a") as configuration:
            configuration.write(f"include_if_exists '../{home.configuration.name}'\n")
        scratch.rename(home.data)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_major(home: Home, binaries: Binaries) -> None:
    """Refuses a data directory of another major version, whose programs must not touch it."""
    version = home.data / "PG_VERSION"
    if not version.exists():
        raise ConfigurationError(
            f"{str(home.data)!r} should be a data directory of Postgres, but has no file PG_VERSION: move it away and start again"
        )
    major = version.read_text().strip()
    if major != str(binaries.major):
        raise ConfigurationError(
            f"{str(home.data)!r} was made by Postgres {major}, but the programs in {str(binaries.directory)!r} are Postgres "
            f"{binaries.version}: with {BINDIR_VARIABLE} naming the programs of Postgres {major}, save each database by "
            "`sequin-pipeline db dump DATABASE FILE` and `sequin-pipeline db stop`; then move the folder away, start again "
            "without it, and restore by `pg_restore`"
        )


def launch(home: Home, binaries: Binaries, user: OsUser) -> None:
    """Launches the server and returns when it accepts connections.

    It gets the least of shared memory where it cannot have what suits the machine: a limit on addresses, or on what may be promised, is
    known to the system alone.
    """
    buffers = shared_buffers(usable_memory())
    discard_stale_locks(home)
    log = home.log / "startup.log"
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while True:
        _configure(home, buffers)
        log.unlink(missing_ok=True)
        options = ["-w", "-t", str(START_SECONDS), "-s"]
        outcome = user.run([binaries.program("pg_ctl"), "start", "-D", home.data, "-l", log, *options])
        if outcome.returncode == 0:
            return
        said = "\n".join([outcome.output, log.read_text(errors="replace") if log.exists() else ""]).strip()
        if MEMORY_REFUSED in said and buffers != LEAST_BUFFERS:
            buffers = LEAST_BUFFERS
            continue
        if "still in use" not in said or time.monotonic() > deadline:
            raise WarehouseUnavailable(
                f"the embedded Postgres in {str(home.root)!r} did not start within {START_SECONDS} seconds; it said:\n{said}\n"
                f"The log in {str(home.log)!r} may say more"
            )
        time.sleep(POLL_SECONDS)


def wait_while_busy(home: Home) -> pq.Ping:
    """Waits while a server is starting, recovering or ending, and returns what it is then."""
    deadline = time.monotonic() + START_SECONDS
    while (answer := ping(home)) == pq.Ping.REJECT:
        if time.monotonic() > deadline:
            raise WarehouseUnavailable(
                f"the embedded Postgres in {str(home.root)!r} has been starting or ending for {START_SECONDS} seconds: "
                f"see its log in {str(home.log)!r}, and try again"
            )
        time.sleep(POLL_SECONDS)
    return answer


def shut_down(home: Home) -> bool:
    """Shuts the server down fast and returns False if there was none: sessions are ended, uncommitted work is rolled back."""
    pid = read_pid(home.data / "postmaster.pid")
    if pid is None or is_server(pid, home.data) is not True:
        if ping(home) == pq.Ping.NO_RESPONSE:
            return False
        raise WarehouseUnavailable(
            f"a Postgres answers in {str(home.socket_directory)!r}, but its process cannot be seen from here (another container "
            "or account): stop it where it was started"
        )
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    while is_server(pid, home.data):
        if time.monotonic() > deadline:
            raise WarehouseUnavailable(
                f"the embedded Postgres (process {pid}) did not end within {STOP_SECONDS} seconds: see its log in {str(home.log)!r}"
            )
        time.sleep(POLL_SECONDS)
    return True


def discard_stale_locks(home: Home) -> None:
    """Removes lock files that name a zombie or a stranger; one that names nobody, Postgres removes itself."""
    for lock in (home.data / "postmaster.pid", home.socket_lock):
        pid = read_pid(lock)
        if pid is not None and is_server(pid, home.data) is False:
            lock.unlink(missing_ok=True)


def _configure(home: Home, buffers: str) -> None:
    settings = {
        **SETTINGS,
        "shared_buffers": buffers,
        "unix_socket_directories": f'"{home.socket_directory}"',
        "log_directory": str(home.log),
        **_dynamic_memory(),
    }
    lines = ["# Written at every start of the embedded server; put settings of your own into data/postgresql.auto.conf.\n"]
    for name, value in settings.items():
        quoted = value.replace("'", "''")
        lines.append(f"{name} = '{quoted}'\n")
    home.configuration.write_text("".join(lines))
    home.configuration.chmod(0o644)


def _dynamic_memory() -> Mapping[str, str]:
    """Returns what to set where the system has too little shared memory for processes that share some for a while."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - measured, not written
    is_short = shared_memory.is_dir() and shutil.disk_usage(shared_memory).total < MIN_SHARED_MEMORY_BYTES
    return {"dynamic_shared_memory_type": "mmap"} if is_short else {}


def _locale(binaries: Binaries) -> list[str]:
    """Returns options for one sort order on every system, where Postgres brings its own (17 and later)."""
    return ["--locale=C", *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else [])]
