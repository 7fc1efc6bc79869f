"""Replaying what is already there writes nothing: no tuple, no row lock, no WAL beyond the ledger's own rows."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from sequin_pipeline.catalog import DataType, OnDelete
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.reading import execute, flush_statistics, merges, query, totals

PAGE_RECORDS = 5_000
WAL_LIMIT_BYTES = 1_000_000
"""In all, for twenty commits, their rows of `merges`, and whatever else the server writes meanwhile."""


class WideSource(ListSource):
    """Full pages, as many as are listed, every tenth record a bare tombstone; put together from text, which is faster."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        live = b'{"id":"r%d","collection_id":"demo:thing","sync":{"id":"s"},"upstream_id":"u","updated_idx":%d,"deleted":false,'
        live += b'"inserted_at":"2024-03-01T00:00:00Z","data":{"status":"active","amount":%d,"note":"some words about it"}}'
        gone = b'{"id":"r%d","collection_id":"demo:thing","sync":{"id":"s"},"upstream_id":"u","updated_idx":%d,"deleted":true,'
        gone += b'"inserted_at":"2024-03-01T00:00:00Z","data":null}'
        for first in range(0, len(self.page_records) * PAGE_RECORDS, PAGE_RECORDS):
            numbers = range(first, first + PAGE_RECORDS)
            records = [gone % (number, number) if number % 10 == 0 else live % (number, number, number) for number in numbers]
            yield Page(b"[" + b",".join(records) + b"]", str(first + PAGE_RECORDS), datetime(2030, 1, 1, tzinfo=UTC))


def settle(url: str) -> None:
    """Hint bits and pruned pages of earlier writes are Postgres' own affair: they are dealt with before anything is measured."""
    execute(url, "vacuum (freeze, analyze)", "checkpoint")


def tuples(url: str) -> dict[str, object]:
    """What a write of any kind would leave its mark on: row versions, lockers, counters."""
    flush_statistics(url)
    written = query(
        url,
        "select n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd from pg_stat_user_tables where relid = 'demo.thing'::regclass",
    )
    marks = query(url, "select count(*), md5(string_agg(ctid::text || xmin || xmax || id, ',' order by ctid)) from demo.thing")
    lockers = query(url, "select count(*) from demo.thing where xmax <> 0")
    return {"written": written, "marks": marks, "lockers": lockers}


@pytest.mark.parametrize(
    ("on_delete", "data_type", "pages"),
    [("mark", "jsonb", 20), ("remove", "jsonb", 4), ("mark", "json", 4), ("remove", "json", 4)],
)
def test_a_replay_of_known_records_leaves_no_trace_in_the_table(
    warehouse_url: str, on_delete: OnDelete, data_type: DataType, pages: int
) -> None:
    of = replace(collection(on_delete=on_delete), data_type=data_type)
    warehouse, source = Warehouse(warehouse_url), WideSource([[]] * pages)
    run_sync(RecordStream(live_run_config(of), source), warehouse, run_id="first")
    settle(warehouse_url)
    before = tuples(warehouse_url)

    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        start = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
        outcome = run_sync(RecordStream(live_run_config(of, full_refresh=True), source), warehouse, run_id="replay")
        [(wal_bytes,)] = connection.execute("select pg_current_wal_insert_lsn() - %s::pg_lsn", start).fetchall()

    assert tuples(warehouse_url) == before
    assert int(wal_bytes) < WAL_LIMIT_BYTES
    assert outcome.wal_bytes <= wal_bytes
    assert merges(warehouse_url, "replay") == [{"fetched": PAGE_RECORDS, "unchanged": PAGE_RECORDS}] * pages
    assert outcome.counts.unchanged == pages * PAGE_RECORDS


def test_stale_records_leave_no_trace_either(warehouse_url: str) -> None:
    newer = [record(f"r{number}", 2) for number in range(1_000)]
    older = [record(f"r{number}", 1) for number in range(1_000)]
    run_sync(RecordStream(live_run_config(collection()), ListSource([newer])), Warehouse(warehouse_url), run_id="first")
    settle(warehouse_url)
    before = tuples(warehouse_url)

    run_sync(RecordStream(live_run_config(collection()), ListSource([newer, older])), Warehouse(warehouse_url), run_id="late")

    assert tuples(warehouse_url) == before
    assert merges(warehouse_url, "late") == [{"fetched": 1_000, "stale": 1_000}]


def test_only_what_changed_is_written_and_only_its_time_moves(warehouse_url: str) -> None:
    first = [record(f"r{number}", 1) for number in range(100)]
    second = [record(f"r{number}", 1 + number % 2) for number in range(100)]
    warehouse = Warehouse(warehouse_url)
    run_sync(RecordStream(live_run_config(collection()), ListSource([first])), warehouse, run_id="first")
    before = query(
        warehouse_url, "select id, xmin::text, inserted_at, updated_at from demo.thing where updated_idx = 1 order by id"
    )

    run_sync(RecordStream(live_run_config(collection()), ListSource([first, second])), warehouse, run_id="second")

    after = query(warehouse_url, "select id, xmin::text, inserted_at, updated_at from demo.thing order by id")
    changed = {row[0] for row in before} - {row[0] for row in set(before) & set(after)}
    assert changed == {f"r{number}" for number in range(1, 100, 2)}
    assert [row[2] for row in after] == [row[2] for row in before]
    assert all(new[3] > old[3] for new, old in zip(after, before, strict=True) if new[0] in changed)
    assert totals(warehouse_url) == {"fetched": 200, "inserted": 100, "updated": 50, "unchanged": 50, "created": 100}


def test_a_row_without_a_content_hash_is_compared_once_and_not_written(warehouse_url: str) -> None:
    of, pages = collection(), [[record("a", 1), record("b", 1, deleted=True, data=None)]]
    run_sync(RecordStream(live_run_config(of), ListSource(pages)), Warehouse(warehouse_url), run_id="first")
    execute(warehouse_url, "update demo.thing set content_hash = null")
    before = tuples(warehouse_url)["marks"]

    run_sync(RecordStream(live_run_config(of, full_refresh=True), ListSource(pages)), Warehouse(warehouse_url), run_id="replay")

    assert tuples(warehouse_url)["marks"] == before
    assert merges(warehouse_url, "replay") == [{"fetched": 2, "unchanged": 2}]
