"""This module keeps a removed row from coming back.

That takes bucket locks around removals, and the sweep of rows that were only marked so far. The versions themselves stand in the
ledger's table `versions` and are written by the merge statement.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc
from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.postgres.rows import fetch_row
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.buckets import BUCKETS, bucket_of
from sequin_pipeline.write.staging import Cursor

SWEEP_ROWS = 5_000
STAGED = sql.SQL("s")


def row_id(target: Target, row: sql.SQL) -> sql.Composed:
    """Composes what the ledger calls a row by: its key, of several columns as an array literal.

    `row` is staging, or the table's row.
    """
    parts = [
        sql.SQL("{}.{}").format(row, sql.Identifier(column.name))
        if row == STAGED
        else sql.SQL("{}.{}::text").format(row, sql.Identifier(column.table_name))
        for column in map(target.column, target.key)
    ]
    return parts[0] if len(parts) == 1 else sql.SQL("array[{}]::text").format(sql.SQL(", ").join(parts))


def lock_buckets(cursor: Cursor, target: Target, batch: Batch) -> None:
    """Locks the buckets that the batch touches until the transaction ends.

    That is exclusive where it holds a tombstone, else shared; all exclusive where the ledger keeps every version, since no row of
    the table then tells writers apart. Must be a statement of its own before the merge, whose snapshot then sees what the last
    holder committed. Ascending, so that no two batches wait for each other. Without it, a late older version and a removal can
    pass each other unseen.
    """
    is_tombstone = pc.fill_null(batch.column(target.tombstone or ""), fill_value=False).to_pylist()
    exclusive: dict[int, bool] = {}
    for record_id, removes in zip(batch.column(target.key[-1]).to_pylist(), is_tombstone, strict=True):
        bucket = bucket_of(record_id)
        exclusive[bucket] = exclusive.get(bucket, False) or removes or target.keeps_versions
    lock_each(cursor, target.table, dict(sorted(exclusive.items())))


def lock_each(cursor: Cursor, table: TableName, buckets: Mapping[int, bool]) -> None:
    """Locks buckets of a table until the transaction ends, in the order given: exclusive where true, else shared."""
    cursor.execute(
        "select case when is_exclusive then pg_advisory_xact_lock(%(space)s, bucket)"
        " else pg_advisory_xact_lock_shared(%(space)s, bucket) end"
        " from unnest(%(buckets)s::int[], %(exclusive)s::boolean[]) as wanted (bucket, is_exclusive)",
        {"space": lock_space(table), "buckets": list(buckets), "exclusive": list(buckets.values())},
    )


def lock_space(table: TableName) -> int:
    """Returns the first half of the advisory locks' key: a table of this pipeline."""
    digest = hashlib.blake2b(f"sequin_pipeline {table}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True)
class Swept:
    """This value is a part of a sweep.

    It has the rows that were to go, those that went, and the greatest id among the former, None behind the last.
    """

    due: int
    removed: int
    last: str | None


def sweep_marked(connection: Connection, target: Target, *, versions: sql.Identifier, after: str | None) -> Swept:
    """Removes up to SWEEP_ROWS rows that were marked as deleted before `on_delete` became `remove`, in the order of their ids.

    Runs in the caller's transaction; to be called with the last id until there is none. Leans on the index of the key. A row that a
    trigger keeps is due, and not removed.
    """
    with connection.cursor() as cursor:
        lock_each(cursor, target.table, dict.fromkeys(range(BUCKETS), True))
    swept = fetch_row(
        connection,
        Swept,
        sql.SQL(
            "with due as materialized (select m.ctid as tid, m.{key} as id from {table} m"
            " where m.{d} and (%(after)s::text is null or m.{key} > %(after)s) order by m.{key} limit %(limit)s),"
            " gone as (delete from {table} t where t.ctid = any(array(select tid from due)) and t.{d}"
            " returning t.{key} as id, t.{v} as updated_idx, t.sync_id, t.internal_id),"
            " remembered as (insert into {versions} as k (table_name, id, updated_idx, sync_id, internal_id)"
            " select %(table)s, id, updated_idx, sync_id, internal_id from gone"
            " on conflict (table_name, id) do update set updated_idx = greatest(k.updated_idx, excluded.updated_idx))"
            " select (select count(*) from due), (select count(*) from gone), (select max(id) from due)"
        ).format(
            table=sql.Identifier(target.table.schema, target.table.name),
            versions=versions,
            key=sql.Identifier(target.key[0]),
            v=sql.Identifier(target.version or ""),
            d=sql.Identifier(target.tombstone or ""),
        ),
        {"limit": SWEEP_ROWS, "table": str(target.table), "after": after},
    )
    assert swept is not None  # noqa: S101 - an aggregate
    return swept
