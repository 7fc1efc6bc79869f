"""Columns that are declared later, no longer, or again, over rows whose objects are hostile or missing."""

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.replay_rejects import replay
from tests.hostile.sending import built, query, sync, tolerant, with_data

SIZE = Column("size", parse_path("size"), "integer")


def test_filling_a_new_column_leaves_the_others_as_the_source_wrote_them(warehouse_url: str) -> None:
    """`data` holds 1e3 as 1000 and -0.0 as 0.0: what is read back from it is not what other columns were filled with."""
    columns = (Column("code", parse_path("code"), "text"), Column("zero", parse_path("zero"), "double precision"))
    sync(warehouse_url, tolerant(columns), with_data("r1", b'{"code": 1e3, "zero": -0.0, "size": 7}'))

    sync(warehouse_url, tolerant((*columns, SIZE)), refresh="with a column more")

    assert query(warehouse_url, "select code, zero::text, size from demo.thing") == [("1e3", "-0", 7)]


def test_a_column_that_is_declared_again_is_empty_where_the_object_has_gone(warehouse_url: str) -> None:
    sync(warehouse_url, tolerant([SIZE]), with_data("r1", b'{"size": 7}'), with_data("r2", b'{"size": 8}'))
    sync(warehouse_url, tolerant(), built("r1", updated_idx=b"2", data=b"null"), refresh="without the column")

    sync(warehouse_url, tolerant([SIZE]), refresh="with it again")

    assert query(warehouse_url, "select id, size from demo.thing order by id") == [("r1", None), ("r2", 8)]


def test_a_value_that_does_not_fit_waits_on_when_its_replay_does_not_fit_either(warehouse_url: str) -> None:
    sync(warehouse_url, tolerant(), with_data("r1", b'{"size": "big"}'))
    sync(warehouse_url, tolerant([SIZE]), refresh="with a column more")

    replay(Warehouse(warehouse_url), tolerant([SIZE]), Ledger("demo.thing", "demo/thing"), run_id="replay")
    sync(warehouse_url, tolerant([SIZE]), refresh="once more")

    waiting = query(warehouse_url, "select record_id, class from sequin_pipeline.rejects where resolved_at is null")
    assert waiting == [("r1", "refill")]


def test_rows_that_were_there_when_a_table_was_adopted_keep_what_they_hold(warehouse_url: str) -> None:
    sync(warehouse_url, tolerant([SIZE]), with_data("r1", b'{"size": 7}'))
    query(warehouse_url, "delete from sequin_pipeline.tables returning 1")
    query(warehouse_url, "update demo.thing set data = null, content_hash = null returning 1")

    sync(warehouse_url, tolerant([SIZE]), refresh="adopting", adopt=True)

    assert query(warehouse_url, "select id, size from demo.thing") == [("r1", 7)]


def test_arrays_with_nulls_become_open_rejects_once_the_column_rejects_them(warehouse_url: str) -> None:
    objects = {"r1": b'{"tags": ["a", null]}', "r2": b'{"tags": ["b"]}', "r3": b'{"tags": [null]}'}
    tags = Column("tags", parse_path("tags"), "text[]")
    strict = Column("tags", parse_path("tags"), "text[]", rejects_nulls=True)
    sync(warehouse_url, tolerant([tags]), *(with_data(name, data) for name, data in objects.items()))
    before = query(warehouse_url, "select id, tags from demo.thing order by id")

    sync(warehouse_url, tolerant([strict]), refresh="without nulls in arrays")

    assert before == [("r1", ["a", None]), ("r2", ["b"]), ("r3", [None])]
    assert query(warehouse_url, "select id, tags from demo.thing order by id") == [("r1", None), ("r2", ["b"]), ("r3", None)]
    waiting = query(
        warehouse_url, "select record_id, class, reason from sequin_pipeline.rejects where resolved_at is null order by 1"
    )
    assert [row[:2] for row in waiting] == [("r1", "refill"), ("r3", "refill")]
    assert "column 'tags' (path $.tags, text[]) found the array '[null]', where an array without nulls" in str(waiting[1][2])
