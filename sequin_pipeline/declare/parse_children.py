"""This module reads what a defs.yaml says of a collection's child tables."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sequin_pipeline.catalog import (
    MAX_COLUMNS,
    MAX_IDENTIFIER_BYTES,
    ChildTable,
    Column,
    DataType,
    Path,
    TableName,
    UnmanagedTable,
    cut_identifier,
    parse_path,
)
from sequin_pipeline.declare.node import Node, check_text
from sequin_pipeline.declare.parse_columns import SYSTEM_COLUMNS, column_of
from sequin_pipeline.declare.parse_table import check_schema, indexes_of
from sequin_pipeline.declare.yaml_models import (
    COLUMN_PATTERN,
    TABLE_PATTERN,
    UNMANAGED_COLUMN_PATTERN,
    UNMANAGED_TABLE_PATTERN,
    ChildColumnModel,
    ChildModel,
    ChildTableModel,
    CollectionModel,
    InnerChildModel,
)
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.records.fields import CHILD_COLUMNS

MAX_CHILDREN = 8
"""A collection has at most this many child tables: each is staged in a table of its own, which costs at every commit."""

KEY_TYPES = ("text", "integer", "bigint", "boolean", "uuid", "date", "timestamptz")
"""Of these types, what is equal in Postgres is equal as it was read."""

PARENT_ID = "parent_id"

NAME_RULE = "letters, digits and _, a letter or _ first, at most 63"


def parse_children(
    name: str, model: CollectionModel, node: Node, *, table: TableName, data_type: DataType
) -> tuple[ChildTable, ...]:
    """Returns the child tables of a collection, outer ones before those within. Raises CatalogError."""
    place = node / "children"
    children = tuple(_children(model.children, place, table=table, data_type=data_type))
    if not children:
        return ()
    if len(children) > MAX_CHILDREN:
        raise place.refused(
            f"collection {name!r} has {len(children)} child tables, and at most {MAX_CHILDREN} are kept: leave out some"
        )
    names = [child.name for child in children]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise place.refused(f"collection {name!r} has two child tables named {twice!r}: give one of them another name")
    if model.table is not None and not model.table.managed:
        _check_unmanaged(name, model, children, place)
    return children


def _children(models: Mapping[str, ChildModel], place: Node, *, table: TableName, data_type: DataType) -> Iterator[ChildTable]:
    for name, model in models.items():
        outer = _with_indexes(
            _child(name, model, place / name, table=table, within=None), model, place / name, data_type=data_type
        )
        yield outer
        for inner_name, inner in model.children.items():
            inner_place = place / name / "children" / inner_name
            child = _child(inner_name, inner, inner_place, table=table, within=outer)
            yield _with_indexes(child, inner, inner_place, data_type=data_type)


def _with_indexes(child: ChildTable, model: InnerChildModel, node: Node, *, data_type: DataType) -> ChildTable:
    names = _columns_of(child)
    return replace(child, indexes=indexes_of(f"child {child.name!r}", model, node / "indexes", names=names, data_type=data_type))


def _columns_of(child: ChildTable) -> list[str]:
    """Returns the names of the columns that a managed table of the child has."""
    read = [column.name for column in child.read]
    return [*dict.fromkeys([PARENT_ID, *read, *(name for name in CHILD_COLUMNS if name not in ("name", "position"))])]


def _child(name: str, model: InnerChildModel, node: Node, *, table: TableName, within: ChildTable | None) -> ChildTable:
    check_text("child", name, COLUMN_PATTERN, node=node, rule=NAME_RULE)
    full_name = f"{within.name}_{name}" if within else name
    if model.by_name and model.key:
        raise (node / "key").refused(
            f"child {full_name!r} has `by_name: true`, which makes the names of members the key: remove 'key', or 'by_name' for a list"
        )
    if len(set(model.key)) < len(model.key):
        raise (node / "key").refused(f"child {full_name!r} names a column of its key twice: name each once")
    found = ChildTable(
        full_name,
        _table(full_name, model, node, table=table),
        _path(f"child {full_name!r}", model.path, node),
        by_name=model.by_name,
        within=within,
        foreign_key=model.foreign_key,
        description=model.description,
    )
    taken = {*CHILD_COLUMNS, *SYSTEM_COLUMNS, *(column.name for column in found.outer_key)} - (
        set() if model.by_name else {"name"}
    )
    if too_long := next((one.name for one in found.outer_key if len(one.name) > MAX_IDENTIFIER_BYTES), None):
        raise node.refused(
            f"child {full_name!r} would have a column {too_long!r}, of more than 63 characters: shorten the outer one's name"
        )
    columns = {
        column_name: _column(column_name, column, node / "columns" / column_name, child=full_name, taken=taken)
        for column_name, column in model.columns.items()
    }
    most = MAX_COLUMNS - len(CHILD_COLUMNS) - len(found.outer_key) - len(model.key)
    if len(columns) > most:
        raise (node / "columns").refused(f"child {full_name!r} declares {len(columns):,} columns, and there is room for {most:,}")
    key = tuple(_key_column(one, columns, node / "key", child=full_name, taken=taken) for one in model.key)
    if model.foreign_key and within is not None and within.unmanaged is not None:
        raise (node / "foreign_key").refused(
            f"child {full_name!r} asks for a foreign key to table {str(within.table)!r}, which belongs to an application and would be "
            "changed by it: remove 'foreign_key', or create it with the application's migrations"
        )
    others = tuple(column for column in columns.values() if column.name not in model.key)
    whole = replace(found, key=key, columns=others)
    if model.table is None or model.table.managed:
        return whole
    return replace(whole, unmanaged=_unmanaged(whole, model.table, node))


def _table(name: str, model: InnerChildModel, node: Node, *, table: TableName) -> TableName:
    if model.table is None:
        return TableName(table.schema, cut_identifier(f"{table.name}_{name}"))
    place = node / "table"
    if model.table.managed:
        rule = "schema.table, each part letters, digits and _, at most 63"
        check_text("table", model.table.name, TABLE_PATTERN, node=place / "name", rule=rule)
        if model.table.columns:
            raise (place / "columns").refused(
                f"child {name!r} gives 'columns' for a table that the pipeline manages, whose columns are its own: remove 'columns', or "
                "say `managed: false` for a table that belongs to an application"
            )
    else:
        rule = "schema.table, each part at most 63 characters without dots and quotes"
        check_text("table", model.table.name, UNMANAGED_TABLE_PATTERN, node=place / "name", rule=rule)
    found = TableName(*model.table.name.split("."))
    check_schema(f"child {name!r}", found, place)
    return found


def _unmanaged(child: ChildTable, model: ChildTableModel, node: Node) -> UnmanagedTable:
    """Checks only what the YAML alone can tell; the table itself is looked at before the first row (table/unmanaged.py)."""
    place = node / "table" / "columns"
    keys = [column.name for column in (*child.outer_key, *child.own_key)]
    known = _columns_of(child)
    columns = {**{name: name for name in (*keys, *(column.name for column in child.columns))}, **model.columns}
    seen: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours not in known:
            raise (place / ours).refused(
                f"child {child.name!r} maps {ours!r}, which is neither declared nor a column that rows of children have: "
                f"name one of {', '.join(known)}, or declare it below `columns` of the child"
            )
        check_text(
            "column", theirs, UNMANAGED_COLUMN_PATTERN, node=place / ours, rule="the name of a column, at most 63 characters"
        )
        first = seen.setdefault(theirs, ours)
        if first != ours:
            raise (place / ours).refused(
                f"child {child.name!r} maps both {first!r} and {ours!r} to column {theirs!r}: give each its own"
            )
    if PARENT_ID not in columns:
        raise place.refused(
            f"child {child.name!r} finds rows by their parent's id, and no column of table {model.name!r} takes `{PARENT_ID}`: "
            f"add `{PARENT_ID}: <its column>`"
        )
    if child.foreign_key:
        raise (node / "foreign_key").refused(
            f"child {child.name!r} asks for a foreign key on table {model.name!r}, which belongs to an application and would be changed by "
            "it: remove 'foreign_key', or create it with the application's migrations, deferrable and initially deferred"
        )
    return UnmanagedTable(columns=columns, key=(PARENT_ID, *keys))


def _path(what: str, text: str, node: Node) -> Path:
    try:
        path = parse_path(text)
    except CatalogError as error:
        raise (node / "path").refused(f"{what}: {error}") from error
    if path.root == "record":
        raise (node / "path").refused(
            f"{what} has the path {text!r}, which leads to the envelope, where it has to lead into the object: "
            f"write $.{text} for a member of that name"
        )
    return path


def _column(name: str, model: ChildColumnModel, node: Node, *, child: str, taken: set[str]) -> Column:
    if name in taken:
        raise node.refused(
            f"column {name!r} of child {child!r} would take the name of one that its table has: choose another name"
        )
    path = Path("data", ()) if model.path == "$" else _path(f"column {name!r} of child {child!r}", model.path, node)
    return column_of(name, model, node, path=path)


def _key_column(name: str, columns: Mapping[str, Column], node: Node, *, child: str, taken: set[str]) -> Column:
    check_text("key", name, COLUMN_PATTERN, node=node, rule=NAME_RULE)
    if name in taken:
        raise node.refused(
            f"child {child!r} has {name!r} in its key, the name of a column that its table has: declare a column of another name with "
            f"the path {name}, and name that one"
        )
    column = columns.get(name, Column(name, Path("data", (name,)), "text", is_required=True))
    if column.type not in KEY_TYPES:
        raise node.refused(
            f"child {child!r} has {name!r} of type {column.type} in its key, of which equal values may be written in several ways: "
            f"declare it as one of {', '.join(KEY_TYPES)}"
        )
    return column


def _check_unmanaged(name: str, model: CollectionModel, children: tuple[ChildTable, ...], place: Node) -> None:
    assert model.table is not None  # noqa: S101 - the caller asked
    if list(model.table.key) != ["id"]:
        raise place.refused(
            f"collection {name!r} finds rows of table {model.table.name!r} by ({', '.join(model.table.key)}), and rows of child tables are "
            "found by the record's id: map `id`, and say key: [id]"
        )
    if "data" not in model.table.columns:
        raise place.refused(
            f"collection {name!r} has child tables, and no column of table {model.table.name!r} takes `data`, which tells from "
            "which version of an object they come: map `data` to a jsonb column"
        )
    for child in children:
        if child.foreign_key and child.within is None:
            raise place.refused(
                f"child {child.name!r} asks for a foreign key to table {model.table.name!r}, which belongs to an application and would be "
                "changed by it: remove 'foreign_key', or create it with the application's migrations"
            )
