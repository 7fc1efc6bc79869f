"""A process to be ended: `python -m tests.faults.sync_process API_URL WAREHOUSE_URL` runs one live sync of a landing's collection."""

import sys

from tests.faults.landing import Landing
from tests.sources.reading import source

if __name__ == "__main__":
    Landing(sys.argv[2]).sync(source(sys.argv[1]), batch_records=1, run_id="ended")
