"""Foreign keys of child tables follow their declaration: each row that is in their way goes first, and none stays behind."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import Collection, TableName
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import ListSource, collection, record
from tests.support.children import with_children
from tests.support.reading import execute, query
from tests.support.syncing import sync

PLAIN = collection(columns=(), on_delete="remove")
LINE, TAX, _ = with_children(PLAIN).children


def declared(*, line: bool, tax: bool) -> Collection:
    outer = replace(LINE, foreign_key=line)
    return replace(PLAIN, children=(outer, replace(TAX, within=outer, foreign_key=tax)))


BARE, HELD, INNER = declared(line=False, tax=False), declared(line=True, tax=True), declared(line=False, tax=True)
ELSEWHERE = replace(HELD.children[0], table=TableName("demo", "elsewhere"))
DATA = {"lines": {"data": [{"id": "a", "taxes": [{"rate": 1}]}]}}
R, S, GONE = record("r", 1, data=DATA), record("s", 1, data=DATA), record("r", 2, deleted=True, data=None)

KEYS = (
    "select conrelid::regclass::text, confrelid::regclass::text from pg_constraint where contype = 'f' and conname like 'thing%'"
    " order by 1"
)
BOTH = [("demo.thing_line", "demo.thing"), ("demo.thing_line_tax", "demo.thing_line")]


@pytest.mark.parametrize("before", [BARE, HELD, INNER], ids=["that had none", "that had them", "of which the inner one had one"])
def test_a_foreign_key_is_added_to_child_tables_that_come_back(warehouse_url: str, before: Collection) -> None:
    sync(warehouse_url, [R, S], of=before)
    sync(warehouse_url, [R, S], [GONE], of=PLAIN)

    sync(warehouse_url, [R, S], [GONE], of=HELD)

    assert query(warehouse_url, KEYS) == BOTH
    assert query(warehouse_url, "select parent_id from demo.thing_line") == [("s",)]
    assert query(warehouse_url, "select parent_id from demo.thing_line_tax") == [("s",)]
    totals = "select row_count from sequin_pipeline.tables where table_name like 'demo.thing_%'"
    assert query(warehouse_url, totals) == [(1,), (1,)]


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        pytest.param(PLAIN, [], id="no children any more"),
        pytest.param(replace(HELD, children=HELD.children[:1]), BOTH[:1], id="the inner one no longer"),
        pytest.param(BARE, [], id="foreign_key no longer"),
        pytest.param(INNER, BOTH[1:], id="foreign_key no longer of the outer one"),
        pytest.param(replace(HELD, children=(ELSEWHERE,)), [], id="another table"),
    ],
)
def test_a_foreign_key_that_is_declared_no_longer_is_dropped(
    warehouse_url: str, after: Collection, kept: Sequence[object]
) -> None:
    sync(warehouse_url, [R, S], of=HELD)

    outcome = sync(warehouse_url, [R, S], [GONE], of=after)

    assert outcome.counts == Counts(fetched=1, deleted=1, removed=1)
    assert (query(warehouse_url, KEYS), query(warehouse_url, "select id from demo.thing")) == (kept, [("s",)])


def test_a_foreign_key_leads_to_the_table_that_the_parents_are_in_now(warehouse_url: str) -> None:
    sync(warehouse_url, [R], of=HELD)

    sync(warehouse_url, [S], of=replace(HELD, table=TableName("demo", "moved")))

    assert query(warehouse_url, KEYS) == [("demo.thing_line", "demo.moved"), BOTH[1]]
    assert query(warehouse_url, "select parent_id from demo.thing_line_tax") == [("s",)]


def test_a_plan_shows_a_foreign_key_that_would_be_dropped(warehouse_url: str) -> None:
    sync(warehouse_url, [R], of=HELD)

    planned = dry_run(ListSource([]), Warehouse(warehouse_url), INNER)

    told = [(change.statement, change.lock) for changes in planned.child_changes.values() for change in changes or ()]
    dropped = 'alter table "demo"."thing_line" drop constraint if exists "thing_line_parent_fkey"'
    assert told == [(dropped, "access exclusive")]


@pytest.mark.parametrize("made", ["not deferrable", "deferrable initially immediate"])
def test_a_foreign_key_that_a_migration_tool_has_made_again_waits_for_the_commit(warehouse_url: str, made: str) -> None:
    sync(warehouse_url, [R, S], of=HELD)
    execute(
        warehouse_url,
        "alter table demo.thing_line drop constraint thing_line_parent_fkey",
        f"alter table demo.thing_line add constraint thing_line_parent_fkey foreign key (parent_id) references demo.thing (id) {made}",
    )

    outcome = sync(warehouse_url, [R, S], [GONE], of=HELD)

    deferred = "select conname from pg_constraint where condeferred order by 1"
    assert query(warehouse_url, deferred) == [("thing_line_parent_fkey",), ("thing_line_tax_parent_fkey",)]
    assert (outcome.counts.removed, query(warehouse_url, "select parent_id from demo.thing_line")) == (1, [("s",)])
