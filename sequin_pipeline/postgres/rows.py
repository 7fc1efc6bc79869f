"""This module reads answers of Postgres as values of Python: each row as what the caller makes of its columns, in their order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from psycopg import sql
from psycopg.abc import QueryNoTemplate
from psycopg.rows import args_row, scalar_row

from sequin_pipeline.postgres.warehouse import Connection

Row = TypeVar("Row")
Parameters = Sequence[object] | Mapping[str, object] | None


def fetch_value(connection: Connection, statement: QueryNoTemplate, parameters: Parameters = None) -> Any:
    """Returns the first column of a statement whose answer is one row: of an aggregate, a function or an `exists`."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement, parameters).fetchone()


def fetch_row(
    connection: Connection, make: Callable[..., Row], statement: QueryNoTemplate, parameters: Parameters = None
) -> Row | None:
    """Returns the first row, or None where there is none."""
    with connection.cursor(row_factory=args_row(make)) as cursor:
        return cursor.execute(statement, parameters).fetchone()


def fetch_rows(
    connection: Connection, make: Callable[..., Row], statement: QueryNoTemplate, parameters: Parameters = None
) -> list[Row]:
    """Returns every row."""
    with connection.cursor(row_factory=args_row(make)) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def execute_together(connection: Connection, statements: Iterable[sql.Composable]) -> int:
    """Sends the statements, which have no parameters, in one message, and returns how many rows they have changed in all.

    They are one transaction, also where none is open. Each by itself would be a wait for the network. Raises psycopg.Error.
    """
    together = sql.SQL("; ").join(statements)
    with connection.cursor() as cursor:
        cursor.execute(together, binary=False)
        changed = max(0, cursor.rowcount)
        while cursor.nextset():
            changed += max(0, cursor.rowcount)
    return changed


def wal_bytes_since(connection: Connection, start: object) -> int:
    """Returns how much write-ahead log the server has written since then, by whomever."""
    return int(fetch_value(connection, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)::bigint", (start,)))
