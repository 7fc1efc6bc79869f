"""This module reads rows as people do: every value as Postgres writes it, to the last digit."""

from collections.abc import Sequence

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.postgres.warehouse import Connection

RowText = dict[str, str | None]
"""This holds values by column, in the table's order; None for null."""


def rows_as_text(connection: Connection, table: TableName, ids: Sequence[str], *, key: str = "id") -> dict[str, RowText]:
    """Returns existing rows by the text of their `key`; leans on an index of the key where that is text."""
    rows = connection.execute(
        sql.SQL(
            "select {key}::text, (select json_object_agg(key, value) from json_each_text(row_to_json(t))) from {table} t"
            " where {key}::text = any(%s)"
        ).format(key=sql.Identifier(key), table=sql.Identifier(table.schema, table.name)),
        (list(ids),),
    ).fetchall()
    return dict(rows)  # type: ignore[arg-type]  # by this statement
