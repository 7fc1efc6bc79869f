"""This module finds windows that a live run should have marked as materialized, but failed or was killed before it did.

Its rows and its cursor are there, so no later run would ask for these windows by the cursor alone, and they would look missing for ever.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.assets import asset_key
from sequin_pipeline.orchestration.executor import RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.windows import MODE_TAG, SLACK, start_of

RUNS_LOOKED_AT = 50
"""So many of a job's newest runs are looked at: more than one tick launches, so that each collection's last one is among them."""


def times_to_ask_from(
    instance: dg.DagsterInstance, job: str, collections: Iterable[Collection], cursor_times: Mapping[str, datetime | None]
) -> dict[str, datetime | None]:
    """Returns the times of the live cursors by label, of the collections of one job; earlier where windows before are unmarked."""
    times = dict(cursor_times)
    runs = instance.get_runs(dg.RunsFilter(job_name=job, tags={MODE_TAG: "live"}), limit=RUNS_LOOKED_AT)
    for collection in collections:
        cursor_at, since = times.get(collection.label), _unmarked_since(instance, runs, collection)
        if cursor_at is not None and since is not None:
            times[collection.label] = min(cursor_at, since + SLACK)
    return times


def _unmarked_since(instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun], collection: Collection) -> datetime | None:
    key = asset_key(collection)
    last = next((run for run in runs if run.asset_selection is None or key in run.asset_selection), None)
    if last is None or last.status == dg.DagsterRunStatus.SUCCESS or RANGE_START_TAG not in last.tags:
        return None
    marked = instance.get_latest_materialization_event(key)
    if (
        marked is not None
        and marked.run_id == last.run_id
        and marked.get_dagster_event().partition == last.tags.get(RANGE_END_TAG)
    ):
        return None  # another collection of that run failed
    try:
        return start_of(collection.windows, last.tags[RANGE_START_TAG])
    except ConfigurationError:
        return None  # its windows had another width, or another start
