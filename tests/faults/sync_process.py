"""A process to be ended: `python -m tests.faults.sync_process API_URL WAREHOUSE_URL [KIND]` runs one live sync of a landing's collection,
page by page; KIND is `sequin` unless told otherwise, and `kept` for that with child tables and a history table."""

import sys
from pathlib import Path

from sequin_pipeline.sources.stripe.source import StripeSource
from tests.faults.keyed_places import CONNECTOR_PAGE, OBSERVED, connector, opened
from tests.faults.landing import KEPT, Landing
from tests.faults.places import PRICE
from tests.sources.reading import TOKEN, source
from tests.sources.stripe.shop import ACCOUNT, KEY
from tests.sources.stripe.syncing import PLAIN
from tests.support.queues import queue_of


def main(api_url: str, warehouse_url: str, kind: str = "sequin") -> None:
    if kind == "sequin":
        Landing(warehouse_url).sync(source(api_url), batch_records=1, run_id="ended")
    elif kind == "kept":
        Landing(warehouse_url, of=KEPT).sync(source(api_url), batch_records=1, run_id="ended")
    elif kind == "stripe":
        # The server has a clock of its own, by which nothing is old yet.
        stripe = StripeSource({ACCOUNT.name: KEY}, (ACCOUNT,), base_url=api_url, objects=PLAIN, relist_hours=24 * 3650)
        Landing(warehouse_url, of=PRICE).sync(stripe, batch_records=1, run_id="ended")
    elif kind == "rest":
        Landing(warehouse_url, of=OBSERVED).sync(opened(api_url, relist_hours=24 * 3650), batch_records=1, run_id="ended")
    elif kind == "airbyte":
        # Instead of an address it has the folder of its objects.
        child = connector(Path(api_url), page_records=CONNECTOR_PAGE, relist_hours=24 * 3650)
        Landing(warehouse_url, of=OBSERVED).sync(child, batch_records=1, run_id="ended")
    else:
        Landing(warehouse_url).drain(queue_of(kind, api_url, token=TOKEN), run_id="ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
