"""This module composes the statements that create a managed table, add to it and describe it, from its target.

Nothing here decides when they are run; nothing is ever dropped or retyped.
"""

from collections.abc import Iterator, Mapping

from psycopg import sql

from sequin_pipeline.ledger.schema import create_schema
from sequin_pipeline.postgres.rows import execute_together, fetch_value
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.records.fields import RECORD_COLUMNS
from sequin_pipeline.table.row_security import creating_statements
from sequin_pipeline.table.target import Target


def create_table(connection: Connection, target: Target) -> None:
    """Creates the table in the open transaction, with its schema where that is missing."""
    with connection.cursor() as cursor:
        create_schema(cursor, target.table.schema)
    # With its policies, so that nobody reads the table before.
    policies = creating_statements(target.table) if target.row_security else ()
    created = _create_statement(target, has_lz4=_has_lz4(connection))
    execute_together(connection, [created, *policies, *comment_statements(connection, target, {})])


def _create_statement(target: Target, *, has_lz4: bool) -> sql.Composed:
    definitions = [
        sql.SQL("{} {}{}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.type),
            sql.SQL(" compression lz4" if has_lz4 and column.name == target.data else ""),
            sql.SQL("" if column.is_nullable else " not null"),
        )
        for column in target.columns
    ]
    stamps = [
        sql.SQL("{} timestamptz not null").format(sql.Identifier(name)) for name in (target.created_at, target.changed_at) if name
    ]
    key = sql.SQL("primary key ({})").format(sql.SQL(", ").join(map(sql.Identifier, target.key)))
    return sql.SQL("create table {} ({}){}").format(
        sql.Identifier(target.table.schema, target.table.name),
        sql.SQL(", ").join([*definitions, *stamps, key]),
        sql.SQL("" if has_lz4 else " with (toast_tuple_target = 8160)"),
    )


def _has_lz4(connection: Connection) -> bool:
    """Says whether the server can compress by lz4.

    The embedded server and those before 14 cannot. Compressing by pglz would cost a third of the whole merge: there, rows of up
    to 8 kB stay as they are.
    """
    return bool(fetch_value(connection, "select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'"))


def add_statements(target: Target, names: tuple[str, ...]) -> list[sql.Composed]:
    types: dict[str, str] = {column.name: column.type for column in target.columns}
    stamp = sql.SQL("timestamptz not null default now()")
    return [
        sql.SQL("alter table {} add column if not exists {} {}").format(
            sql.Identifier(target.table.schema, target.table.name),
            sql.Identifier(name),
            sql.SQL(types[name]) if name in types else stamp,
        )
        for name in names
    ]


def describe(target: Target) -> dict[str | None, str]:
    """Returns what the pipeline says about the table (None) and its columns."""
    comments: dict[str | None, str] = {column.name: column.description for column in target.columns if column.description}
    stamps = [name for name in (target.created_at, target.changed_at) if name]
    said = {**RECORD_COLUMNS, **target.descriptions}
    comments |= {name: said[name] for name in stamps if name in said}
    return comments | ({None: target.description} if target.description else {})


def comment(connection: Connection, target: Target, existing: Mapping[str | None, str]) -> None:
    if statements := list(comment_statements(connection, target, existing)):
        execute_together(connection, statements)


def comment_statements(connection: Connection, target: Target, existing: Mapping[str | None, str]) -> Iterator[sql.Composed]:
    table = sql.Identifier(target.table.schema, target.table.name)
    for name, description in describe(target).items():
        text = held_text(description, connection)
        if existing.get(name) == text:
            continue
        subject = (
            sql.SQL("table {}").format(table)
            if name is None
            else sql.SQL("column {}").format(sql.Identifier(target.table.schema, target.table.name, name))
        )
        yield sql.SQL("comment on {} is {}").format(subject, sql.Literal(text))
