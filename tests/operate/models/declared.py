"""Collections whose tables have every type, and names and comments that a careless printer would trip over."""

from dataclasses import replace
from typing import get_args

from sequin_pipeline.catalog import Collection, Column, ColumnType, TableName, Windows, parse_path
from tests.support.builders import EPOCH
from tests.support.children import with_children

AWKWARD_TEXT = """It's "quoted" with */ and \\ and 'é' ${x} {y} %s -- and
a second line"""
LISTS = {"x": None, "lines": {"data": [{"id": "a", "amount": 7, "taxes": [{"rate": 0.2}]}]}, "labels": {"l": "1"}}
"""Members of an object from which each child table of `with_keys` gets a row."""
AWKWARD_NAMES = ("class", "metadata", "date", "list", "aB", "a_b", "_private", "__dunder", "_1st", "Select", "constructor")


def every_type(*, table: str = "demo.thing") -> Collection:
    """A column of each type, and a column of each awkward name."""
    of = _collection(
        table,
        *(Column(f"of_{number}", parse_path("x"), kind) for number, kind in enumerate(get_args(ColumnType))),
        *(Column(name, parse_path("x"), "text") for name in AWKWARD_NAMES),
    )
    return replace(of, indexes=(("sync_id", "upstream_id"), ("aB",)))


def awkward_comments() -> Collection:
    """Also the table whose `data` is of type json, and which readers see by tenant."""
    of = _collection(
        "Demo.2nd-thing", Column("said", parse_path("x"), "text", description=AWKWARD_TEXT), description=AWKWARD_TEXT
    )
    return replace(of, data_type="json", row_security="tenant")


def with_keys(of: Collection) -> Collection:
    """The collection with child tables, which stand below theirs by a foreign key, all but one."""
    line, tax, label = with_children(of).children
    line = replace(line, foreign_key=True, indexes=(("sync_id", "amount"),))
    return replace(of, children=(line, replace(tax, within=line, foreign_key=True), label))


def collections() -> tuple[Collection, ...]:
    """Three tables: two of one schema, and one whose name in PascalCase would be the first one's, which has child tables."""
    return (with_keys(every_type()), every_type(table="demo.Thing"), awkward_comments())


def _collection(table: str, *columns: Column, description: str = "") -> Collection:
    schema, _, name = table.partition(".")
    return Collection("demo", name, TableName(schema, name), Windows("month", EPOCH), columns, description=description)
