"""Collections and columns whose names were chosen to be taken for SQL, or for one another."""

import pytest

from sequin_pipeline.catalog import Collection, Column, TableName, check_tables, default_table, parse_path
from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.errors import CatalogError
from tests.hostile.sending import land, query, read, sync, text, tolerant
from tests.support.builders import EPOCH, record

VICTIM = "victim"
HOSTILE = {
    "closing the quotes": 'x"; drop table demo.victim; --',
    "closing a string": "x'); drop table demo.victim; --",
    "braces of a format": "{} {0} {table}",
    "a keyword": "select",
    "a dollar quote": "$$; drop table demo.victim; $$",
    "a line break": "x\ny",
    "capitals": "Victim",
    "other scripts": "таблица 表 😀",
    "a backslash": "x\\",
    "a schema": "demo.victim",
    "a percent sign": "100%",
    "a placeholder": "%s",
    "a named placeholder": "%(table)s %%(batch)s",
}


def hostile(name: str) -> Collection:
    """The collection of that name, in a table of that name, with a column of that name, found under a key of that name."""
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    column = Column(name, parse_path(f"['{quoted}']"), "text", description=name)
    return tolerant([column], name=name, table=TableName("demo", name), description=name)


@pytest.fixture
def victim_url(warehouse_url: str) -> str:
    """A database in which a collection called `victim` has a row."""
    sync(warehouse_url, tolerant(name=VICTIM, table=TableName("demo", VICTIM)), renamed(VICTIM, {"x": 1}))
    return warehouse_url


def renamed(name: str, data: object, *, record_id: str = "r1") -> bytes:
    return text(record(record_id, collection_id=f"demo:{name}", data=data))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_a_name_and_never_sql(victim_url: str, name: str) -> None:
    """Declarations in YAML take plain names only; this is what stands behind them."""
    of = hostile(name)
    refused = renamed(name, {name: []}, record_id="refused")

    landed = land(victim_url, of, renamed(name, {name: name}), refused)

    assert landed.rows["r1"][name] == name
    assert list(landed.refusals) == [refused]
    assert query(victim_url, "select id from demo.victim") == [("r1",)]
    names = query(victim_url, "select table_name, label from sequin_pipeline.tables where table_name <> 'demo.victim'")
    assert names == [(f"demo.{name}", f"demo/{name}")]


@pytest.mark.parametrize("name", [*(name for name in HOSTILE.values() if name not in ("select", "Victim", "demo.victim"))])
def test_a_declaration_refuses_a_name_that_is_none(name: str) -> None:
    provider = ProviderModel.model_construct(provider="demo", collections={name: None})

    with pytest.raises(CatalogError, match="letters, digits"):
        collections_of(provider, Node(lambda path: None), now=EPOCH)


LONG = "a" * 63


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("thing", "Thing", id="capitals"),
        pytest.param(LONG + "b", LONG + "c", id="alike for 63 bytes"),
        pytest.param("é" * 40 + "b", "é" * 40 + "c", id="alike for 63 bytes of another script"),
        pytest.param("e\u0301", "\u00e9", id="looking alike"),
    ],
)
def test_names_that_differ_have_tables_of_their_own(warehouse_url: str, first: str, second: str) -> None:
    collections = [tolerant(name=name, table=default_table("demo", name)) for name in (first, second)]
    check_tables(collections, "sequin_pipeline")

    for of in collections:
        sync(warehouse_url, of, renamed(of.name, {"name": of.name}))

    for of in collections:
        rows = read(warehouse_url, of)
        assert list(rows) == ["r1"]
        assert rows["r1"]["data"] == text({"name": of.name}, is_escaped=False).decode()


@pytest.mark.parametrize(("first", "second"), [("a.b", "a_b"), ("a.b_c", "a_b.c")])
def test_names_that_end_in_one_table_are_refused(first: str, second: str) -> None:
    collections = [tolerant(name=name, table=default_table("demo", name)) for name in (first, second)]

    with pytest.raises(CatalogError, match="would both land in table"):
        check_tables(collections, "sequin_pipeline")


def test_columns_that_differ_in_capitals_only_are_two(warehouse_url: str) -> None:
    columns = [Column(name, parse_path(name), "text") for name in ("status", "Status", "STATUS")]

    landed = land(warehouse_url, tolerant(columns), text(record("r1", data={"status": "a", "Status": "b", "STATUS": "c"})))

    assert [landed.rows["r1"][name] for name in ("status", "Status", "STATUS")] == ["a", "b", "c"]
