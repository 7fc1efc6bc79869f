"""A process to be killed: it drains a sandbox."""

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.queue_run import drain
from tests.support.builders import collection
from tests.support.queues import queue_of


def main(warehouse_url: str, sandbox_url: str, kind: str) -> None:
    collections = (collection(), collection(name="other", table="demo.other"))
    drain(queue_of(kind, sandbox_url), collections, Warehouse(warehouse_url), run_id="killed")
