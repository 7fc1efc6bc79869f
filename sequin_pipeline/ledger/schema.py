"""This module creates and migrates the ledger's tables: by the pipeline, under an advisory lock, additively.

`VERSION` counts the migrations; a ledger of a newer version is refused. What is read and written there is the
business of the modules beside this one.
"""

import psycopg
from psycopg import sql

from sequin_pipeline.errors import ConfigurationError, LedgerRefused
from sequin_pipeline.ledger.migrations import MIGRATIONS
from sequin_pipeline.postgres.warehouse import LOCK_TIMEOUT_SECONDS, Connection, limit_lock_waits

DEFAULT_SCHEMA = "sequin_pipeline"

OLDEST_POSTGRES = 13

_LOCK_KEY = 0x5E901
"""Schemas and tables are created under the advisory lock of this number, which is our own choice."""

VERSION = len(MIGRATIONS)


def migrate(connection: Connection, schema: str = DEFAULT_SCHEMA) -> None:
    """Brings the ledger to VERSION; costs one short read when it is there already.

    Raises LedgerRefused for a ledger of a newer version, or for a schema of that name that is not a ledger; ConfigurationError
    for a Postgres older than OLDEST_POSTGRES; psycopg.Error else.
    """
    check_server(connection.info.server_version)
    found = ledger_version(connection, schema)
    if found == VERSION:
        return
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        found = ledger_version(connection, schema)
        check_version(found, schema)
        names = {"schema": sql.Identifier(schema)}
        if found is None:
            create_schema(cursor, schema)
            cursor.execute(sql.SQL("create table {schema}.ledger (version integer not null)").format(**names))
            cursor.execute(sql.SQL("insert into {schema}.ledger values (0)").format(**names))
        for migration in MIGRATIONS[found or 0 :]:
            # Several statements in one string, which only the simple protocol takes.
            cursor.execute(sql.SQL(migration).format(**names), binary=False)
        cursor.execute(sql.SQL("update {schema}.ledger set version = %s").format(**names), (VERSION,))


def check_server(version: int) -> None:
    """Refuses a server that is older than any that is supported; `version` is as libpq tells it. Raises ConfigurationError."""
    if version < OLDEST_POSTGRES * 10_000:
        raise ConfigurationError(
            f"the warehouse is Postgres {version // 10_000}.{version % 10_000}, and the pipeline needs {OLDEST_POSTGRES} or newer: "
            "upgrade the server, or let WAREHOUSE_URL name another"
        )


def create_schema(cursor: psycopg.Cursor[tuple[object, ...]], schema: str) -> None:
    """Creates the schema where it is missing; asks first, since `if not exists` wants the right to create schemas even then."""
    cursor.execute("select from pg_namespace where nspname = %s", (schema,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


def lock_ddl(cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
    """Lets one creator or migrator work at a time, until the transaction ends.

    Nobody queues for long behind a lock we wait for.
    """
    limit_lock_waits(cursor.connection, LOCK_TIMEOUT_SECONDS)
    cursor.execute("select pg_advisory_xact_lock(%s)", (_LOCK_KEY,))


def check_version(found: int | None, schema: str = DEFAULT_SCHEMA) -> None:
    """Raises LedgerRefused for a ledger that is newer than this code."""
    if found is not None and found > VERSION:
        raise LedgerRefused(
            f"the ledger in schema {schema!r} is of version {found}, and this pipeline knows versions up to {VERSION}: "
            "it was migrated by a newer one; upgrade this installation"
        )


def ledger_version(connection: Connection, schema: str = DEFAULT_SCHEMA) -> int | None:
    """Returns the version, None where there is no ledger. Raises LedgerRefused for a table of that name that holds no version."""
    with connection.cursor() as cursor:
        # Not by to_regclass: after waiting for another creator's lock it would still answer from a cache that knows of no such table.
        cursor.execute(
            "select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = 'ledger'",
            (schema,),
        )
        if cursor.fetchone() is None:
            return None
        cursor.execute(sql.SQL("select version from {}.ledger").format(sql.Identifier(schema)))
        row = cursor.fetchone()
    if row is None:
        raise LedgerRefused(
            f"table {schema}.ledger is empty, so its version is unknown: restore it, or name another ledger schema"
        )
    return int(str(row[0]))
