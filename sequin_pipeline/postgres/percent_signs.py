"""This module doubles the percent signs in names and literals of statements that have parameters.

psycopg takes them for the beginning of a placeholder.

Every statement of the pipeline passes here: by the cursors of `Warehouse.connect`, or, where it is composed once and kept as bytes, by
`with_parameters`.
"""

from typing import Any, cast

import psycopg
from psycopg import pq, sql
from psycopg.abc import AdaptContext, Params


def with_parameters(statement: sql.Composable, context: AdaptContext | None = None) -> sql.Composable:
    """Returns the statement with the percent signs of names and literals doubled.

    What is written as SQL has doubled its own, beside its placeholders.
    """
    if isinstance(statement, sql.Composed):
        return sql.Composed([with_parameters(part, context) for part in statement])
    if isinstance(statement, sql.Identifier | sql.Literal | TypeName) and "%" in (text := statement.as_string(context)):
        return sql.SQL(cast("Any", text.replace("%", "%%")))  # psycopg takes literal strings only; this one comes from psycopg
    return statement


class TypeName(sql.Composable):
    """This is a type as Postgres writes it, whose name may hold percent signs as well."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Returns the name as it is: `format_type` or `%I` has quoted it."""
        return str(self._obj).encode()


class BinaryCursor(psycopg.Cursor[tuple[object, ...]]):
    """This cursor sends one statement at a time, as the extended protocol wants it, unless `binary=False` is said."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # psycopg's own overloads
        super().__init__(*arguments, **options)
        self.format = pq.Format.BINARY

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> "BinaryCursor":  # psycopg's own options
        super().execute(_prepared(query, params, self.connection), params, **options)
        return self

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:  # as above
        super().executemany(_prepared(query, (), self.connection), params_seq, **options)


class ServerCursor(psycopg.ServerCursor[tuple[object, ...]]):
    """This cursor reads a result that is too large to be read at once."""

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> "ServerCursor":  # psycopg's own options
        super().execute(_prepared(query, params, self.connection), params, **options)
        return self


def _prepared(query: Any, params: Params | None, context: AdaptContext) -> Any:  # a query in any of psycopg's forms
    return with_parameters(query, context) if params is not None and isinstance(query, sql.Composable) else query
