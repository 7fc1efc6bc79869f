"""This module finds windows that a live run should have marked as materialized, but failed or was killed before it did.

Its rows and its cursor are there, so no later run would ask for these windows by the cursor alone, and they would look missing for ever.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.assets import asset_key
from sequin_pipeline.orchestration.executor import RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.windows import MODE_TAG, SLACK, start_of

PAGE_RUNS = 50
"""A page of a job's newest runs: more than one tick launches, so that each collection's last one is mostly among them."""

MOST_PAGES = 40
"""Pages that are looked at for a collection whose last live run is not on the first: 2,000 runs are three weeks of ticks every quarter
of an hour, and take a second. A run that lies further back would be missed."""


def times_to_ask_from(
    instance: dg.DagsterInstance, job: str, collections: Iterable[Collection], cursor_times: Mapping[str, datetime | None]
) -> dict[str, datetime | None]:
    """Returns the times of the live cursors by label, of the collections of one job; earlier where windows before are unmarked."""
    times = dict(cursor_times)
    waiting = [collection for collection in collections if times.get(collection.label) is not None]
    for collection, last in _last_live_runs(instance, job, waiting):
        cursor_at, since = times[collection.label], _unmarked_since(instance, last, collection)
        if cursor_at is not None and since is not None:
            times[collection.label] = min(cursor_at, since + SLACK)
    return times


def _last_live_runs(
    instance: dg.DagsterInstance, job: str, collections: Iterable[Collection]
) -> Iterator[tuple[Collection, dg.DagsterRun]]:
    """Yields each collection with its newest live run of the job; one that has none, or a very old one, is left out."""
    waiting = {asset_key(collection): collection for collection in collections}
    newest = dg.RunsFilter(job_name=job, tags={MODE_TAG: "live"})
    page: Sequence[dg.DagsterRun] = ()
    for _ in range(MOST_PAGES):
        page = instance.get_runs(newest, cursor=page[-1].run_id if page else None, limit=PAGE_RUNS)
        for run in page:
            for key in [key for key in waiting if run.asset_selection is None or key in run.asset_selection]:
                yield waiting.pop(key), run
        if not waiting or len(page) < PAGE_RUNS:
            return


def _unmarked_since(instance: dg.DagsterInstance, last: dg.DagsterRun, collection: Collection) -> datetime | None:
    if last.status == dg.DagsterRunStatus.SUCCESS or RANGE_START_TAG not in last.tags:
        return None
    marked = instance.get_latest_materialization_event(asset_key(collection))
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
