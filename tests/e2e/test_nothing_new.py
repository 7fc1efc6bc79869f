"""What a tick of the schedule costs when nothing has happened since the last one."""

import json

import psycopg

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.e2e.project import SandboxControls
from tests.support.builders import collection, live_run_config, record


def written_transactions(warehouse_url: str) -> int:
    """Postgres numbers a transaction only when it writes."""
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        row = connection.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def test_a_live_run_that_finds_nothing_asks_once_and_writes_one_transaction(warehouse_url: str) -> None:
    lines = [json.dumps(record(f"r{number}", number)).encode() for number in range(150)]
    with running_sandbox(RecordedFeed(lines)) as url:
        api = SandboxControls(url)

        def sync(run_id: str) -> int:
            stream = RecordStream(live_run_config(collection()), SequinSource(url))
            return run_sync(stream, Warehouse(warehouse_url), run_id=run_id).counts.fetched

        first = sync("first")
        api.forget_requests()
        before = written_transactions(warehouse_url)
        second = sync("second")

        assert (first, second) == (150, 0)
        assert len(api.page_requests()) == 1
        assert written_transactions(warehouse_url) - before == 1
