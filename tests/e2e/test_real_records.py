"""Some 400 versions of GitHub objects, in every form that the API allows, end as the rows that were worked out independently."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import feed_of_file
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.support.builders import live_run_config
from tests.support.checkout import CHECKOUT

RECORDS = CHECKOUT / "tests" / "records"

COLLECTIONS = tuple(collection for collection in load_collections({}).values() if collection.provider == "github")
"""As shipped."""

TIMES = ("upstream_created_at", "upstream_updated_at", "record_inserted_at")
COMPARED = ("id", "upstream_id", "internal_id", "sync_id", "updated_idx", "deleted", *TIMES, "data")


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """Serves every version, also those that a newer one has replaced."""
    with running_sandbox(feed_of_file(RECORDS / "github.jsonl", is_compacted=False)) as url:
        yield url


class Stopped(Exception):
    """Ends a run right after a commit."""


class StoppingSource(SequinSource):
    """The records API, until the first commit that is told to it."""

    def committed(self, cursor: str) -> None:
        raise Stopped


def sync(source: SequinSource, warehouse_url: str, collection: Collection, *, batch_records: int = 5_000) -> Counts:
    stream = RecordStream(live_run_config(collection), source)
    return run_sync(stream, Warehouse(warehouse_url), run_id="run-1", batch_records=batch_records).counts


def sync_all(source: SequinSource, warehouse_url: str) -> Counts:
    return sum((sync(source, warehouse_url, collection) for collection in COLLECTIONS), Counts())


def final_rows() -> dict[str, list[dict[str, Any]]]:
    """By collection id, as `final.json` has them."""
    rows: dict[str, list[dict[str, Any]]] = {collection.id: [] for collection in COLLECTIONS}
    for row in json.loads((RECORDS / "final.json").read_text(encoding="utf-8")):
        rows[row["collection_id"]].append({name: row[name] for name in COMPARED})
    return rows


def stored_rows(warehouse_url: str) -> dict[str, list[dict[str, Any]]]:
    """The same from the tables, times cut to milliseconds."""
    stored: dict[str, list[dict[str, Any]]] = {}
    with psycopg.connect(warehouse_url) as connection, connection.cursor() as cursor:
        for collection in COLLECTIONS:
            cursor.execute(f'select {", ".join(COMPARED)} from {collection.table} order by id collate "C"'.encode())
            stored[collection.id] = [
                {name: to_milliseconds(value) if name in TIMES else value for name, value in zip(COMPARED, row, strict=True)}
                for row in cursor
            ]
    return stored


def to_milliseconds(moment: datetime | None) -> str | None:
    return moment and f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1_000:03}Z"


def row_versions(warehouse_url: str) -> list[tuple[Any, ...]]:
    """Where each row stands and which transaction wrote it: changes with every write."""
    union = " union all ".join(f"select '{c.table}', id, ctid::text, xmin::text, xmax::text from {c.table}" for c in COLLECTIONS)
    with psycopg.connect(warehouse_url) as connection:
        return connection.execute(f"{union} order by 1, 2".encode()).fetchall()


@pytest.mark.parametrize("page_size", [1, 7, 100, 1_000])
def test_the_tables_end_as_the_fold_of_what_was_delivered(api_url: str, warehouse_url: str, page_size: int) -> None:
    counts = sync_all(SequinSource(api_url, page_size_records=page_size), warehouse_url)

    assert stored_rows(warehouse_url) == final_rows()
    assert (counts.fetched, counts.rejected, counts.created) == (401, 0, 49)


@pytest.mark.parametrize(
    ("forgets_cursors", "fetched"), [pytest.param(False, 0, id="from the cursor"), pytest.param(True, 401, id="all again")]
)
def test_a_second_run_writes_no_row(api_url: str, warehouse_url: str, *, forgets_cursors: bool, fetched: int) -> None:
    sync_all(SequinSource(api_url, page_size_records=100), warehouse_url)
    before = row_versions(warehouse_url)
    if forgets_cursors:
        with psycopg.connect(warehouse_url) as connection:
            connection.execute("delete from sequin_pipeline.cursors")

    counts = sync_all(SequinSource(api_url), warehouse_url)

    assert row_versions(warehouse_url) == before
    assert (counts.fetched, counts.inserted, counts.updated, counts.deleted) == (fetched, 0, 0, 0)


@pytest.mark.parametrize("page_size", [1, 7])
def test_runs_that_end_whenever_a_batch_is_committed_come_to_the_same_rows(
    api_url: str, warehouse_url: str, page_size: int
) -> None:
    """The batch behind it has been handed over by then, and is committed too: each run but a collection's last writes two."""
    stops = 0

    for collection in COLLECTIONS:
        is_at_end = False
        while not is_at_end:
            try:
                sync(StoppingSource(api_url, page_size_records=page_size), warehouse_url, collection, batch_records=40)
                is_at_end = True
            except Stopped:
                stops += 1

    assert stored_rows(warehouse_url) == final_rows()
    with psycopg.connect(warehouse_url) as connection:
        batches = connection.execute(
            "select count(distinct batch_id)::int, sum(fetched)::int from sequin_pipeline.merges"
        ).fetchone()
    assert (stops, batches) == (7, (12, 401))
