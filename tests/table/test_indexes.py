"""Declared indexes: created where they are missing, beside whoever writes, and never twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sequin_pipeline.catalog import TableName
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.indexes import create_missing, index_name
from tests.operate.models.declared import LISTS
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.racing import holding, wait_for_activity
from tests.support.reading import execute, query
from tests.support.syncing import sync

THING = TableName("demo", "thing")
INDEXES = """select indexrelid::regclass::text, indisvalid from pg_index
    where indrelid = 'demo.thing'::regclass and not indisprimary order by 1"""


def test_a_declared_index_is_there_after_the_next_run_and_made_once(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    indexed = replace(collection(), indexes=(("sync_id", "upstream_id"), ("amount",)))

    sync(warehouse_url, [record("a", 1)], of=indexed, run_id="second")
    made = (
        query(warehouse_url, INDEXES),
        query(warehouse_url, "select oid from pg_class where relname like 'thing%' order by oid"),
    )
    sync(warehouse_url, [record("a", 1)], of=indexed, run_id="third")

    assert made[0] == [("demo.thing_amount_idx", True), ("demo.thing_sync_id_upstream_id_idx", True)]
    assert made[1] == query(warehouse_url, "select oid from pg_class where relname like 'thing%' order by oid")


def test_declared_indexes_of_child_tables_are_there_after_the_next_run_and_made_once(warehouse_url: str) -> None:
    of = with_children(collection())
    line, tax, label = of.children
    sync(warehouse_url, [record("a", 1, data=LISTS)], of=of)
    line = replace(line, indexes=(("amount",), ("parent_id",)))
    indexed = replace(
        of, children=(line, replace(tax, within=line, indexes=(("rate", "sync_id"),)), replace(label, indexes=(("name",),)))
    )
    looked = """select indexrelid::regclass::text, indrelid::regclass::text, indexrelid::bigint from pg_index
        where indrelid::regclass::text like 'demo.thing%' and not indisprimary and indisvalid order by 1"""

    sync(warehouse_url, [record("a", 1, data=LISTS)], of=indexed, run_id="second")
    made = query(warehouse_url, looked)
    sync(warehouse_url, [record("a", 1, data=LISTS)], of=indexed, run_id="third")

    # The key of the lines begins with `parent_id` already.
    assert [one[:2] for one in made] == [
        ("demo.thing_label_name_idx", "demo.thing_label"),
        ("demo.thing_line_amount_idx", "demo.thing_line"),
        ("demo.thing_line_tax_rate_sync_id_idx", "demo.thing_line_tax"),
    ]
    assert query(warehouse_url, looked) == made


def test_an_index_of_somebody_elses_that_serves_is_enough(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    execute(warehouse_url, "create index theirs on demo.thing (sync_id, upstream_id, amount)")

    sync(warehouse_url, [record("a", 1)], of=replace(collection(), indexes=(("sync_id", "upstream_id"),)), run_id="second")

    assert query(warehouse_url, INDEXES) == [("demo.theirs", True)]


def test_what_does_not_serve_every_row_is_not_enough(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    execute(
        warehouse_url,
        "create index partly on demo.thing (sync_id, upstream_id) where amount = 1",
        "create index turned on demo.thing (upstream_id, sync_id)",
    )

    sync(warehouse_url, [record("a", 1)], of=replace(collection(), indexes=(("sync_id", "upstream_id"),)), run_id="second")

    assert ("demo.thing_sync_id_upstream_id_idx", True) in query(warehouse_url, INDEXES)


def test_an_index_left_unfinished_is_made_anew(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    name = index_name(THING, ("amount",))
    execute(warehouse_url, f"create index {name} on demo.thing (amount)")
    execute(warehouse_url, f"update pg_index set indisvalid = false where indexrelid = 'demo.{name}'::regclass")

    with Warehouse(warehouse_url).connect() as connection:
        created = create_missing(connection, THING, [("amount",)])

    assert created == [name]
    assert query(warehouse_url, INDEXES) == [("demo.thing_amount_idx", True)]


def test_writers_do_not_wait_for_an_index_and_a_canceled_one_is_left_to_the_next_run(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    with (
        ThreadPoolExecutor(1) as thread,
        Warehouse(warehouse_url).connect() as connection,
        holding(warehouse_url, "update demo.thing set amount = 2"),
    ):
        creating = thread.submit(create_missing, connection, THING, [("amount",)])
        [pid] = wait_for_activity(warehouse_url, "query like %s and wait_event_type = 'Lock'", ["create index%"])

        execute(
            warehouse_url,
            "set statement_timeout = '10s'",
            "insert into demo.thing (id, updated_idx, deleted, inserted_at, updated_at) values ('b', 1, false, now(), now())",
        )
        with Warehouse(warehouse_url).connect() as other:
            meanwhile = create_missing(other, THING, [("amount",)])
        query(warehouse_url, "select pg_cancel_backend(%s)", pid)
        given_up = creating.result()
    with Warehouse(warehouse_url).connect() as connection:
        created = create_missing(connection, THING, [("amount",)])

    assert (meanwhile, given_up, created) == ([], [], ["thing_amount_idx"])
    assert query(warehouse_url, INDEXES) == [("demo.thing_amount_idx", True)]


def test_long_names_are_cut_and_told_apart() -> None:
    first = index_name(TableName("demo", "t" * 60), ("one",))
    second = index_name(TableName("demo", "t" * 60), ("two",))

    assert len(first) == len(second) == 63
    assert first != second
