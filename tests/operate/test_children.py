"""What plan, explain, doctor and schema say of child tables."""

from dataclasses import replace

from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.explain import explain_record
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import model_tables
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.runs.test_delete_limit import BEFORE_HELD_DELETES
from tests.support.builders import ListSource, collection, record
from tests.support.children import with_children
from tests.support.reading import execute, query
from tests.support.syncing import sync

PLAIN = collection(columns=())
OF = with_children(PLAIN)
TABLES = ["demo.thing_line", "demo.thing_line_tax", "demo.thing_label"]


def invoice(record_id: str, version: int, *lines: object) -> dict[str, object]:
    return record(record_id, version, data={"lines": {"data": list(lines)}})


def test_a_plan_tells_of_child_tables_and_leaves_nothing(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    first = [invoice("r", 1, {"id": "a"}, {"id": "b"})]

    to_be_made = dry_run(ListSource([first]), warehouse, OF)
    sync(warehouse_url, first, of=PLAIN)
    declared_later = dry_run(ListSource([first]), warehouse, OF)
    sync(warehouse_url, first, of=OF)
    later = [invoice("r", 2, {"id": "b", "amount": 2}, {"id": "c"})]
    changed = dry_run(ListSource([first, later]), warehouse, OF)

    assert to_be_made.child_changes == dict.fromkeys(TABLES)
    assert to_be_made.children["demo.thing_line"] == ChildCounts(inserted=2)
    assert declared_later.filled == tuple(TABLES)
    assert (changed.child_changes, changed.filled) == (dict.fromkeys(TABLES, ()), ())
    assert changed.children["demo.thing_line"] == ChildCounts(inserted=1, updated=1, removed=1)
    assert query(warehouse_url, "select id, amount from demo.thing_line order by id") == [("a", None), ("b", None)]


def test_a_plan_shows_what_a_child_table_lacks(warehouse_url: str) -> None:
    line = replace(OF.children[0], columns=())
    sync(warehouse_url, [invoice("r", 1, {"id": "a", "amount": 1})], of=replace(OF, children=(line,)))

    planned = dry_run(
        ListSource([]), Warehouse(warehouse_url), replace(OF, children=(replace(OF.children[0], foreign_key=True),))
    )

    (changes,) = planned.child_changes.values()
    assert [change.statement for change in changes or ()] == [
        'alter table "demo"."thing_line" add column if not exists "amount" bigint',
        'alter table "demo"."thing_line" add constraint "thing_line_parent_fkey" foreign key ("parent_id") references "demo"."thing" ("id")'
        " deferrable initially deferred",
    ]


def test_a_plan_shows_the_foreign_key_that_goes_with_a_child_declared_no_longer(warehouse_url: str) -> None:
    keyed = replace(OF, children=(replace(OF.children[0], foreign_key=True),))
    sync(warehouse_url, [invoice("r", 1, {"id": "a"})], of=keyed)

    planned = dry_run(ListSource([]), Warehouse(warehouse_url), PLAIN)

    ((table, changes),) = planned.child_changes.items()
    assert (table, [change.statement for change in changes or ()]) == (
        "demo.thing_line",
        ['alter table "demo"."thing_line" drop constraint if exists "thing_line_parent_fkey"'],
    )


def test_a_plan_reads_the_ledger_of_an_earlier_version(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a"})], of=OF)
    execute(warehouse_url, BEFORE_HELD_DELETES)

    planned = dry_run(ListSource([[invoice("r", 1, {"id": "a"})]]), Warehouse(warehouse_url), OF)

    assert planned.child_changes == dict.fromkeys(TABLES, ())


def test_an_explanation_counts_the_children_of_a_record(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a"}, {"id": "b"})], of=OF)
    execute(warehouse_url, "drop table demo.thing_label")

    with Warehouse(warehouse_url).connect() as connection:
        found = explain_record(connection, OF, Ledger("demo.thing", "demo/thing"), "r")

    assert found.children == {"demo.thing_line": 2, "demo.thing_line_tax": 0}


def test_readers_see_the_children_of_their_tenant_only(warehouse_url: str) -> None:
    sync(warehouse_url, [invoice("r", 1, {"id": "a"})], of=replace(OF, row_security="tenant"))

    secured = (
        "select tablename::text from pg_policies where schemaname = 'demo' and policyname = 'sequin_pipeline_tenant' order by 1"
    )
    assert query(warehouse_url, secured) == [("thing",), ("thing_label",), ("thing_line",), ("thing_line_tax",)]


def test_printed_sql_makes_the_tables_as_a_run_does(warehouse_url: str) -> None:
    line, tax, _ = OF.children
    line = replace(line, foreign_key=True)
    of = replace(OF, children=(line, replace(tax, within=line, foreign_key=True)))
    described = (
        "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_constraintdef(k.oid)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " left join pg_constraint k on k.conrelid = c.oid and k.contype in ('p', 'f') and k.conkey[array_length(k.conkey, 1)] = a.attnum"
        " where n.nspname = 'demo' and c.relkind = 'r' order by 1, a.attnum, 5"
    )
    sync(warehouse_url, [], of=of)
    made = query(warehouse_url, described)
    execute(warehouse_url, "drop schema demo cascade")

    execute(warehouse_url, FORMATS["sql"](model_tables(of)))

    assert query(warehouse_url, described) == made
