"""This module starts or adopts the embedded server, stops it, looks at it, and saves its databases."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq, sql

from sequin_pipeline.environment.embedded import cluster
from sequin_pipeline.environment.embedded.binaries import find_binaries, reachable
from sequin_pipeline.environment.embedded.home import Home, check_private, exclusive, find_home, prepare
from sequin_pipeline.environment.embedded.os_user import own_user, server_user
from sequin_pipeline.errors import ConfigurationError, WarehouseError, WarehouseUnavailable
from sequin_pipeline.postgres.libpq import alone, closed_conninfo

DAGSTER = "dagster"
DATABASES = ("warehouse", "sandbox", DAGSTER)
"""The first start makes these: the tables, the tables of the sandbox's records, and Dagster's own storage."""


@dataclass(frozen=True)
class EmbeddedServer:
    """This server was running a moment ago; `version` is the server's, `was_running` says whether it ran before we asked."""

    home: Home
    version: str
    was_running: bool

    def url(self, database: str) -> str:
        """Returns a plain libpq URL, as psycopg and psql take it."""
        return self.home.url(database)


def start(environ: Mapping[str, str]) -> EmbeddedServer:
    """Starts the server of this environment's home, or adopts the one that runs; its databases exist afterwards.

    Any number of processes may call this at once. The first call makes the data directory (about a second). Raises
    ConfigurationError where this machine cannot run one, WarehouseUnavailable where it does not come up.
    """
    home = find_home(environ)
    user = server_user(home.data)
    prepare(home, user)
    with exclusive(home):
        was_running = cluster.wait_while_busy(home) == pq.Ping.OK
        if not was_running:
            binaries = reachable(find_binaries(environ), home, user)
            if not home.data.exists():
                cluster.make(home, binaries, user)
            cluster.check_major(home, binaries)
            cluster.launch(home, binaries, user)
        return EmbeddedServer(home, version=_make_databases(home, DATABASES), was_running=was_running)


def status(environ: Mapping[str, str]) -> EmbeddedServer | None:
    """Returns the server if it accepts connections; changes nothing."""
    home = find_home(environ)
    if not home.socket_directory.exists():
        return None
    check_private(home.socket_directory, server_user(home.data))
    if cluster.ping(home) != pq.Ping.OK:
        return None
    with _connection(home) as connection:
        return EmbeddedServer(home, version=_server_version(connection), was_running=True)


def stop(environ: Mapping[str, str]) -> bool:
    """Ends the server and every session in it; returns False if none was running."""
    home = find_home(environ)
    if not home.data.exists():
        return False
    with exclusive(home):
        return cluster.shut_down(home)


def dump(environ: Mapping[str, str], database: str, *, path: Path) -> None:
    """Saves a database in pg_dump's custom format, which pg_restore of the same or a later version reads.

    It starts the server if need be. `path` is replaced only by a complete dump, which nobody else can read.
    """
    server = start(environ)
    program = find_binaries(environ).program("pg_dump")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            partial = Path(scratch) / path.name
            partial.touch(mode=0o600)
            with partial.open("wb") as output:
                outcome = own_user().run([program, "--format=custom", "--dbname", server.url(database)], stdout=output)
                os.fsync(output.fileno())
            if outcome.returncode != 0:
                raise WarehouseError(f"database {database!r} of the embedded Postgres was not saved: {outcome.output}")
            partial.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"database {database!r} could not be saved to {str(path)!r}: {error.strerror}. Name a file in a folder that can be written"
        ) from error


def _make_databases(home: Home, databases: Iterable[str]) -> str:
    with _connection(home) as connection:
        existing = {name for (name,) in connection.execute("select datname from pg_database")}
        for database in databases:
            if database not in existing:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
                if database == DAGSTER:
                    # Dagster commits every event by itself. After a power cut its log may lack the last second; rows never do.
                    connection.execute(sql.SQL("alter database {} set synchronous_commit = off").format(sql.Identifier(database)))
        return _server_version(connection)


def _connection(home: Home) -> psycopg.Connection[tuple[str, ...]]:
    try:
        with alone():
            return psycopg.connect(closed_conninfo(home.url("postgres")), autocommit=True)
    except psycopg.OperationalError as error:
        raise WarehouseUnavailable(
            f"the embedded Postgres in {str(home.root)!r} runs, but takes no connection: {error}"
        ) from error


def _server_version(connection: psycopg.Connection[tuple[str, ...]]) -> str:
    return (connection.info.parameter_status("server_version") or "").split(" ")[0]
