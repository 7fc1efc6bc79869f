"""Collections whose tables have every type, and names and comments that a careless printer would trip over."""

from dataclasses import replace
from typing import get_args

from sequin_pipeline.catalog import Collection, Column, ColumnType, TableName, Windows, parse_path
from tests.support.builders import EPOCH

AWKWARD_TEXT = """It's "quoted" with */ and \\ and 'é' ${x} {y} %s -- and
a second line"""
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


def collections() -> tuple[Collection, ...]:
    """Three tables: two of one schema, and one whose name in PascalCase would be the first one's."""
    return (every_type(), every_type(table="demo.Thing"), awkward_comments())


def _collection(table: str, *columns: Column, description: str = "") -> Collection:
    schema, _, name = table.partition(".")
    return Collection("demo", name, TableName(schema, name), Windows("month", EPOCH), columns, description=description)
