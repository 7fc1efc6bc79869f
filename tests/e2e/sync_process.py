"""A process to be killed: one live sync of demo/thing, without Dagster.

Pages of 10 records, each a batch of its own.
"""

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources.sequin import SequinSource
from tests.support.builders import collection, live_run_config

BATCH_RECORDS = 10


def sync(api_url: str, warehouse_url: str, *, run_id: str) -> SyncOutcome:
    source = SequinSource(api_url, page_size_records=BATCH_RECORDS)
    stream = RecordStream(live_run_config(collection()), source)
    return run_sync(stream, Warehouse(warehouse_url), run_id=run_id, batch_records=BATCH_RECORDS)


def main(api_url: str, warehouse_url: str) -> None:
    sync(api_url, warehouse_url, run_id="killed")
