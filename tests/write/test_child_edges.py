"""Edges of child tables: what one list, one order of deliveries, one change of the declaration leaves."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import ChildTable, Collection, Column, OnDelete, TableName, parse_path
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.operate.forgetting.forget import dry_forget, forget
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.forgotten import Subject
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, flush_statistics, query
from tests.support.syncing import sync
from tests.table.unmanaged.tables import deliver, unmanaged

PLAIN = collection(columns=())
OF = with_children(PLAIN)
ID = Column("id", parse_path("id"), "text")


def invoice(record_id: str, version: int, *lines: object, **overrides: object) -> dict[str, object]:
    return record(record_id, version, data={"lines": {"data": list(lines)}}, **overrides)


def lines(url: str, columns: str = "parent_id, id, amount") -> list[tuple[object, ...]]:
    return query(url, f"select {columns} from demo.thing_line order by parent_id, position")


def with_line(**overrides: object) -> Collection:
    line = ChildTable("line", TableName("demo", "thing_line"), parse_path("lines"), **overrides)  # type: ignore[arg-type]  # fields
    return replace(PLAIN, children=(line,))


LISTS = {
    "a list": ('[{"id": "a"}, {"id": "b"}]', ["a", "b"], None),
    "null": ("null", [], None),
    "an empty list": ("[]", [], None),
    "an empty object": ("{}", [], None),
    "nulls among the elements": ('[null, {"id": "a"}, null]', ["a"], None),
    "keys of several types": ('[{"id": 1}, {"id": "x"}, {"id": true}, {"id": ""}]', ["1", "x", "true", ""], None),
    "a number and its text": ('[{"id": 1}, {"id": "1"}]', [], "has the key id '1' in elements 0 and 1, where one was expected"),
    "a key twice": (
        '[{"id": "a"}, {"id": "b"}, {"id": "a"}]',
        [],
        "has the key id 'a' in elements 0 and 2, where one was expected",
    ),
    "a key missing": (
        '[{"amount": 1}]',
        [],
        "column 'id' (path $.id, text) found null, where a value (the column is part of the key)",
    ),
    "an element that is no object": ('["a"]', [], "column 'id' (path $.id, text) found null, where a value"),
    "an object": ('{"a": {"id": "a"}}', [], "where a list was expected: say `by_name: true`"),
    "a text": ('"a"', [], "child 'line' (path $.lines) found the string 'a', where a list was expected"),
}


@pytest.mark.parametrize("whole", [True, False], ids=["a page", "one by one"])
def test_each_kind_of_list_has_one_end(warehouse_url: str, *, whole: bool) -> None:
    """One by one: a record of the older form in front makes no difference to the others, and a value that is read exactly to its own."""
    of = with_line(key=(ID,), columns=() if whole else (Column("odd", parse_path("odd"), "bigint"),))
    odd = {} if whole else {"odd": "1e0"}
    records = []
    for name, (text, _, _) in LISTS.items():
        data = json.loads(text)
        if odd and isinstance(data, list):
            data = [{**odd, **each} if isinstance(each, dict) else each for each in data]
        records.append(record(name, 1, data={"lines": data}))

    sync(warehouse_url, records, of=replace(of, reject_limit_records=1_000))

    found: dict[str, list[object]] = {name: [] for name in LISTS}
    for parent, key in query(warehouse_url, "select parent_id, id from demo.thing_line order by parent_id, position"):
        found[parent].append(key)
    assert found == {name: keys for name, (_, keys, _) in LISTS.items()}
    reasons = dict(query(warehouse_url, "select record_id, reason from sequin_pipeline.rejects"))
    expected = {name: reason for name, (_, _, reason) in LISTS.items() if reason}
    assert {name: expected[name] in reason for name, reason in reasons.items()} == dict.fromkeys(expected, True)


def test_a_position_is_the_key_where_none_is_declared(warehouse_url: str) -> None:
    of = with_line(columns=(ID,))

    sync(warehouse_url, [record("r", 1, data={"lines": [{"id": "a"}, {"id": "b"}, {"id": "c"}]})], of=of)
    sync(warehouse_url, [], [record("r", 2, data={"lines": [{"id": "b"}, {"id": "b"}]})], of=of)

    assert query(warehouse_url, "select position, id, updated_idx from demo.thing_line order by 1") == [(0, "b", 2), (1, "b", 1)]


def test_only_what_changed_of_a_list_is_written(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a", "amount": 1}, {"id": "b", "amount": 1}, {"id": "c", "amount": 1})], of=OF)
    before = dict(query(warehouse_url, "select id, ctid::text || xmin from demo.thing_line"))

    outcome = sync(warehouse_url, [], [invoice("r", 2, {"id": "a", "amount": 1}, {"id": "b", "amount": 2})], of=OF)

    after = dict(query(warehouse_url, "select id, ctid::text || xmin from demo.thing_line"))
    assert (after["a"], sorted(after)) == (before["a"], ["a", "b"])
    counts = outcome.children["demo.thing_line"]
    assert (counts.inserted, counts.updated, counts.unchanged, counts.removed) == (0, 1, 1, 1)
    assert lines(warehouse_url, "id, amount, updated_idx") == [("a", 1, 1), ("b", 2, 2)]


def test_reading_known_parents_again_writes_no_child_and_stages_none(warehouse_url: str) -> None:
    pages = [[invoice(f"r{number}", 1, {"id": "a"}, {"id": "b"}) for number in range(20)]]
    sync(warehouse_url, *pages, of=OF)
    sync(warehouse_url, *pages, of=OF, full_refresh=True)
    execute(warehouse_url, "vacuum (freeze, analyze)", "checkpoint")
    marks = "select md5(string_agg(ctid::text || xmin || xmax, ',' order by ctid)) from demo.thing_line"
    before = query(warehouse_url, marks)

    outcome = sync(warehouse_url, *pages, of=OF, full_refresh=True, run_id="again")

    flush_statistics(warehouse_url)
    assert (query(warehouse_url, marks), outcome.counts.unchanged) == (before, 20)
    assert query(warehouse_url, "select sum(bytes) from sequin_pipeline.merges where run_id = 'again'") == [(0,)]


def test_late_older_parents_change_no_child(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 5, {"id": "a", "amount": 5})], of=OF)

    sync(warehouse_url, [], [invoice("r", 4, {"id": "a", "amount": 4}, {"id": "b"}), invoice("s", 1, {"id": "x"})], of=OF)

    assert lines(warehouse_url) == [("r", "a", 5), ("s", "x", None)]


@pytest.mark.parametrize(
    ("on_delete", "data", "expected"),
    [
        pytest.param("mark", None, [("a", True, "s2", 2)], id="a bare tombstone keeps and marks them"),
        pytest.param("mark", {"lines": {"data": [{"id": "b"}]}}, [("b", True, "s2", 2)], id="a full one brings its own"),
        pytest.param("remove", None, [], id="a removed parent takes them along"),
        pytest.param("remove", {"lines": {"data": [{"id": "b"}]}}, [], id="also with an object"),
    ],
)
def test_children_are_deleted_with_their_parent(
    warehouse_url: str, on_delete: OnDelete, data: object, expected: Sequence[object]
) -> None:
    of = replace(OF, on_delete=on_delete)
    sync(warehouse_url, [invoice("r", 1, {"id": "a"})], of=of)
    gone = record("r", 2, deleted=True, data=data, sync={"id": "s2", "external_id": "tenant-1", "metadata": {}})

    sync(warehouse_url, [], [gone], of=of)

    assert lines(warehouse_url, "id, deleted, sync_id, updated_idx") == expected


def test_rows_that_a_switch_to_remove_sweeps_take_their_children_along(warehouse_url: str) -> None:
    stream = [[invoice("r", 1, {"id": "a"}), invoice("s", 1, {"id": "b"})], [record("r", 2, deleted=True, data=None)]]
    sync(warehouse_url, *stream, of=OF)

    sync(warehouse_url, *stream, of=replace(OF, on_delete="remove"))

    assert lines(warehouse_url, "parent_id, id") == [("s", "b")]
    assert query(warehouse_url, "select row_count from sequin_pipeline.tables where table_name = 'demo.thing_line'") == [(1,)]


def test_rows_of_another_source_are_marked_with_their_children(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a"}), invoice("s", 1, {"id": "b"})], of=OF)
    execute(warehouse_url, "update sequin_pipeline.tables set base_url = 'http://other'")

    sync(warehouse_url, [invoice("s", 1, {"id": "b"})], of=OF, adopt=True, others="mark")

    assert lines(warehouse_url, "parent_id, deleted") == [("r", True), ("s", False)]


def test_children_declared_later_are_filled_from_the_objects_that_are_stored(warehouse_url: str) -> None:
    stream = [
        [invoice("r", 3, {"id": "a", "amount": 1, "taxes": [{"rate": 1.5}]}), invoice("s", 1, {"id": "x", "amount": "none"})],
        [record("t", 1, deleted=True, data=None), invoice("u", 1, {"id": "y"})],
    ]
    sync(warehouse_url, *stream, of=PLAIN)

    sync(warehouse_url, *stream, of=OF)
    before = query(warehouse_url, "select ctid, xmin from demo.thing_line order by 1")
    sync(warehouse_url, *stream, of=OF)

    assert lines(warehouse_url, "parent_id, id, updated_idx, sync_id") == [("r", "a", 3, "s1"), ("u", "y", 1, "s1")]
    assert query(warehouse_url, "select parent_id, line_id, position, rate::text from demo.thing_line_tax") == [
        ("r", "a", 0, "1.5")
    ]
    assert query(warehouse_url, "select record_id, class from sequin_pipeline.rejects") == [("s", "refill")]
    assert query(warehouse_url, "select ctid, xmin from demo.thing_line order by 1") == before


@pytest.mark.parametrize("change", ["dropped", "another column", "another key", "declared no longer for a while"])
def test_a_child_table_that_has_to_be_made_anew_is_filled_again(warehouse_url: str, change: str) -> None:
    stream = [[invoice("r", 1, {"id": "a", "amount": 1, "kind": "k"})], [invoice("s", 1, {"id": "b", "amount": 2})]]
    sync(warehouse_url, *stream, of=OF)
    line, of = OF.children[0], OF
    if change == "dropped":
        execute(warehouse_url, "drop table demo.thing_line")
    elif change == "declared no longer for a while":
        stream += [[invoice("r", 2, {"id": "a", "amount": 7, "kind": "k"}), record("s", 2, data=None)]]
        sync(warehouse_url, *stream, of=PLAIN)
    else:
        kind = Column("kind", parse_path("kind"), "text")
        of = replace(OF, children=(replace(line, columns=(*line.columns, kind)),))
    if change == "another key":
        of = replace(OF, children=(replace(line, key=(Column("amount", parse_path("amount"), "bigint"),), columns=()),))
        with pytest.raises(TableRefused, match=r"has no primary key or unique constraint on \(parent_id, amount\)"):
            sync(warehouse_url, *stream, of=of)
        return

    sync(warehouse_url, *stream, of=of)

    expected = {
        "dropped": [("r", "a", 1), ("s", "b", 2)],
        "another column": [("r", "a", 1), ("s", "b", 2)],
        "declared no longer for a while": [("r", "a", 7)],
    }
    assert lines(warehouse_url) == expected[change]
    if change == "another column":
        assert lines(warehouse_url, "id, kind") == [("a", "k"), ("b", None)]


def test_a_foreign_key_holds_whatever_comes(warehouse_url: str) -> None:
    line, tax, _ = OF.children
    line = replace(line, foreign_key=True)
    of = replace(OF, on_delete="remove", children=(line, replace(tax, within=line, foreign_key=True)))
    stream = [
        [invoice("r", 1, {"id": "a", "taxes": [{"rate": 1}]}, {"id": "b", "taxes": [{"rate": 2}]})],
        [invoice("r", 2, {"id": "b", "taxes": []}), invoice("s", 1, {"id": "c", "taxes": [{"rate": 3}]})],
        [record("r", 3, deleted=True, data=None)],
    ]

    for number in range(1, 4):
        sync(warehouse_url, *stream[:number], of=of)

    keys = "select conname from pg_constraint where contype = 'f' and conrelid::regclass::text like 'demo.thing%' order by 1"
    assert query(warehouse_url, keys) == [("thing_line_parent_fkey",), ("thing_line_tax_parent_fkey",)]
    assert query(warehouse_url, "select parent_id, line_id, rate::int from demo.thing_line_tax") == [("s", "c", 3)]
    forget(Warehouse(warehouse_url), Subject("sync_id", "s1"), [of])
    assert lines(warehouse_url) == []


def test_a_child_that_postgres_refuses_makes_its_record_a_reject_and_leaves_the_others(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a", "amount": 1})], of=OF)
    execute(warehouse_url, "alter table demo.thing_line add check (amount < 10)")

    changed = [invoice("r", 2, {"id": "a", "amount": 2}, {"id": "b", "amount": 11}), invoice("s", 1, {"id": "c", "amount": 3})]
    outcome = sync(warehouse_url, [], changed, of=OF)

    assert (lines(warehouse_url), outcome.counts.rejected) == ([("r", "a", 1), ("s", "c", 3)], 1)
    assert query(warehouse_url, "select id, updated_idx from demo.thing order by id") == [("r", 1), ("s", 1)]


def test_two_lists_of_the_same_shape_do_not_mix(warehouse_url: str) -> None:
    one = ChildTable("one", TableName("demo", "thing_one"), parse_path("one"), key=(ID,))
    of = replace(PLAIN, children=(one, replace(one, name="two", table=TableName("demo", "thing_two"), path=parse_path("two"))))

    sync(warehouse_url, [record("r", 1, data={"one": [{"id": "a"}], "two": [{"id": "b"}, {"id": "c"}]})], of=of)

    ids = "select 'one', id from demo.thing_one union all select 'two', id from demo.thing_two order by 1, 2"
    assert query(warehouse_url, ids) == [("one", "a"), ("two", "b"), ("two", "c")]


@pytest.mark.parametrize("is_there", [True, False], ids=["a row that is there", "a row that comes to be"])
@pytest.mark.parametrize("first", [5, 6], ids=["the older first", "the newer first"])
def test_of_two_writers_at_once_the_newer_version_has_its_children(warehouse_url: str, first: int, *, is_there: bool) -> None:
    """The second has seen the row as it was before, and learns what it is once it has the lock."""
    versions = {5: invoice("r", 5, {"id": "b", "amount": 5}), 6: invoice("r", 6, {"id": "c", "amount": 6})}
    sync(warehouse_url, [invoice("r" if is_there else "s", 1, {"id": "a", "amount": 1})], of=OF)

    with OpenBatch(warehouse_url, OF, versions[first]) as one, OpenBatch(warehouse_url, OF, versions[11 - first]) as other:
        one.write().result()
        writing = other.write()
        wait_until_blocked(warehouse_url, [other.pid])
        one.commit()
        writing.result()
        other.commit()

    assert [row for row in lines(warehouse_url) if row[0] == "r"] == [("r", "c", 6)]


@pytest.mark.parametrize(
    "subject", [Subject("internal_id", "tenant-1"), Subject("record", "r", "demo/thing")], ids=["a tenant", "one"]
)
@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "declared no longer"])
def test_who_is_forgotten_leaves_no_child(warehouse_url: str, subject: Subject, *, is_declared: bool) -> None:
    other = {"id": "s2", "external_id": "tenant-2", "metadata": {}}
    many = [{"id": f"l{number}", "taxes": [{"rate": number}]} for number in range(3)]
    stream = [[invoice("r", 1, *many), invoice("s", 1, {"id": "a"}, sync=other)]]
    sync(warehouse_url, *stream, of=OF)
    declared = [OF] if is_declared else []

    counted = dry_forget(Warehouse(warehouse_url), subject, declared).removed
    report = forget(Warehouse(warehouse_url), subject, declared)
    sync(warehouse_url, *stream, of=OF, full_refresh=True)

    assert lines(warehouse_url, "parent_id") == [("s",)]
    assert query(warehouse_url, "select count(*) from demo.thing_line_tax") == [(0,)]
    told = {name: count for name, count in report.removed.items() if name.startswith("rows of table demo.thing_line")}
    assert told == {"rows of table demo.thing_line": 3, "rows of table demo.thing_line_tax": 3}
    assert {name: counted[name] for name in told} == told
    totals = "select table_name, row_count from sequin_pipeline.tables where table_name like 'demo.thing_line%' order by 1"
    assert query(warehouse_url, totals) == [("demo.thing_line", 1), ("demo.thing_line_tax", 0)]


@pytest.mark.parametrize("kept", ["version", None], ids=["with a version", "whose versions the ledger keeps"])
def test_an_applications_table_has_children_too(warehouse_url: str, kept: str | None) -> None:
    """A bare tombstone that carries the object of its batch brings that one's children, unless it has been outranked."""
    execute(
        warehouse_url,
        "create schema app",
        "create table app.parent (id text primary key, version bigint, gone bool, object jsonb)",
    )
    mapping = {"id": "id", "deleted": "gone", "data": "object"} | ({"updated_idx": kept} if kept else {})
    of = replace(unmanaged(mapping, table="app.parent", columns=()), children=OF.children)
    tombstone = record("r", 6, deleted=True, data=None)

    found = []
    for page in (
        [invoice("r", 1, {"id": "a"}, {"id": "b"})],
        [invoice("r", 3, {"id": "b", "amount": 3})],
        [invoice("r", 2, {"id": "late"}), tombstone],
        [invoice("r", 5, {"id": "later"}), {**tombstone, "updated_idx": 7}],
        [invoice("r", 8, {"id": "back"})],
    ):
        deliver(warehouse_url, of, page)
        found.append(lines(warehouse_url, "id, amount, deleted"))

    assert found == [
        [("a", None, False), ("b", None, False)],
        [("b", 3, False)],
        [("b", 3, True)],
        [("b", 3, True)],
        [("back", None, False)],
    ]


def test_a_foreign_key_holds_where_a_batch_is_merged_in_parts(warehouse_url: str) -> None:
    """Values that rows exchange pass only one after the other; each part has its constraints checked."""
    line = replace(OF.children[0], foreign_key=True)
    of = replace(collection(on_delete="remove"), children=(line,))
    status = {"r": "one", "s": "two", "t": "three"}
    records = [record(name, 1, data={"status": said, "lines": {"data": [{"id": "a"}]}}) for name, said in status.items()]
    sync(warehouse_url, records, of=of)
    execute(warehouse_url, "create unique index on demo.thing (status)")
    freed = [
        record("r", 2, data={"status": "two", "lines": {"data": []}}),
        record("s", 2, data={"status": "other", "lines": {"data": [{"id": "b"}]}}),
        record("t", 2, deleted=True, data=None),
        record("u", 1, data={"status": "bad", "lines": {"data": [{"id": "x"}, {"id": "x"}]}}),
    ]

    outcome = sync(warehouse_url, [], freed, of=of)

    assert (outcome.counts.rejected, outcome.counts.updated, outcome.counts.deleted) == (1, 2, 1)
    assert lines(warehouse_url, "parent_id, id") == [("s", "b")]
