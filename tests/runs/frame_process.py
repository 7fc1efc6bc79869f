"""Writes a frame until it is killed: `python -m tests.runs.frame_process WAREHOUSE_URL VERSION`."""

import sys

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import write_frame
from tests.runs.test_frame_faults import TABLE, frame_of

if __name__ == "__main__":
    warehouse_url, version = sys.argv[1:]
    write_frame(Warehouse(warehouse_url), TABLE, frame_of(int(version)), key=("id",), version="v", run_id="killed")
