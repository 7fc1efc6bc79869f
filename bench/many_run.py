"""Many collections in one run of Dagster: `python -m bench.many_run`, a contestant.

The run is executed as by the process that Dagster's daemon starts for it: on an instance with the shipped `dagster.yaml`, by the
pipeline's own executor, with the checks that a tick asks for. Options: `storage_url`, Dagster's own database; `collections`, their names.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from bench import child
from bench.collection import COLUMNS
from bench.contestants import CHECKOUT
from bench.records import MANY_PROVIDER, YEAR
from sequin_pipeline.catalog import Column
from sequin_pipeline.cli.session import DAGSTER_EVENTS
from sequin_pipeline.environment.settings import (
    DAGSTER_HOME,
    DAGSTER_POSTGRES_URL,
    SEQUIN_API_TOKEN,
    SEQUIN_API_URL,
    SEQUIN_COLLECTIONS,
    WAREHOUSE_URL,
)
from sequin_pipeline.orchestration.definitions import loaded_definitions
from sequin_pipeline.orchestration.executor import FIRST_LOAD_TAG, RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.orchestration.run_config import FULL_REFRESH_TAG
from sequin_pipeline.orchestration.schedules import job_name, step_checks
from sequin_pipeline.windows import MODE_TAG

PHASE_TAGS = {
    "new": {FIRST_LOAD_TAG: "true"},
    "nothing_new": {},
    "replay": {FIRST_LOAD_TAG: "true", FULL_REFRESH_TAG: "true"},
}


def many_job() -> dg.JobDefinition:
    """What each process builds anew."""
    repository = loaded_definitions(os.environ[SEQUIN_COLLECTIONS]).get_repository_def()
    keys = dg.AssetSelection.groups(MANY_PROVIDER).materializable().resolve(repository.asset_graph)
    return repository.get_job(job_name(MANY_PROVIDER)).get_subset(
        asset_selection=keys, asset_check_selection=set(step_checks(repository, sorted(keys)))
    )


def main() -> None:
    place = child.place()
    home = Path(place.scratch) / "dagster"
    home.mkdir()
    shutil.copy(CHECKOUT / "dagster.yaml", home)
    os.environ |= {
        **DAGSTER_EVENTS,
        DAGSTER_HOME: str(home),
        DAGSTER_POSTGRES_URL: place.options["storage_url"],
        WAREHOUSE_URL: place.database_url,
        SEQUIN_API_URL: place.api_url,
        SEQUIN_API_TOKEN: "none is needed",
        SEQUIN_COLLECTIONS: str(_declare(Path(place.scratch) / "defs", place.options["collections"])),
    }
    # Under the name of the module rather than as __main__, so that other processes find it.
    from bench.many_run import many_job as job

    present = f"{datetime.now(UTC):%Y-%m}"
    with dg.DagsterInstance.get() as instance:

        def prepare(task: child.Task) -> Callable[[], None]:
            # A tick asks for the windows since the cursors: of a stream that moves, the present one.
            first = present if task.phase == "nothing_new" else f"{YEAR}-01"
            tags = {RANGE_START_TAG: first, RANGE_END_TAG: present, MODE_TAG: "live", **PHASE_TAGS[task.phase]}

            def work() -> None:
                dg.execute_job(dg.reconstructable(job), instance, tags=tags, raise_on_error=True)

            return work

        child.compete(prepare)


def _declare(folder: Path, names: Sequence[str]) -> Path:
    """The collection of all the other contestants, many times."""
    (folder / MANY_PROVIDER).mkdir(parents=True)
    columns = ", ".join(f"{column.name}: {_declared(column)}" for column in COLUMNS)
    collections = "".join(f"    {name}: {{columns: {{{columns}}}}}\n" for name in names)
    (folder / MANY_PROVIDER / "defs.yaml").write_text(
        f"type: sequin_pipeline.component.CollectionSync\nattributes:\n  provider: {MANY_PROVIDER}\n  collections:\n{collections}"
    )
    return folder


def _declared(column: Column) -> str:
    form = ", format: epoch_seconds" if column.time_format == "epoch_seconds" else ""
    required = ", required: true" if column.is_required else ""
    return f'{{path: "{column.path}", type: {column.type}{form}{required}}}'


if __name__ == "__main__":
    main()
