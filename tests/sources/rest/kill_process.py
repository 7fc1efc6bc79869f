"""One live run over the fake API, as a process of its own that a test can kill: `url`, `warehouse_url`, `relist_hours`."""

import sys
from dataclasses import replace

from sequin_pipeline.reads import RestApi
from sequin_pipeline.sources.rest.source import rest_source
from tests.sources.rest.reading import ENVIRONMENT, LIST, THING
from tests.support.syncing import sync

if __name__ == "__main__":
    url, warehouse_url, relist_hours = sys.argv[1:]
    api = RestApi(url, {"thing": replace(LIST, paginator={"type": "header_link"})})
    sync(warehouse_url, of=THING, source=rest_source(api, ENVIRONMENT, relist_hours=int(relist_hours)), batch_records=1)
