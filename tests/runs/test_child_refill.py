"""Child tables after their declaration, or their parents' table, has changed: they hold what the parents' rows hold, and nothing else."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import ChildTable, Collection, Column, TableName, parse_path
from sequin_pipeline.errors import WarehouseError
from sequin_pipeline.write.buckets import bucket_of
from sequin_pipeline.write.removals import lock_space
from tests.support.builders import collection, record
from tests.support.racing import holding, wait_for_activity
from tests.support.reading import execute, query
from tests.support.syncing import sync

LINE = ChildTable("line", TableName("demo", "thing_line"), parse_path("lines"), key=(Column("id", parse_path("id"), "text"),))
PLAIN = collection(columns=(), on_delete="remove")
OF = replace(PLAIN, children=(LINE,))
MOVED = replace(OF, table=TableName("demo", "moved"))


def invoice(record_id: str, version: int, line: str) -> dict[str, object]:
    return record(record_id, version, data={"lines": [{"id": line}]})


R, S, GONE = invoice("r", 1, "a"), invoice("s", 1, "b"), record("r", 2, deleted=True, data=None)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([(OF, [R, S]), (None, []), (OF, [S])], [("s", "b")], id="the parents dropped, and read again"),
        pytest.param([(OF, [R]), (PLAIN, [GONE]), (OF, [S])], [("s", "b")], id="it comes back to an empty table"),
        pytest.param([(OF, [R, S]), (MOVED, [S])], [("s", "b")], id="the parents moved"),
        pytest.param([(OF, [R, S]), (MOVED, [S]), (OF, [])], [("r", "a"), ("s", "b")], id="the parents moved, and back"),
        pytest.param([(OF, [R]), (PLAIN, [GONE]), (OF, [])], [], id="it comes back, and nothing with it"),
    ],
)
def test_a_child_table_holds_no_row_without_a_parent(
    warehouse_url: str, runs: Sequence[tuple[Collection | None, list[dict[str, object]]]], expected: Sequence[object]
) -> None:
    for number, (of, records) in enumerate(runs):
        if of is None:
            execute(warehouse_url, "drop table demo.thing")
        else:
            sync(warehouse_url, records, of=of, full_refresh=True, run_id=f"run {number}")

    assert query(warehouse_url, "select parent_id, id from demo.thing_line order by 1") == expected
    count = "select row_count from sequin_pipeline.tables where table_name = 'demo.thing_line'"
    assert query(warehouse_url, count) == [(len(expected),)]


def test_a_child_moved_to_another_table_and_back_has_what_came_meanwhile(warehouse_url: str) -> None:
    there = replace(OF, children=(replace(LINE, table=TableName("demo", "elsewhere")),))
    stream = [[invoice("r", 1, "a")], [invoice("r", 2, "b")]]
    sync(warehouse_url, stream[0], of=OF)

    sync(warehouse_url, *stream, of=there)
    elsewhere = query(warehouse_url, "select id from demo.elsewhere")
    sync(warehouse_url, *stream, of=OF)

    assert (elsewhere, query(warehouse_url, "select id from demo.thing_line")) == ([("b",)], [("b",)])


@pytest.mark.parametrize("event", ["update on sequin_pipeline.tables", "delete on sequin_pipeline.columns"])
def test_a_crash_behind_the_making_of_a_child_table_leaves_it_to_be_filled(warehouse_url: str, event: str) -> None:
    stream = [[invoice("r", 1, "a")]]
    sync(warehouse_url, *stream, of=OF)
    execute(
        warehouse_url,
        "drop table demo.thing_line",
        "create function public.fails() returns trigger language plpgsql as"
        " $$ begin raise exception 'no space' using errcode = '53100'; end $$",
        f"create trigger fails before {event} for each row execute function public.fails()",
    )
    with pytest.raises(WarehouseError, match="no space"):
        sync(warehouse_url, *stream, of=OF)
    execute(warehouse_url, "drop function public.fails cascade")
    made = query(warehouse_url, "select to_regclass('demo.thing_line') is not null")

    sync(warehouse_url, *stream, of=OF)

    assert (made, query(warehouse_url, "select id from demo.thing_line")) == ([(True,)], [("a",)])


def test_a_refill_locks_no_row_before_the_buckets_that_writers_lock_first(warehouse_url: str) -> None:
    sync(warehouse_url, [R, S], of=PLAIN)
    lock = f"select pg_advisory_xact_lock({lock_space(PLAIN.table)}, {bucket_of('r')})"

    with holding(warehouse_url, lock) as writer, ThreadPoolExecutor(1) as threads:
        refilling = threads.submit(sync, warehouse_url, [], of=OF, run_id="refill")
        wait_for_activity(warehouse_url, "wait_event_type = 'Lock'", [])
        found = writer.execute("select id from demo.thing order by id for update nowait").fetchall()
        writer.rollback()
        refilling.result()

    assert found == [("r",), ("s",)]
    assert query(warehouse_url, "select parent_id, id from demo.thing_line order by 1") == [("r", "a"), ("s", "b")]


def test_orphans_that_a_trigger_keeps_are_told(warehouse_url: str, caplog: pytest.LogCaptureFixture) -> None:
    sync(warehouse_url, [R, S], of=OF)
    sync(warehouse_url, [R, S, GONE], of=PLAIN, run_id="undeclared", full_refresh=True)
    execute(
        warehouse_url,
        "create function demo.keep() returns trigger language plpgsql as $$ begin return null; end $$",
        "create trigger keep before delete on demo.thing_line for each row execute function demo.keep()",
    )

    sync(warehouse_url, [], of=OF, run_id="again")

    assert (
        "1 rows of table 'demo.thing_line' stand below no parent and were to be removed, and are still there: a trigger keeps them, "
        "or somebody has just changed them"
    ) in caplog.text
    assert query(warehouse_url, "select row_count from sequin_pipeline.tables where table_name = 'demo.thing_line'") == [(2,)]
