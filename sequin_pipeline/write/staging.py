"""This module makes the temporary table that a batch is copied into, and the bytes that go there.

JSON, numeric and arrays travel as text, so that casting and compressing are paid only for rows that survive the merge.
"""

import hashlib
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from sequin_pipeline.postgres import copy_binary
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import OBJECT_VERSION, Batch

MAX_STAGING_TABLES = 8
"""A session keeps at most so many.

Each `on commit delete rows` table of a session is truncated at every commit: 0.2 ms with one, 2 ms with eleven.
"""

TEMP_BUFFERS = "32MB"
"""A batch fits into these buffers four times.

In the 8 MB that a session has by default it does not: then each is written to a file and read again, for a tenth of what the
whole merge takes.
"""

Cursor = psycopg.Cursor[tuple[object, ...]]


@dataclass(frozen=True)
class Staging:
    """This value is a staging table by its columns and their types.

    The name hangs on all of them, so that no shape is taken for another, and on whether it is for versions: those of a batch are
    staged beside its rows.
    """

    columns: tuple[tuple[str, str], ...]
    is_for_versions: bool = False

    @property
    def name(self) -> str:
        """This is the unqualified name: the table lives in the session's temporary schema."""
        prefix = "staging_versions_" if self.is_for_versions else "staging_"
        return prefix + hashlib.blake2b(repr(self.columns).encode(), digest_size=8).hexdigest()

    @property
    def identifier(self) -> sql.Identifier:
        """This is the name as statements use it: never the table of the same name in somebody's search_path."""
        return sql.Identifier("pg_temp", self.name)


@dataclass(frozen=True)
class EncodedBatch:
    """This value is a batch and its bytes: encoded before the transaction begins, so that none is open while Python works.

    `versions` are those of its versions for the history table; None where there is none, or where the rows are all of them.
    """

    target: Target
    batch: Batch = field(repr=False)
    staging: Staging = field(repr=False)
    payload: memoryview = field(repr=False)
    versions: "EncodedBatch | None" = field(default=None, repr=False)


def encode(target: Target, batch: Batch) -> EncodedBatch:
    """Returns the batch as the bytes that COPY takes."""
    columns = [(column.name, column.staging) for column in target.columns if column.scope != "batch"]
    if batch.has_bare_tombstones:
        columns.append((OBJECT_VERSION, "bigint"))
    versions = None if batch.holds_all_versions else encode_versions(target, batch.versions)
    return _encode(target, batch, Staging(tuple(columns)), versions)


def encode_versions(target: Target, versions: Batch | None) -> EncodedBatch | None:
    """Returns the bytes of the versions of a batch, None where the target keeps none."""
    return None if versions is None else _encode(target, versions, versions_staging(target), None)


def versions_staging(target: Target) -> Staging:
    """Returns the staging table of versions."""
    return Staging(tuple((column.name, column.staging) for column in target.columns), is_for_versions=True)


def _encode(target: Target, batch: Batch, staging: Staging, versions: EncodedBatch | None) -> EncodedBatch:
    if len(batch) == 0:
        # What is all known may not even have all columns.
        return EncodedBatch(target, batch, staging, memoryview(b""), versions)
    rows = batch.select([name for name, _ in staging.columns])
    return EncodedBatch(target, batch, staging, copy_binary.encode(rows, [kind for _, kind in staging.columns]), versions)


def fill(cursor: Cursor, encoded: EncodedBatch) -> None:
    """Creates the session's staging table where it is missing and copies the batch into it; the commit empties it."""
    create(cursor, encoded.staging)
    with cursor.copy(sql.SQL("copy {} from stdin (format binary)").format(encoded.staging.identifier)) as copy:
        copy.write(encoded.payload)


def create(cursor: Cursor, staging: Staging) -> None:
    """Makes the session's staging table, where it is missing."""
    cursor.execute(
        "select relname from pg_class where relnamespace = pg_my_temp_schema() and relkind = 'r' and starts_with(relname, 'staging_')"
    )
    existing = [str(row[0]) for row in cursor.fetchall()]
    if staging.name in existing:
        return
    for surplus in existing[MAX_STAGING_TABLES - 1 :]:
        cursor.execute(sql.SQL("drop table {}").format(sql.Identifier("pg_temp", surplus)))
    _make_room(cursor)
    # toast_tuple_target: a row of a few kB stays in line and uncompressed while it is only being looked at.
    cursor.execute(
        sql.SQL("create temp table {} ({}) with (toast_tuple_target = 8160) on commit delete rows").format(
            sql.Identifier(staging.name),
            sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in staging.columns),
        )
    )


def _make_room(cursor: Cursor) -> None:
    """Raises the session's buffers to what a batch needs.

    The setting counts when a session first touches a temporary table, and must not be changed afterwards; a larger one stays. It
    is given back at the end of the transaction, the buffers remain.
    """
    try:
        # Where somebody's transaction touched one before and was rolled back, nothing tells but the refusal.
        with cursor.connection.transaction():
            cursor.execute(
                "select set_config('temp_buffers', %(wanted)s, true)"
                " where pg_my_temp_schema() = 0 and pg_size_bytes(current_setting('temp_buffers')) < pg_size_bytes(%(wanted)s)",
                {"wanted": TEMP_BUFFERS},
            )
    except psycopg.errors.InvalidParameterValue:
        return
