"""The pipeline as an asset that Dagster materializes: `python -m bench.dagster_run`, a contestant.

The run is executed in this process on an instance whose runs and events go to Postgres (option `storage_url`), as `sync` does it.
"""

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from bench import child
from bench.collection import collection_in, live_run_config
from sequin_pipeline.environment.settings import DAGSTER_HOME, DAGSTER_POSTGRES_URL
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.executor import RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, SourceResource, WarehouseResource
from sequin_pipeline.orchestration.run_config import FULL_REFRESH_TAG
from sequin_pipeline.windows import MODE_TAG

INSTANCE = """
storage:
  postgres:
    postgres_url: {env: DAGSTER_POSTGRES_URL}
telemetry: {enabled: false}
"""


def main() -> None:
    place = child.place()
    home = Path(place.scratch) / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    os.environ |= {DAGSTER_HOME: str(home), DAGSTER_POSTGRES_URL: place.options["storage_url"]}
    asset = build_asset(collection_in(place.schema))
    warehouse = WarehouseResource(url=place.database_url)
    resources = {
        SOURCE: SourceResource(variables={"SEQUIN_API_URL": place.api_url}),
        WAREHOUSE: warehouse,
        IO_MANAGER: PostgresMergeIOManager(warehouse=warehouse),
    }
    keys = live_run_config(full_refresh=False).partition_keys
    with dg.DagsterInstance.get() as instance:

        def prepare(task: child.Task) -> Callable[[], None]:
            tags = {RANGE_START_TAG: keys[0], RANGE_END_TAG: keys[-1], MODE_TAG: "live"}
            if task.phase != "new":
                tags[FULL_REFRESH_TAG] = "true"

            def work() -> None:
                dg.materialize([asset], instance=instance, resources=resources, tags=tags)

            return work

        child.compete(prepare)


if __name__ == "__main__":
    main()
