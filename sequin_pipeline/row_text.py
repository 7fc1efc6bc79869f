"""Rows as people read them: every value as Postgres writes it, to the last digit."""

from collections.abc import Sequence

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.warehouse import Connection

RowText = dict[str, str | None]
"""Values by column, in the table's order; None for null."""


def rows_as_text(connection: Connection, table: TableName, ids: Sequence[str]) -> dict[str, RowText]:
    """By id, those rows that are there. Leans on the primary key."""
    rows = connection.execute(
        sql.SQL(
            "select id, (select json_object_agg(key, value) from json_each_text(row_to_json(t))) from {} t where id = any(%s)"
        ).format(sql.Identifier(table.schema, table.name)),
        (list(ids),),
    ).fetchall()
    return dict(rows)  # type: ignore[arg-type]  # by this statement
