"""The throw-away Postgres of a bench: the product's own embedded server in a folder of its own, durable as users have it.

Its settings are the embedded server's, but for autovacuum, which would charge one contestant for the rows of another.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from bench import processes
from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import BINDIR_VARIABLE, HOME_VARIABLE, EmbeddedServer
from sequin_pipeline.postgres.warehouse import Connection

SETTINGS_TOLD = (
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "max_wal_size",
    "data_checksums",
    "default_toast_compression",
    "autovacuum",
)
GOING_SECONDS = 2.0
"""For backends whose client has gone. A contestant that stays connected is read all the same, but for its last transactions."""


@dataclass(frozen=True)
class Readings:
    """What the server has spent since it started; `cpu_seconds` are those of all its processes, None where there is no /proc."""

    cpu_seconds: float | None
    wal_bytes: int
    transactions: int


@dataclass(frozen=True)
class Postgres:
    """A running server; `control` is a connection to a database that nobody else uses, so that reading is not counted."""

    server: EmbeddedServer
    control: Connection = field(repr=False)

    def make_database(self, name: str) -> str:
        """A fresh database; returns its libpq URL."""
        self.control.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.server.url(name)

    def drop_database(self, name: str) -> None:
        self.control.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def checkpoint(self) -> None:
        """Writes of before are not charged to what comes; nor are full pages saved twice."""
        self.control.execute("checkpoint")

    def read(self, database: str) -> Readings:
        """Waits for the backends of the last contestant to have gone, since they tell what they did when they go."""
        deadline = time.monotonic() + GOING_SECONDS
        while self._count("select count(*) from pg_stat_activity where datname = %s", database) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.control.execute("select pg_stat_clear_snapshot()")
        return Readings(
            cpu_seconds=self.server_cpu_seconds(),
            wal_bytes=self._count("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"),
            transactions=self._count("select xact_commit + xact_rollback from pg_stat_database where datname = %s", database),
        )

    def settings(self) -> dict[str, str]:
        """Those that decide about speed."""
        rows = self.control.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)", (list(SETTINGS_TOLD),)
        ).fetchall()
        return {str(name): str(value) for name, value in rows}

    def _count(self, statement: LiteralString, *parameters: object) -> int:
        row = self.control.execute(statement, parameters or None).fetchone()
        return int(str(row[0])) if row else 0

    def server_cpu_seconds(self) -> float | None:
        """What all processes of the server have spent, None where there is no /proc."""
        pid = int((self.server.home.data / "postmaster.pid").read_text().split()[0])
        if not (processes.PROC / str(pid)).exists():
            return None
        _, *others = processes.tree(pid)
        return processes.cpu_seconds(pid, with_reaped=True) + sum(processes.cpu_seconds(other) for other in others)


@contextmanager
def running_postgres(environ: Mapping[str, str]) -> Iterator[Postgres]:
    """Starts a server in a temporary folder on the disk; at the end it is stopped and the folder removed."""
    folder = Path(tempfile.mkdtemp(prefix="sequin-bench-"))
    # The account that the server runs as for root must be able to pass through.
    folder.chmod(0o711)
    ours = {name: environ[name] for name in ("PATH", BINDIR_VARIABLE) if name in environ} | {HOME_VARIABLE: str(folder / "home")}
    try:
        server = embedded.start(ours)
        try:
            with psycopg.connect(server.url("postgres"), autocommit=True) as control:
                control.execute("alter system set autovacuum = off")
                control.execute("select pg_reload_conf()")
                yield Postgres(server, control)
        finally:
            embedded.stop(ours)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
