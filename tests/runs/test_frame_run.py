"""Plain frames beyond one batch, and rows that Postgres refuses."""

from decimal import Decimal

import pandas as pd
import psycopg
import pytest

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import TableRefused, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import FRAME_BATCH_ROWS, read_frame, write_frame
from tests.support.reading import query

TABLE = TableName("shop", "orders")


def test_batches_of_a_frame_may_differ_in_what_their_values_look_like(warehouse_url: str) -> None:
    """Types are those of the whole frame: a batch of nulls, or of shorter decimals, is no other table."""
    later = 10
    frame = pd.DataFrame(
        {
            "id": range(FRAME_BATCH_ROWS + later),
            "tags": pd.Series([["a"]] * FRAME_BATCH_ROWS + [None] * later),
            "price": pd.Series([Decimal("1.23456")] * FRAME_BATCH_ROWS + [Decimal("7")] * later),
            "note": pd.Series([None] * FRAME_BATCH_ROWS + ["late"] * later),
        }
    )

    outcome = write_frame(Warehouse(warehouse_url), TABLE, frame, key=("id",), version=None, run_id="run-1")

    assert outcome.rows == FRAME_BATCH_ROWS + later
    assert query(
        warehouse_url,
        "select tags, price, note, count(*), min(id), max(id) from shop.orders group by tags, price, note order by 5",
    ) == [
        (["a"], Decimal("1.23456"), None, FRAME_BATCH_ROWS, 0, FRAME_BATCH_ROWS - 1),
        (None, Decimal("7.00000"), "late", later, FRAME_BATCH_ROWS, FRAME_BATCH_ROWS + later - 1),
    ]


def test_an_older_version_in_a_later_batch_is_stale(warehouse_url: str) -> None:
    keys = [*range(FRAME_BATCH_ROWS), 0]
    versions = [*([5] * FRAME_BATCH_ROWS), 4]
    frame = pd.DataFrame({"id": keys, "v": versions, "total": [1] * FRAME_BATCH_ROWS + [99]})

    outcome = write_frame(Warehouse(warehouse_url), TABLE, frame, key=("id",), version="v", run_id="run-1")

    assert (outcome.counts.inserted, outcome.counts.stale) == (FRAME_BATCH_ROWS, 1)
    assert query(warehouse_url, "select v, total from shop.orders where id = 0") == [(5, 1)]


def test_a_row_that_postgres_refuses_is_kept_whole_as_a_reject_and_told(warehouse_url: str) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "note": ["fine", "a\x00b", "fine"]})

    with pytest.raises(TooManyRejects) as raised:
        write_frame(Warehouse(warehouse_url), TABLE, frame, key=("id",), version=None, run_id="run-1")

    assert str(raised.value) == (
        "1 of 3 rows of the frame for table 'shop.orders' were refused by Postgres, the others have been merged: the ledger's table "
        "`rejects` holds them with their reasons; fix those rows and materialize again"
    )
    assert query(warehouse_url, "select id from shop.orders order by id") == [(1,), (3,)]
    assert query(warehouse_url, "select record_id, convert_from(raw, 'UTF8'), sqlstate from sequin_pipeline.rejects") == [
        ("2", '{"id":2,"note":"a\\u0000b"}', "22021")
    ]


def test_a_table_that_is_not_there_cannot_be_read(warehouse_url: str) -> None:
    with pytest.raises(TableRefused) as raised:
        read_frame(Warehouse(warehouse_url), TABLE)

    assert str(raised.value) == "there is no table 'shop.orders', or this role may not see it: materialize its asset first"


def test_types_without_a_column_of_their_own_travel_as_text(warehouse_url: str) -> None:
    with psycopg.connect(warehouse_url) as connection:
        connection.execute(
            "create schema shop; create table shop.orders as select 1::smallint as small, 1.5::real as real,"
            " 'a'::varchar(3) as short, '{\"b\": 1}'::jsonb as data, 1.50::numeric as price, 'x'::\"char\" as mark,"
            " '00000000-0000-0000-0000-00000000000a'::uuid as token, '{1,2}'::int[] as numbers, interval '1 day' as span"
        )

    frame = read_frame(Warehouse(warehouse_url), TABLE)

    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "small": "int32[pyarrow]",
        "real": "double[pyarrow]",
        "numbers": "list<item: int64>[pyarrow]",
        **dict.fromkeys(("short", "data", "price", "mark", "token", "span"), "string[pyarrow]"),
    }
    assert frame.to_dict("records") == [
        {
            "small": 1,
            "real": 1.5,
            "short": "a",
            "data": '{"b": 1}',
            "price": "1.50",
            "mark": "x",
            "token": "00000000-0000-0000-0000-00000000000a",
            "numbers": [1, 2],
            "span": "1 day",
        }
    ]
