"""A process to be killed: `python -m tests.e2e.sync_process API_URL WAREHOUSE_URL` runs one live sync of demo/thing, without Dagster.

Pages of 10 records, each a batch of its own.
"""

import sys

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


if __name__ == "__main__":
    sync(sys.argv[1], sys.argv[2], run_id="killed")
