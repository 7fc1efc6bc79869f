"""This module copies rows that are new to a table straight into it: no staging, no look at what is there, no count by the server.

Only a saving. The key's unique index decides between writers: whoever else inserts one of these rows first makes Postgres refuse the
copy. Then nothing of it stays, and the batch goes the way of every other, where versions decide. A batch goes one way as a whole,
in the order of its keys: rows copied and rows merged in one transaction would take locks in two rounds, and deadlock.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import psycopg
from psycopg import sql

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres import copy_binary
from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection, is_about_a_record
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.merge import Merged, ShortWayRefused, Waiting
from sequin_pipeline.write.staging import EncodedBatch, encode_versions


@dataclass(frozen=True)
class CopyBatch:
    """This value is a batch as the bytes of a COPY into its table: encoded before the transaction begins.

    `versions` are staged all the same, where there is a history table.
    """

    target: Target
    batch: Batch = field(repr=False)
    rows: copy_binary.StampedRows = field(repr=False)
    versions: EncodedBatch | None = field(default=None, repr=False)


def can_copy(target: Target) -> bool:
    """Tells whether nothing but the key decides what is new to the table, and what is sent is what is stored.

    Not so where removed rows are remembered, where a history tells what became of each record, where elements of the records go to
    child tables, and in an application's table, whose types are its own.
    """
    return (
        not target.updates_in_place
        and not target.remembers
        and target.history is None
        and not target.children
        and all(_travels_as(column) is not None for column in target.columns)
    )


def encode(target: Target, batch: Batch) -> CopyBatch:
    """Returns the rows of the batch as the bytes that COPY takes; there must be some."""
    kinds = [_travels_as(column) or column.staging for column in target.columns]
    rows = copy_binary.encode_stamped(batch.select(target.column_names), kinds, stamps=len(target.stamps))
    return CopyBatch(target, batch, rows, encode_versions(target, batch.versions))


def copy_rows(connection: Connection, encoded: CopyBatch, *, waiting: Waiting = nullcontext) -> Merged:
    """Copies a batch inside the open transaction, deferred constraints included.

    Raises ShortWayRefused, else psycopg.Error; then the transaction must be rolled back.
    """
    target, started = encoded.target, time.perf_counter()
    payload = encoded.rows.at(check_table(connection, target))
    names = [*target.stamps.values(), *(column.table_name for column in target.columns)]
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(target.table.schema, target.table.name), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    try:
        with connection.cursor() as cursor:
            with waiting(), cursor.copy(statement) as copy:
                copy.write(payload)
            # A trigger may have left rows out.
            is_whole = cursor.rowcount == len(encoded.batch)
        connection.execute("set constraints all immediate")
    except psycopg.Error as error:
        if is_about_a_record(error):
            raise ShortWayRefused(error) from error
        raise
    if not is_whole:
        raise ShortWayRefused
    return Merged(_counts(target, encoded.batch), len(payload), {"copy": time.perf_counter() - started})


def _travels_as(column: TargetColumn) -> str | None:
    """Returns the form in which COPY takes the values as the column's own type; None where only a cast gets them there."""
    if column.cast is None:
        return column.staging
    return column.cast if column.cast in ("jsonb", "json") else None


def check_table(connection: Connection, target: Target) -> int:
    """Returns the transaction's moment in microseconds since 1970. Raises ShortWayRefused where only the merge will do.

    Rules COPY passes by, row-level security refuses it. A trigger before the insert may make another row of each, whose count only
    the row itself tells, and which the merge stores for a row that is there, too.
    """
    # Of tgtype, bit 0 says for each row, bit 1 before, bit 2 insert.
    moment: int | None = fetch_value(
        connection,
        "select (select (extract(epoch from now()) * 1000000)::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s and c.relkind = 'r' and not c.relhasrules and not row_security_active(c.oid)"
        " and not exists (select from pg_trigger g where g.tgrelid = c.oid and not g.tgisinternal and g.tgenabled <> 'D'"
        " and g.tgtype & 7 = 7))",
        (target.table.schema, target.table.name),
    )
    if moment is None:
        raise ShortWayRefused
    return moment


def _counts(target: Target, batch: Batch) -> dict[int, Counts]:
    is_deleted = np.zeros(len(batch), dtype=bool)
    if target.tombstone:
        is_deleted = batch.column(target.tombstone).combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)
    counts = {}
    for window in np.unique(batch.windows):
        is_here = batch.windows == window
        created, deleted = int(is_here.sum()), int((is_here & is_deleted).sum())
        counts[int(window)] = Counts(inserted=created - deleted, deleted=deleted, created=created)
    return counts
