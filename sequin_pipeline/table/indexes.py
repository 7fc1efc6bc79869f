"""This module creates the indexes that a collection declares on its managed table.

That is done after a run's rows have been written, and concurrently: nobody who writes the table waits for them. None is ever
dropped, but one that a creation under way left unfinished.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from sequin_pipeline.catalog import MAX_IDENTIFIER_BYTES, Collection, TableName
from sequin_pipeline.postgres.warehouse import Connection

logger = logging.getLogger("sequin_pipeline.indexes")


def declared_indexes(collection: Collection) -> Mapping[TableName, tuple[tuple[str, ...], ...]]:
    """Returns the declared indexes of each table of the collection that has some."""
    found = {collection.table: collection.indexes, **{child.table: child.indexes for child in collection.children}}
    return {table: indexes for table, indexes in found.items() if indexes}


def create_missing(connection: Connection, table: TableName, indexes: Sequence[tuple[str, ...]]) -> list[str]:
    """Creates the indexes that the table does not have under any name; returns the names of the new ones.

    The connection must be in autocommit, outside of any transaction. Raises psycopg.Error; one whose creation had to give up is
    logged, and left to the next run.
    """
    created = []
    for columns in find_missing(connection, table, indexes):
        name = index_name(table, columns)
        if _is_under_way(connection, table):
            continue
        try:
            _create(connection, table, name, columns)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            told = "; ".join([str(error), *getattr(error, "__notes__", ())])
            logger.warning("index %s on %s had to give way to others, the next run tries again: %s", name, table, told)
            continue
        created.append(name)
    return created


def find_missing(connection: Connection, table: TableName, indexes: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yields the columns of each index that the table does not have under any name, looked for when it is asked for."""
    return (columns for columns in indexes if not _has(connection, table, columns))


def index_name(table: TableName, columns: tuple[str, ...]) -> str:
    """Returns `<table>_<columns>_idx`; a name longer than 63 bytes is cut, and told apart by a hash of the whole."""
    whole = "_".join((table.name, *columns, "idx")).encode()
    if len(whole) <= MAX_IDENTIFIER_BYTES:
        return whole.decode()
    mark = "_" + hashlib.blake2b(repr((table, columns)).encode(), digest_size=4).hexdigest()
    return whole[: MAX_IDENTIFIER_BYTES - len(mark)].decode(errors="ignore") + mark


def _has(connection: Connection, table: TableName, columns: tuple[str, ...]) -> bool:
    """Says whether there is an index over all rows that begins with these columns, in their order."""
    row = connection.execute(
        "select exists (select from pg_index i where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null and"
        " (select array_agg(a.attname::text order by k.n) from unnest(i.indkey::int2[]) with ordinality k (attnum, n)"
        " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where k.n <= %s) = %s)",
        (_regclass(connection, table), len(columns), list(columns)),
    ).fetchone()
    return row == (True,)


def _is_under_way(connection: Connection, table: TableName) -> bool:
    row = connection.execute(
        "select exists (select from pg_stat_progress_create_index where relid = to_regclass(%s))", (_regclass(connection, table),)
    ).fetchone()
    return row == (True,)


def _create(connection: Connection, table: TableName, name: str, columns: tuple[str, ...]) -> None:
    # It waits for every transaction that is older than itself, and for as long as they take: a limit would have to be the session's,
    # and a pooler may hand that to others.
    index = sql.Identifier(table.schema, name)
    on = sql.SQL(", ").join(map(sql.Identifier, columns))
    connection.execute(sql.SQL("drop index concurrently if exists {}").format(index))
    connection.execute(
        sql.SQL("create index concurrently {} on {} ({})").format(
            sql.Identifier(name), sql.Identifier(table.schema, table.name), on
        )
    )


def _regclass(connection: Connection, table: TableName) -> str:
    return sql.Identifier(table.schema, table.name).as_string(connection)
