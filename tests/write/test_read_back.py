"""Rows that somebody changes between their reading and their writing back, in a refill."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.racing import wait_for_activity
from tests.support.reading import execute, query
from tests.support.syncing import sync

PLAIN = collection(columns=())
OF = replace(with_children(PLAIN), columns=(Column("first_id", parse_path("lines.data[0].id"), "text"),))
NEW = """data = '{"lines": {"data": [{"id": "new"}]}}'"""
CHANGES = {
    "an equal version": (f"update demo.thing set {NEW}, content_hash = gen_random_uuid() where id = 'r'", "new", False, 5),
    "a newer version": (
        f"update demo.thing set {NEW}, updated_idx = 6, content_hash = gen_random_uuid() where id = 'r'",
        "new",
        False,
        6,
    ),
    "a mark without a version": ("update demo.thing set deleted = true, content_hash = null where id = 'r'", "old", True, 5),
    "a removal": ("delete from demo.thing where id = 'r'", None, None, None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_that_changes_during_a_refill_is_filled_from_what_it_is_then(warehouse_url: str, change: str) -> None:
    statement, key, is_deleted, version = CHANGES[change]
    sync(warehouse_url, [record(name, 5, data={"lines": {"data": [{"id": "old"}]}}) for name in ("q", "r", "s")], of=PLAIN)
    execute(warehouse_url, "alter table demo.thing add column first_id text")
    with psycopg.connect(warehouse_url) as other, ThreadPoolExecutor(1) as threads:
        other.execute(statement)
        running = threads.submit(sync, warehouse_url, [], of=OF)
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = %s", ["Lock"])
        other.commit()
        running.result()

    others = [("q", "old", False, 5), ("s", "old", False, 5)]
    changed = [("r", key, is_deleted, version)] if key else []
    found = query(warehouse_url, "select id, data #>> '{lines,data,0,id}', deleted, updated_idx from demo.thing order by id")
    filled = query(warehouse_url, "select id, first_id, deleted, updated_idx from demo.thing order by id")
    elements = query(warehouse_url, "select parent_id, id, deleted, updated_idx from demo.thing_line order by 1")
    assert found == filled == elements == sorted(others + changed)
