"""Child tables in tests: a collection that has some, and what a fold of the parents' rows makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sequin_pipeline.catalog import ChildTable, Collection, Column, Path, TableName, parse_path

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


SELECTED = {
    "line": "select parent_id, id, position, amount, data, deleted, sync_id from {}_line",
    "line_tax": "select parent_id, line_id, position, rate, data, deleted, sync_id from {}_line_tax",
    "label": "select parent_id, name, value, data, deleted, sync_id from {}_label",
}
KEY_COLUMNS = {"line": 2, "line_tax": 3, "label": 2}
