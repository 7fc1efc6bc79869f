"""This module has rows that were read from a table, to be written back with more columns, stay as they were read until they are written.

Somebody may have written an equal version meanwhile, or marked a row without a version, which no version tells.
"""

from collections.abc import Mapping

from psycopg import sql

from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.merge import pin_plan
from sequin_pipeline.write.removals import lock_buckets


class ChangedMeanwhile(Exception):
    """Some rows are not what was read: nothing was written, and they have to be read again."""


def hold_as_read(connection: Connection, target: Target, batch: Batch, read_as: Mapping[str, str]) -> None:
    """Locks the rows of the batch, in its order, until the transaction ends.

    `read_as` has, by id, the transaction that had written each row when it was read (its xmin); empty: the batch was not read back.
    Raises ChangedMeanwhile where another one has written or removed a row since, psycopg.Error.
    """
    if not read_as:
        return
    if target.locks_buckets:
        # First, as whoever merges does: two that lock in another order wait for each other.
        with connection.cursor() as cursor:
            lock_buckets(cursor, target, batch)
    ids = batch.column(target.record_id).to_pylist()
    names = {"table": sql.Identifier(target.table.schema, target.table.name), "id": sql.Identifier(target.record_id)}
    parameters = {"ids": ids, "writers": [read_as[record_id] for record_id in ids]}
    pin_plan(connection)
    connection.execute(
        sql.SQL(
            "select from unnest(%(ids)s::text[]) with ordinality u (id, ordinal) join {table} t on t.{id} = u.id"
            " order by u.ordinal for no key update of t"
        ).format(**names),
        parameters,
    )
    # In a statement of its own, which sees what the last holder of each lock has committed.
    is_changed = fetch_value(
        connection,
        sql.SQL(
            "select exists (select from unnest(%(ids)s::text[], %(writers)s::text[]) u (id, writer) left join lateral"
            " (select t.xmin::text as writer from {table} t where t.{id} = u.id offset 0) t on true"
            " where t.writer is distinct from u.writer)"
        ).format(**names),
        parameters,
    )
    if is_changed:
        raise ChangedMeanwhile
