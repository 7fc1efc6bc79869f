"""This module makes the temporary table that a batch is copied into, and the bytes that go there.

JSON, numeric and arrays travel as text, so that casting and compressing are paid only for rows that survive the merge.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
import pyarrow as pa
from psycopg import sql

from sequin_pipeline.postgres import copy_binary
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import OBJECT_VERSION, Batch
from sequin_pipeline.write.child_batch import elements_of

MAX_STAGING_TABLES = 8
"""A session keeps at most this many.

Each `on commit delete rows` table of a session is truncated at every commit: 0.2 ms with one, 2 ms with eleven.
"""

APPLIED = sql.Identifier("pg_temp", "applied_parents")
"""Of a target with children, this is the session's table of the rows that a merge has written or removed."""

TEMP_BUFFERS = "32MB"
"""A batch fits into these buffers four times.

In the 8 MB that a session has by default it does not: then each is written to a file and read again, for a tenth of what the
whole merge takes.
"""

Cursor = psycopg.Cursor[tuple[object, ...]]


@dataclass(frozen=True)
class Staging:
    """This value is a staging table by its columns and their types.

    The name hangs on all of them, so that no shape is taken for another, and on what it is for: versions and elements of a batch are
    staged beside its rows, each child table's elements apart.
    """

    columns: tuple[tuple[str, str], ...]
    is_for_versions: bool = False
    use: str = ""

    @property
    def name(self) -> str:
        """This is the unqualified name: the table lives in the session's temporary schema."""
        prefix = "staging_versions_" if self.is_for_versions else "staging_"
        told = repr(self.columns) + self.use
        return prefix + hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

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
    children: "tuple[EncodedChild, ...]" = field(default=(), repr=False)

    @property
    def copied_bytes(self) -> int:
        """These are the bytes of the batch and of its elements."""
        return sum(len(part.payload) for part in self.parts)

    @property
    def parts(self) -> "tuple[EncodedBatch | EncodedChild, ...]":
        """These are the rows of the table, and then those of each child table."""
        return (self, *self.children)


@dataclass(frozen=True)
class EncodedChild:
    """This value holds the elements of a batch's records that go to one child table, as bytes."""

    target: Target
    staging: Staging
    payload: memoryview = field(repr=False)
    rows: int


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
    # Elements go with the newest versions alone.
    of = () if staging.is_for_versions else target.children
    children = tuple(_encode_child(child.target, elements_of(target, batch, child)) for child in of)
    payload = copy_binary.encode(rows, [kind for _, kind in staging.columns])
    return EncodedBatch(target, batch, staging, payload, versions, children)


def _encode_child(target: Target, elements: pa.Table) -> EncodedChild:
    columns = tuple((column.name, column.staging) for column in target.stored)
    rows = elements.select([name for name, _ in columns])
    payload = copy_binary.encode(rows, [kind for _, kind in columns]) if len(elements) else memoryview(b"")
    return EncodedChild(target, Staging(columns, use=target.label), payload, len(elements))


def fill(cursor: Cursor, encoded: EncodedBatch) -> None:
    """Creates the session's staging table where it is missing and copies the batch into it; the commit empties it."""
    create_all(cursor, encoded)
    for part in encoded.parts:
        if part.payload:
            with cursor.copy(sql.SQL("copy {} from stdin (format binary)").format(part.staging.identifier)) as copy:
                copy.write(part.payload)


def empty(connection: Connection, encoded: EncodedBatch) -> None:
    """Empties the staging tables of a batch before the transaction ends."""
    tables = [part.staging.identifier for part in encoded.parts]
    tables += [APPLIED] if encoded.target.children else []
    connection.execute(sql.SQL("truncate {}").format(sql.SQL(", ").join(tables)))


def create_all(cursor: Cursor, encoded: EncodedBatch) -> None:
    """Makes the session's staging tables for a batch, where they are missing."""
    stagings = [part.staging for part in encoded.parts]
    for staging in stagings:
        create(cursor, staging, kept=stagings)
    if encoded.target.children:
        cursor.execute(
            "do $$ begin if to_regclass('pg_temp.applied_parents') is null then"
            " create temp table applied_parents (id text not null, is_created boolean not null default false,"
            " is_kept boolean not null default false) on commit delete rows;"
            " end if; end $$"
        )


def create(cursor: Cursor, staging: Staging, *, kept: Sequence[Staging] = ()) -> None:
    """Makes the session's staging table, where it is missing; those that are `kept` are not dropped for it."""
    cursor.execute(
        "select relname from pg_class where relnamespace = pg_my_temp_schema() and relkind = 'r' and starts_with(relname, 'staging_')"
    )
    existing = [str(row[0]) for row in cursor.fetchall()]
    if staging.name in existing:
        return
    names = {each.name for each in kept}
    for surplus in [name for name in existing if name not in names][max(0, MAX_STAGING_TABLES - len(kept or (staging,))) :]:
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
