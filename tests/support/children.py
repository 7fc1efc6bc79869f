"""Child tables in tests: a collection that has some, and what a fold of the parents' rows makes of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from sequin_pipeline.catalog import ChildTable, Collection, Column, Path, TableName, UnmanagedTable, parse_path
from tests.support.fold import Row
from tests.support.reading import query

Rows = dict[tuple[object, ...], tuple[object, ...]]


def with_children(of: Collection) -> Collection:
    """The collection with a list that has a key, a list within its elements that has none, and an object by names."""

    def table(name: str) -> TableName:
        return TableName(of.table.schema, f"{of.table.name}_{name}")

    line = ChildTable(
        "line",
        table("line"),
        parse_path("lines.data"),
        key=(Column("id", parse_path("id"), "text"),),
        columns=(Column("amount", parse_path("amount"), "bigint"),),
    )
    tax = ChildTable("line_tax", table("line_tax"), parse_path("taxes"), within=line, columns=(RATE,))
    label = ChildTable("label", table("label"), parse_path("labels"), by_name=True, columns=(VALUE,))
    return replace(of, children=(line, tax, label))


RATE = Column("rate", parse_path("rate"), "numeric")
VALUE = Column("value", Path("data", ()), "text")


LINES: tuple[object, ...] = (
    None,
    [],
    [{"id": "a", "amount": 1}],
    [{"id": "b", "amount": 1, "taxes": [{"rate": 1}, None, {"rate": 2}]}, {"id": "a", "amount": 1}],
    [{"id": "a", "amount": 2, "taxes": [{"rate": 1}]}, {"id": "c"}],
    [{"id": "c", "taxes": []}, None, {"id": "b", "amount": 1, "taxes": [{"rate": 2}]}],
)
LABELS: tuple[object, ...] = (None, {}, {"x": "1"}, {"y": "2", "x": "1"}, {"y": None, "z": "1"})


def random_lists(chance: Random) -> dict[str, object]:
    """Members of an object, from which all tables of `with_children` get rows."""
    return {"lines": {"data": chance.choice(LINES)}, "labels": chance.choice(LABELS)}


@dataclass(frozen=True)
class ParentRow:
    """A row of the parent's table, as far as its children depend on it."""

    id: str
    is_deleted: bool
    sync_id: object
    data: Any


def fold(parents: list[ParentRow]) -> Mapping[str, Rows]:
    """By the end of the table's name, the rows by key: what any history of the parents must leave. Written by hand, of objects as Python
    has them."""
    lines: Rows = {}
    taxes: Rows = {}
    labels: Rows = {}
    for parent in parents:
        data = parent.data or {}
        told = (parent.is_deleted, parent.sync_id)
        found = data.get("lines")
        for position, line in enumerate((found or {}).get("data") or []):
            if line is None:
                continue
            lines[parent.id, line["id"]] = (position, line.get("amount"), line, *told)
            for tax_position, tax in enumerate(line.get("taxes") or []):
                if tax is not None:
                    taxes[parent.id, line["id"], tax_position] = (tax.get("rate"), tax, *told)
        for name, value in (data.get("labels") or {}).items():
            if value is not None:
                labels[parent.id, name] = (value, value, *told)
    return {"line": lines, "line_tax": taxes, "label": labels}


COLUMNS = {
    "line": ("parent_id", "id", "position", "amount", "data", "deleted", "sync_id"),
    "line_tax": ("parent_id", "line_id", "position", "rate", "data", "deleted", "sync_id"),
    "label": ("parent_id", "name", "value", "data", "deleted", "sync_id"),
}
KEY_COLUMNS = {"line": 2, "line_tax": 3, "label": 2}


def in_an_application(of: Collection) -> Collection:
    """The collection with children whose tables an application has made, by APPLICATION."""
    return replace(of, children=tuple(_of_application(child, of.table.schema) for child in with_children(of).children))


def _of_application(child: ChildTable, schema: str) -> ChildTable:
    names = {name: _camel_case(name) for name in COLUMNS[child.name]}
    key = COLUMNS[child.name][: KEY_COLUMNS[child.name]]
    within = None if child.within is None else _of_application(child.within, schema)
    table = TableName(schema, f"{child.name.title().replace('_', '')}s")
    return replace(child, table=table, within=within, unmanaged=UnmanagedTable({**names, "updated_at": "updatedAt"}, key))


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


APPLICATION = """
    create table {0}."Lines" ("parentId" varchar(40), id varchar(40), position bigint not null, amount numeric(12, 2), data json,
        deleted boolean, "syncId" text, "updatedAt" timestamp not null, note text default 'theirs', unique ("parentId", id));
    create table {0}."LineTaxs" ("parentId" text, "lineId" text, position integer, rate numeric, data jsonb, deleted boolean,
        "syncId" text, "updatedAt" timestamptz, serial bigserial, primary key ("parentId", "lineId", position));
    create table {0}."Labels" ("parentId" text, name text, value varchar, data jsonb, deleted boolean, "syncId" text,
        "updatedAt" timestamptz, primary key ("parentId", name));
"""


def parents_in(rows: Mapping[str, Row], *, sync_id: str) -> list[ParentRow]:
    """The rows of a fold, all of one sync."""
    return [ParentRow(one, row.is_deleted, sync_id, row.data) for one, row in rows.items()]


def stored_children(url: str, of: Collection) -> dict[str, Rows]:
    """What the child tables hold, as `fold` tells it."""
    return {child.name: _by_key(query(url, _select(child)), KEY_COLUMNS[child.name]) for child in of.children}


def _select(child: ChildTable) -> str:
    names = child.unmanaged.columns if child.unmanaged else {}
    columns = ", ".join(f'"{names.get(name, name)}"' for name in COLUMNS[child.name])
    return f'select {columns} from {child.table.schema}."{child.table.name}"'


def _by_key(rows: Iterable[tuple[object, ...]], keys: int) -> Rows:
    return {row[:keys]: row[keys:] for row in rows}


def counted_children(url: str, of: Collection) -> dict[str, object]:
    """How many rows the ledger has counted in each."""
    counted = dict(query(url, "select table_name, row_count from sequin_pipeline.tables"))
    return {child.name: counted[str(child.table)] for child in of.children}
