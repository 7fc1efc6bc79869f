"""This module reads what a defs.yaml says of a collection's table: its name, indexes, row security, and the mapping onto an application's.

Only what the YAML alone can tell is checked here: the table itself is looked at before the first row.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sequin_pipeline.catalog import (
    MAX_COLUMNS,
    RESERVED_SCHEMAS,
    DataType,
    HistoryTable,
    RowSecurity,
    TableName,
    UnmanagedTable,
    cut_identifier,
    default_table,
)
from sequin_pipeline.declare.node import Node, check_text
from sequin_pipeline.declare.yaml_models import (
    START_PATTERN,
    TABLE_PATTERN,
    UNMANAGED_COLUMN_PATTERN,
    UNMANAGED_TABLE_PATTERN,
    CollectionModel,
    HistoryTableModel,
    InnerChildModel,
    TableModel,
)
from sequin_pipeline.records.fields import RECORD_COLUMNS, VALIDITY


def parse_table(provider: str, name: str, model: TableModel | None, *, node: Node) -> TableName:
    if model is None:
        table, place = default_table(provider, name), node
        if table.schema == "public":
            raise node.refused(
                f"collection {name!r} of provider 'public' would land in schema 'public', which nobody asked for: "
                "name its table with `table: {name: schema.table}`"
            )
    else:
        place = node / "table"
        _check_table_model(name, model, place)
        table = TableName(*model.name.split("."))
    check_schema(f"collection {name!r}", table, place)
    return table


def check_schema(what: str, table: TableName, place: Node) -> None:
    """Raises CatalogError where the table would be in a schema that Postgres reserves."""
    if table.schema.startswith("pg_") or table.schema in RESERVED_SCHEMAS:
        raise place.refused(
            f"{what} would land in schema {table.schema!r}, which Postgres reserves: "
            "name another table with `table: {name: schema.table}`"
        )


def parse_history_table(name: str, model: CollectionModel, table: TableName, node: Node) -> HistoryTable | None:
    """Returns the table that keeps the versions of the records; None where none is declared."""
    if model.history_table is False:
        return None
    asked = HistoryTableModel() if model.history_table is True else model.history_table
    place = node / "history_table"
    if model.table and not model.table.managed:
        raise place.refused(
            f"collection {name!r} asks for a history table, and its table belongs to an application, which others write too and whose "
            "types are its own: declare the collection once more for a table that the pipeline manages, and ask for its history there"
        )
    for taken in VALIDITY:
        if taken in model.columns:
            raise (node / "columns" / taken).refused(
                f"column {taken!r} would take the name of one that the history table has ({VALIDITY[taken]}): choose another name"
            )
    if len(model.columns) + len(RECORD_COLUMNS) + len(VALIDITY) > MAX_COLUMNS:
        raise place.refused(
            f"collection {name!r} declares {len(model.columns):,} columns, and its history table has {len(VALIDITY)} more than its table, "
            f"for which a table of Postgres, with {MAX_COLUMNS:,} at most, has no room: leave some columns out"
        )
    if asked.name is None:
        return HistoryTable(TableName(table.schema, cut_identifier(f"{table.name}_history")), _since(asked.since, place))
    rule = "schema.table, each part letters, digits and _, at most 63"
    check_text("history table", asked.name, TABLE_PATTERN, node=place / "name", rule=rule)
    named = TableName(*asked.name.split("."))
    if named == table:
        raise (place / "name").refused(f"the history of collection {name!r} would land in its own table: name another one")
    if named.schema.startswith("pg_") or named.schema in RESERVED_SCHEMAS:
        raise (place / "name").refused(
            f"the history of collection {name!r} would land in schema {named.schema!r}, which Postgres reserves: name another one"
        )
    return HistoryTable(named, _since(asked.since, place))


def _since(text: str | None, place: Node) -> datetime | None:
    if text is None:
        return None
    rule = "a day or a time in UTC, as in 2024-01-01 or 2024-01-01T06:00Z"
    check_text("since", text, START_PATTERN, node=place / "since", rule=rule)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise (place / "since").refused(f"since {text!r} is not a time: {error}") from error


def _check_table_model(name: str, model: TableModel, place: Node) -> None:
    if not model.managed:
        rule = "schema.table, each part at most 63 characters without dots and quotes"
        check_text("table", model.name, UNMANAGED_TABLE_PATTERN, node=place / "name", rule=rule)
        return
    rule = "schema.table, each part letters, digits and _, at most 63"
    check_text("table", model.name, TABLE_PATTERN, node=place / "name", rule=rule)
    for only_unmanaged in ("columns", "key", "round"):
        if only_unmanaged in model.model_fields_set:
            raise (place / only_unmanaged).refused(
                f"collection {name!r} gives {only_unmanaged!r} for a table that the pipeline manages, whose columns and key are its own: "
                f"remove {only_unmanaged!r}, or say `managed: false` for a table that belongs to an application"
            )


def parse_indexes(name: str, model: CollectionModel, node: Node, *, data_type: DataType) -> tuple[tuple[str, ...], ...]:
    names = (*RECORD_COLUMNS, *model.columns)
    return indexes_of(f"collection {name!r}", model, node, names=names, data_type=data_type)


def indexes_of(
    what: str, model: CollectionModel | InnerChildModel, node: Node, *, names: Sequence[str], data_type: DataType
) -> tuple[tuple[str, ...], ...]:
    """Returns the declared indexes of a table that has columns of these names. Raises CatalogError."""
    if model.indexes and model.table and not model.table.managed:
        raise node.refused(f"{what} asks for indexes on a table that belongs to an application: create them with its migrations")
    for columns in model.indexes:
        unknown = [column for column in columns if column not in names]
        if unknown:
            raise node.refused(
                f"{what} asks for an index on {unknown[0]!r}, which is not a column of its table: name some of {', '.join(names)}"
            )
        if data_type == "json" and "data" in columns:
            raise node.refused(
                f"{what} asks for an index on 'data', which is declared as json, a type without an order: "
                "create one on an expression yourself, as in `create index on schema.table using gin ((data::jsonb))`"
            )
        if not columns or len(set(columns)) < len(columns) or model.indexes.count(columns) > 1:
            raise node.refused(f"{what} asks for the index {columns!r}: name each column once, and each index once")
    return tuple(map(tuple, model.indexes))


def parse_row_security(name: str, model: CollectionModel, node: Node) -> RowSecurity | None:
    if model.row_security and model.table and not model.table.managed:
        raise node.refused(
            f"collection {name!r} asks for row security on a table that belongs to an application: create its policies with its migrations"
        )
    return model.row_security


def parse_unmanaged(name: str, model: CollectionModel, node: Node) -> UnmanagedTable:
    """Checks only what the YAML alone can tell; the table itself is looked at before the first row (table/unmanaged.py)."""
    assert model.table is not None  # noqa: S101 - the caller asked
    place = node / "table"
    columns = {**{column: column for column in model.columns}, **model.table.columns}
    known = [*(column for column in RECORD_COLUMNS if column != "content_hash"), *model.columns]
    seen: dict[str, str] = {}
    for ours, theirs in columns.items():
        at = place / "columns" / ours
        if ours not in known:
            raise at.refused(
                f"collection {name!r} maps {ours!r}, which is neither declared nor a field of the record: "
                f"name one of {', '.join(known)}, or declare it below `columns` of the collection"
            )
        check_text("column", theirs, UNMANAGED_COLUMN_PATTERN, node=at, rule="the name of a column, at most 63 characters")
        first = seen.setdefault(theirs, ours)
        if first != ours:
            raise at.refused(f"collection {name!r} maps both {first!r} and {ours!r} to column {theirs!r}: give each its own")
    key = tuple(dict.fromkeys(model.table.key))
    for column in key:
        if column not in columns:
            raise (place / "columns").refused(
                f"collection {name!r} finds rows by {column!r}, which is mapped to no column of table {model.table.name!r}: "
                f"add `{column}: <its column>`, or name with `key` the columns that identify a row there"
            )
    if "id" not in key and not {"sync_id", "upstream_id"} <= set(key):
        raise (place / "key").refused(
            f"collection {name!r} has the key ({', '.join(key)}), which records of several syncs can share: "
            "use [id], or [sync_id, upstream_id]"
        )
    if "deleted" not in columns and model.on_delete == "mark":
        raise place.refused(
            f"collection {name!r} marks deleted records, and no column of table {model.table.name!r} takes `deleted`: "
            "map `deleted` to a boolean column, or say `on_delete: remove`"
        )
    return UnmanagedTable(columns=columns, key=key, rounds=model.table.round)
