"""Child tables with triggers of others, and names that meet ours."""

from dataclasses import replace

import pytest

from sequin_pipeline.catalog import ChildTable, Collection, Column, TableName, parse_path
from sequin_pipeline.errors import TableRefused
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.reading import execute, query
from tests.support.syncing import sync

PLAIN = collection(columns=())
OF = with_children(PLAIN)
ID = Column("id", parse_path("id"), "text")
NAME = Column("name", parse_path("name"), "text")


def with_lists(*children: ChildTable) -> Collection:
    return replace(PLAIN, children=children)


def list_of(key: str) -> Collection:
    return with_lists(
        ChildTable("line", TableName("demo", "thing_line"), parse_path("lines"), key=(Column(key, parse_path(key), "text"),))
    )


BY_NAME = with_lists(ChildTable("line", TableName("demo", "thing_line"), parse_path("lines"), by_name=True))


def trigger(url: str, table: str, event: str, body: str) -> None:
    execute(
        url,
        f"create function demo.f() returns trigger language plpgsql as $$ begin {body} end $$",
        f"create trigger t before {event} on demo.{table} for each row execute function demo.f()",
    )


def everything(line: str, *, rate: int = 1, amount: int = 1) -> dict[str, object]:
    lines = [{"id": line, "amount": amount, "taxes": [{"rate": rate}]}]
    return {"lines": {"data": lines}, "labels": {line: str(rate)}}


@pytest.mark.parametrize("table", ["thing_line", "thing_line_tax", "thing_label"])
def test_an_element_that_a_trigger_keeps_makes_its_record_a_reject(warehouse_url: str, table: str) -> None:
    sync(warehouse_url, [record("r", 1, data=everything("a")), record("s", 1, data=everything("a"))], of=OF)
    trigger(warehouse_url, table, "delete", "if old.parent_id = 'r' then return null; end if; return old;")

    outcome = sync(warehouse_url, [], [record("r", 2, data=everything("b")), record("s", 2, data=everything("b"))], of=OF)

    assert (outcome.counts.updated, outcome.counts.rejected) == (1, 1)
    assert query(warehouse_url, "select record_id, class from sequin_pipeline.rejects") == [("r", "left out")]
    key = {"thing_line": "id", "thing_line_tax": "line_id", "thing_label": "name"}[table]
    assert query(warehouse_url, f"select parent_id, {key} from demo.{table} order by 1") == [("r", "a"), ("s", "b")]
    assert query(warehouse_url, "select id, updated_idx from demo.thing order by 1") == [("r", 1), ("s", 2)]


@pytest.mark.parametrize(("table", "column"), [("line", "amount"), ("line_tax", "rate"), ("label", "value")])
def test_an_element_whose_value_a_trigger_changes_is_no_reject(warehouse_url: str, table: str, column: str) -> None:
    sync(warehouse_url, [], of=OF)
    trigger(warehouse_url, f"thing_{table}", "insert or update", f"new.{column} = 7; return new;")
    sync(warehouse_url, [], [record("r", 1, data=everything("a", amount=-5, rate=5))], of=OF)

    outcome = sync(warehouse_url, [], [], [record("r", 2, data=everything("a", amount=-5, rate=5))], of=OF)

    assert outcome.counts.updated == 1
    assert query(warehouse_url, "select reason from sequin_pipeline.rejects") == []
    assert query(warehouse_url, f"select parent_id, {column}::text from demo.thing_{table}") == [("r", "7")]


@pytest.mark.parametrize("made", ["new.data - 'secret'", """new.data || '{"more": 1}'""", "new.data"])
def test_the_children_of_a_tombstone_with_an_earlier_object_come_with_it_whatever_a_trigger_makes_of_it(
    warehouse_url: str, made: str
) -> None:
    sync(warehouse_url, [], of=OF)
    trigger(warehouse_url, "thing", "insert or update", f"new.data = {made}; return new;")

    sync(
        warehouse_url, [], [record("r", 1, data={**everything("a"), "secret": 1}), record("r", 2, deleted=True, data=None)], of=OF
    )

    assert query(warehouse_url, "select parent_id, id, deleted, updated_idx from demo.thing_line") == [("r", "a", True, 2)]


def test_rows_of_another_source_are_marked_with_their_children_whatever_those_are_called(warehouse_url: str) -> None:
    """Names that differ behind what Postgres tells apart."""
    tables = ["child_a", "child_b", "child_c"]
    lists = (ChildTable("x" * 60 + table, TableName("demo", table), parse_path("lines"), key=(ID,)) for table in tables)
    of = with_lists(*lists)
    sync(warehouse_url, [record("r", 1, data={"lines": [{"id": "a"}]}), record("s", 1, data={"lines": [{"id": "b"}]})], of=of)
    execute(warehouse_url, "update sequin_pipeline.tables set base_url = 'http://other'")

    sync(warehouse_url, [record("s", 1, data={"lines": [{"id": "b"}]})], of=of, adopt=True, others="mark")

    for table in tables:
        assert query(warehouse_url, f"select parent_id, deleted from demo.{table} order by 1") == [("r", True), ("s", False)]


@pytest.mark.parametrize("key", ["is_stored", "is_kept", "is_created", "due"])
def test_a_key_may_have_a_name_that_our_statements_use(warehouse_url: str, key: str) -> None:
    of = list_of(key)
    sync(warehouse_url, [record("r", 1, data={"lines": [{key: "a"}, {key: "b"}]})], of=of)

    sync(warehouse_url, [], [record("r", 2, data={"lines": [{key: "c"}, {key: "b"}]})], of=of)

    assert query(warehouse_url, f"select {key}, position from demo.thing_line order by position") == [("c", 0), ("b", 1)]


def test_a_list_whose_rows_become_the_members_of_an_object_is_refused_before_anything_is_read(warehouse_url: str) -> None:
    sync(warehouse_url, [record("r", 1, data={"lines": [{"name": "a"}]})], of=list_of("name"))

    with pytest.raises(TableRefused) as caught:
        sync(warehouse_url, [], [record("r", 2, data={"lines": {"a": {"x": 1}, "b": {"x": 2}}})], of=BY_NAME)

    assert str(caught.value) == (
        "table 'demo.thing_line' of 'demo/thing_line' has a column 'position', since its rows were elements of a list: now they are the "
        "members of an object, which have no positions. Name another table in the YAML with `table: {name: schema.table}`, drop this one, "
        'or run `alter table "demo"."thing_line" drop column "position"`'
    )
    assert query(warehouse_url, "select id, updated_idx from demo.thing") == [("r", 1)]
    execute(warehouse_url, 'alter table "demo"."thing_line" drop column "position"')
    sync(warehouse_url, [], [record("r", 2, data={"lines": {"a": {"x": 1}, "b": {"x": 2}}})], of=BY_NAME)
    assert query(warehouse_url, "select name from demo.thing_line order by 1") == [("a",), ("b",)]


def test_the_members_of_an_object_become_elements_of_a_list(warehouse_url: str) -> None:
    sync(warehouse_url, [record("r", 1, data={"lines": {"a": {"x": 1}, "b": {"x": 2}}})], of=BY_NAME)

    sync(warehouse_url, [], [record("r", 2, data={"lines": [{"name": "b"}, {"name": "c"}]})], of=list_of("name"))

    assert query(warehouse_url, "select name, position from demo.thing_line order by 1") == [("b", 0), ("c", 1)]
