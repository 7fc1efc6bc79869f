"""Frames that are delivered again, in another order, at the same time, or by a run that was killed end in the same table."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import permutations

import pandas as pd
import psycopg
import pytest

from sequin_pipeline.catalog import TableName
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import FRAME_BATCH_ROWS, write_frame
from tests.support.checkout import CHECKOUT
from tests.support.reading import execute, query
from tests.support.waits import wait_until

TABLE = TableName("shop", "orders")
ROWS = FRAME_BATCH_ROWS + 10
LAST = ROWS - 1
PARTITIONED = (
    "create schema shop",
    "create table shop.orders (id bigint primary key, v bigint, total text) partition by hash (id)",
    "create table shop.orders_0 partition of shop.orders for values with (modulus 2, remainder 0)",
    "create table shop.orders_1 partition of shop.orders for values with (modulus 2, remainder 1)",
)
MADE = {"ours": (), "partitioned": PARTITIONED}


def frame_of(version: int) -> pd.DataFrame:
    """Two batches, each row at this version."""
    return pd.DataFrame({"id": range(ROWS), "v": version, "total": f"of {version}"})


def write(url: str, frame: pd.DataFrame, *, version: str | None = "v") -> Counts:
    return write_frame(Warehouse(url), TABLE, frame, key=("id",), version=version, run_id="run").counts


def totals(url: str) -> list[tuple[object, ...]]:
    """How many rows have each value."""
    return query(url, "select v, total, count(*) from shop.orders group by v, total order by v")


@contextmanager
def holding_the_last_row(url: str) -> Iterator[None]:
    """Whoever writes a whole frame commits its first batch, and waits in its second."""
    with psycopg.connect(url) as connection:
        connection.execute("select from shop.orders where id = %s for update", (LAST,))
        yield


def waiting(url: str) -> int:
    [(count,)] = query(
        url, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(str(count))


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_frames_in_any_order_and_again_end_in_the_same_table(
    warehouse_url: str, made: tuple[str, ...], order: tuple[int, ...]
) -> None:
    execute(warehouse_url, *made)
    frames = (
        pd.DataFrame({"id": [1, 2, 3], "v": [1, 5, 1], "total": ["a", "b", "c"]}),
        pd.DataFrame({"id": [2, 3, 4], "v": [4, 2, 1], "total": ["d", "e", "f"]}),
        pd.DataFrame({"id": [4, 1], "v": [3, 1], "total": ["g", "a"]}),
    )

    for number in order:
        write(warehouse_url, frames[number])
    again = [write(warehouse_url, frame) for frame in frames]

    assert query(warehouse_url, "select * from shop.orders order by id") == [(1, 1, "a"), (2, 5, "b"), (3, 2, "e"), (4, 3, "g")]
    assert again == [
        Counts(fetched=3, unchanged=2, stale=1),
        Counts(fetched=3, unchanged=1, stale=2),
        Counts(fetched=2, unchanged=2),
    ]


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("version", ["v", None])
def test_a_frame_that_is_written_again_writes_nothing(warehouse_url: str, made: tuple[str, ...], version: str | None) -> None:
    execute(warehouse_url, *made)
    first = write(warehouse_url, frame_of(1), version=version)
    rows = "select id, xmin::text, ctid::text from shop.orders order by id"
    before = query(warehouse_url, rows)

    again = write(warehouse_url, frame_of(1), version=version)

    assert (first.inserted, again) == (ROWS, Counts(fetched=ROWS, unchanged=ROWS))
    assert query(warehouse_url, rows) == before


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_run_that_is_killed_in_a_frame_leaves_whole_batches_and_the_next_one_writes_the_rest(
    warehouse_url: str, made: tuple[str, ...]
) -> None:
    execute(warehouse_url, *made)
    write(warehouse_url, frame_of(1))
    command = [sys.executable, "-m", "tests.runs.frame_process", warehouse_url, "2"]
    with holding_the_last_row(warehouse_url), subprocess.Popen(command, cwd=CHECKOUT) as process:
        wait_until(lambda: waiting(warehouse_url), "the second batch to be written")
        process.kill()
        process.wait()
        half = totals(warehouse_url)

    counts = write(warehouse_url, frame_of(2))

    assert half == [(1, "of 1", ROWS - FRAME_BATCH_ROWS), (2, "of 2", FRAME_BATCH_ROWS)]
    assert totals(warehouse_url) == [(2, "of 2", ROWS)]
    assert counts == Counts(fetched=ROWS, updated=ROWS - FRAME_BATCH_ROWS, unchanged=FRAME_BATCH_ROWS)


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2), (3, 3)])
def test_runs_that_write_frames_at_the_same_time_end_in_the_greatest_versions(
    warehouse_url: str, made: tuple[str, ...], first: int, second: int
) -> None:
    execute(warehouse_url, *made)
    write(warehouse_url, frame_of(1))

    with ThreadPoolExecutor(2) as runs:
        with holding_the_last_row(warehouse_url):
            early = runs.submit(write, warehouse_url, frame_of(first))
            wait_until(lambda: waiting(warehouse_url) == 1, "the first run to wait in its second batch")
            late = runs.submit(write, warehouse_url, frame_of(second))
            wait_until(lambda: waiting(warehouse_url) == 2, "the second run to wait in its second batch")
        counts = early.result() + late.result()

    assert totals(warehouse_url) == [(3, "of 3", ROWS)]
    assert counts.fetched == counts.accounted == 2 * ROWS


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_of_frames_without_versions_the_one_that_came_last_is_there(warehouse_url: str, made: tuple[str, ...]) -> None:
    execute(warehouse_url, *made)
    for number in (1, 2, 1, 3):
        write(warehouse_url, frame_of(number), version=None)

    assert totals(warehouse_url) == [(3, "of 3", ROWS)]
