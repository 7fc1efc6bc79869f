"""Drains a sandbox until it is killed: `python -m tests.runs.queue_process WAREHOUSE_URL SANDBOX_URL KIND`."""

import sys

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.queue_run import drain
from tests.support.builders import collection
from tests.support.queues import queue_of

if __name__ == "__main__":
    warehouse_url, sandbox_url, kind = sys.argv[1:]
    collections = (collection(), collection(name="other", table="demo.other"))
    drain(queue_of(kind, sandbox_url), collections, Warehouse(warehouse_url), run_id="killed")
