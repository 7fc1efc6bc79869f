"""This module writes the versions of a batch into the history table of its collection, in the transaction that writes its rows.

For any order, repetition and overlap of batches, the table ends with one row for each version that was delivered, each ending where
the next one begins. Versions that are known are not touched: no tuple, no row lock. Every writer takes its locks in one order: rows
of the table, then buckets of the history, then rows of it; so no two wait for each other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

import psycopg
from psycopg import sql

from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection, is_about_a_record
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.direct_copy import CopyBatch
from sequin_pipeline.write.merge import Merged, RowsRefused, pin_plan
from sequin_pipeline.write.removals import lock_each
from sequin_pipeline.write.staging import EncodedBatch, Staging, create, encode_versions, fill, versions_staging
from sequin_pipeline.write.version_statements import VersionStatements

SHOWN_VERSIONS = 20


class VersionsRefused(RowsRefused):
    """Postgres refused some version of the batch, which the table itself need not have been given."""


def add_versions(connection: Connection, encoded: EncodedBatch | CopyBatch, merged: Merged, *, in_parts: bool) -> Merged:
    """Writes the versions of a batch behind its merge, in the open transaction; returns what it came to, with the seconds of this.

    `in_parts`: the batch was merged so, and no longer stands in staging. Raises VersionsRefused where a version is at fault, else
    psycopg.Error; then the transaction must be rolled back.
    """
    target, batch = encoded.target, encoded.batch
    if target.history_table is None or batch.versions is None or len(batch.versions) == 0:
        return merged
    started = time.perf_counter()
    try:
        if isinstance(encoded, EncodedBatch) and encoded.versions is None and not in_parts:
            write_staged(connection, target, encoded.staging)
        else:
            _fill_and_write(connection, encoded.versions or encode_versions(target, batch.versions))
    except psycopg.Error as error:
        if is_about_a_record(error):
            raise VersionsRefused(error) from error
        raise
    return replace(merged, seconds={**merged.seconds, "versions": time.perf_counter() - started})


def rows_at_fault(refusal: RowsRefused, batch: Batch) -> tuple[Batch, Callable[[Connection, Target, Batch], None] | None]:
    """Returns the rows among which one was refused, and how to try some of them; None: as the merge does."""
    if isinstance(refusal, VersionsRefused) and batch.versions is not None:
        return batch.versions, try_versions
    return batch, None


def try_versions(connection: Connection, target: Target, part: Batch) -> None:
    """Writes some versions by themselves, in a savepoint, to see whether Postgres takes them. Raises VersionsRefused."""
    encoded = encode_versions(target, part)
    try:
        with connection.transaction():
            _fill_and_write(connection, encoded)
            connection.execute(sql.SQL("truncate {}").format(versions_staging(target).identifier))
    except psycopg.Error as error:
        if is_about_a_record(error):
            raise VersionsRefused(error) from error
        raise


def _fill_and_write(connection: Connection, encoded: EncodedBatch | None) -> None:
    assert encoded is not None  # noqa: S101 - there are versions
    pin_plan(connection)
    with connection.cursor() as cursor:
        fill(cursor, encoded)
    write_staged(connection, encoded.target, encoded.staging)


def write_staged(connection: Connection, target: Target, staging: Staging) -> int:
    """Writes the versions that stand in staging; the plan must be pinned. Returns how many rows were written or changed."""
    assert target.history_table is not None  # noqa: S101 - the callers asked
    find, write = _statements(VersionStatements(target, staging))
    due = dict(fetch_rows(connection, _bucket, find, {}))
    if not due:
        return 0
    with connection.cursor() as cursor:
        lock_each(cursor, target.history_table.name, due)
    # A statement of its own, which sees what the last holder of the locks has committed.
    return fetch_row(connection, _sum, write, {}) or 0


def seed_rows(connection: Connection, target: Target, *, after: str | None, limit: int) -> str | None:
    """Writes the next rows of the table as versions; returns the last id, None where there are none behind it.

    To be called in a transaction, with the last id until there is none.
    """
    staging = versions_staging(target)
    pin_plan(connection)
    with connection.cursor() as cursor:
        create(cursor, staging)
        copied = cursor.execute(VersionStatements(target, staging).seed(), {"after": after, "limit": limit}).rowcount
    write_staged(connection, target, staging)
    if copied < limit:
        return None
    last = fetch_row(connection, str, sql.SQL("select max(id) from {}").format(staging.identifier))
    connection.execute(sql.SQL("truncate {}").format(staging.identifier))
    return last


@dataclass(frozen=True)
class KeptVersion:
    """This value is a version of a record as the history table has it: `valid_to` None, it holds."""

    version: int
    is_deleted: bool
    valid_from: datetime
    valid_to: datetime | None


def versions_of(connection: Connection, target: Target, record_id: str) -> list[KeptVersion]:
    """Returns the newest versions of a record, at most SHOWN_VERSIONS, oldest first; none where no history table is there."""
    if target.history_table is None:
        return []
    table = sql.Identifier(target.history_table.name.schema, target.history_table.name.name)
    if fetch_value(connection, "select to_regclass(%s) is null", (table.as_string(connection),)):
        return []
    found = fetch_rows(
        connection,
        KeptVersion,
        sql.SQL(
            "select updated_idx, deleted, valid_from, valid_to from {} where id = %s order by valid_from desc, updated_idx desc limit {}"
        ).format(table, sql.Literal(SHOWN_VERSIONS)),
        (record_id,),
    )
    return found[::-1]


def _bucket(bucket: int, *told: bool) -> tuple[int, bool]:
    (is_exclusive,) = told
    return bucket, is_exclusive


def _sum(written: int, closed: int) -> int:
    return written + closed


@cache
def _statements(statements: VersionStatements) -> tuple[bytes, bytes]:
    """Returns both statements, composed once for all batches of one shape."""
    return with_parameters(statements.find_due()).as_bytes(), with_parameters(statements.write()).as_bytes()
