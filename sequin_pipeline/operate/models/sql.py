"""This module writes SQL that creates the tables as the pipeline does, for migrations that run before the first sync."""

from collections.abc import Sequence

from psycopg import sql

from sequin_pipeline.operate.models.table import ModelColumn, ModelParent, ModelTable
from sequin_pipeline.table.row_security import creating_statements


def sql_models(tables: Sequence[ModelTable]) -> str:
    """Returns statements for Postgres, in an order in which they can be executed.

    Compression of `data` is left to the server's default.
    """
    schemas = dict.fromkeys(table.name.schema for table in tables if table.name.schema != "public")
    statements = [sql.SQL("create schema if not exists {};").format(sql.Identifier(schema)) for schema in schemas]
    for table in tables:
        statements += [_create(table), *_security(table), *_indexes(table), *_comments(table)]
    statements += [_foreign_key(table, table.parent) for table in tables if table.parent is not None and table.parent.constraint]
    return "\n\n".join(statement.as_string() for statement in statements) + "\n"


def _create(table: ModelTable) -> sql.Composed:
    key = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns if column.is_key)
    lines = [*map(_definition, table.columns), sql.SQL("    primary key ({})").format(key)]
    return sql.SQL("create table {} (\n{}\n);").format(_identifier(table), sql.SQL(",\n").join(lines))


def _foreign_key(table: ModelTable, parent: ModelParent) -> sql.Composed:
    return sql.SQL("alter table {} add constraint {} foreign key ({}) references {} ({}) deferrable initially deferred;").format(
        _identifier(table),
        sql.Identifier(parent.constraint or ""),
        sql.SQL(", ").join(map(sql.Identifier, parent.columns)),
        sql.Identifier(parent.name.schema, parent.name.name),
        sql.SQL(", ").join(map(sql.Identifier, parent.to_columns)),
    )


def _definition(column: ModelColumn) -> sql.Composed:
    constraint = sql.SQL("" if column.is_nullable else " not null")
    return sql.SQL("    {} {}{}").format(sql.Identifier(column.name), sql.SQL(column.type), constraint)


def _security(table: ModelTable) -> list[sql.Composed]:
    return [sql.SQL("{};").format(one) for one in creating_statements(table.name)] if table.is_by_tenant else []


def _indexes(table: ModelTable) -> list[sql.Composed]:
    return [
        sql.SQL("create index {} on {} ({});").format(
            sql.Identifier(index.name), _identifier(table), sql.SQL(", ").join(map(sql.Identifier, index.columns))
        )
        for index in table.indexes
    ]


def _comments(table: ModelTable) -> list[sql.Composed]:
    name = _identifier(table)
    of_columns = [
        sql.SQL("comment on column {}.{} is {};").format(name, sql.Identifier(column.name), sql.Literal(column.description))
        for column in table.columns
        if column.description
    ]
    if not table.description:
        return of_columns
    return [sql.SQL("comment on table {} is {};").format(name, sql.Literal(table.description)), *of_columns]


def _identifier(table: ModelTable) -> sql.Identifier:
    return sql.Identifier(table.name.schema, table.name.name)
