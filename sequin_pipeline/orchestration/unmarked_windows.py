"""This module finds from where on a live run has windows to tell Dagster of: later than its cursor, or earlier.

Later: the last live run completed the windows up to its start, however old the last record is. Earlier: it failed or was killed before
it had marked its windows; its rows and its cursor are there, so no later run would ask for them by the cursor alone, and they would
look missing for ever.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.assets import asset_key
from sequin_pipeline.orchestration.executor import RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.orchestration.resources import LiveState
from sequin_pipeline.orchestration.run_config import SHARD_TAG
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.windows import MODE_TAG, SLACK, start_of
from sequin_pipeline.windows import window as window_of

PAGE_RUNS = 50
"""A page has this many of a job's newest runs.

That is more than one tick launches, so that each collection's last one is mostly among them.
"""

MOST_PAGES = 40
"""At most this many pages are looked at for a collection whose last live run is not on the first.

2,000 runs are three weeks of ticks every quarter of an hour, and take a second. A run that lies further back would be missed.
"""


def times_to_ask_from(
    instance: dg.DagsterInstance, job: str, collections: Iterable[Collection], state: LiveState
) -> dict[str, datetime | None]:
    """Returns by label the times from which live runs of these collections, all of one job, have something to tell.

    That is where the last live run started, once it has come to its end, or where the cursor stands if that is later; earlier where
    windows before are unmarked. A run counts as completed where both Dagster and the ledger say so: each of them may have been made
    anew since.
    """
    times = dict(state.cursor_times)
    read = [one for one in collections if times.get(one.label) is not None or one.label in state.completed_runs]
    for collection, run in _last_live_runs(instance, job, read):
        window = _asked_time(run, collection)
        if window is None:
            continue
        label, cursor_at = collection.label, times.get(collection.label)
        if _has_marked(instance, run, asset_key(collection)):
            completed = state.completed_runs.get(label)
            if completed is not None and completed.run_id == run.run_id:
                latest = completed.started_at if cursor_at is None else max(cursor_at, completed.started_at)
                # A run that waited in the queue may have started after the last window that it was asked for.
                times[label] = min(latest, window.end)
        elif cursor_at is not None and window.start is not None:
            times[label] = min(cursor_at, window.start + SLACK)
    return times


def unfinished_in_dagster(
    instance: dg.DagsterInstance, job: str, collections: Sequence[Collection], state: LiveState
) -> frozenset[str]:
    """Returns the labels of collections whose last live run of the job has failed in Dagster without having marked its windows.

    It may have failed before the ledger heard of it. `collections` are such that a run of each has come to its end in the ledger. Among
    the newest PAGE_RUNS that failed: the next tick after a failure already launches a run that takes its place.
    """
    if not collections:
        return frozenset()
    completed = {collection.label: state.completed_runs[collection.label] for collection in collections}
    failed = dg.RunsFilter(
        job_name=job,
        tags={MODE_TAG: "live"},
        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
        updated_after=min(run.started_at for run in completed.values()),
    )
    waiting, unfinished = {collection.label: collection for collection in collections}, set[str]()
    for record in instance.get_run_records(failed, limit=PAGE_RUNS):
        run, created_at = record.dagster_run, record.create_timestamp.replace(tzinfo=UTC)
        for label, collection in [*waiting.items()]:
            key, last = asset_key(collection), completed[label]
            if run.asset_selection is not None and key not in run.asset_selection:
                continue
            if last.run_id == run.run_id or last.started_at < created_at:
                del waiting[label]
                if not _has_marked(instance, run, key):
                    unfinished.add(label)
    return frozenset(unfinished)


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


def _asked_time(run: dg.DagsterRun, collection: Collection) -> TimeWindow | None:
    """Returns the time that the windows cover which the run was asked for."""
    if RANGE_START_TAG not in run.tags or RANGE_END_TAG not in run.tags:
        return None
    try:
        start = start_of(collection.windows, run.tags[RANGE_START_TAG])
        return TimeWindow(start, window_of(collection.windows, run.tags[RANGE_END_TAG]).end)
    except ConfigurationError:
        return None  # its windows had another width, or another start


def _has_marked(instance: dg.DagsterInstance, run: dg.DagsterRun, key: dg.AssetKey) -> bool:
    """Says whether the run has marked all of its windows of that asset; another collection of it may have failed."""
    if run.status == dg.DagsterRunStatus.SUCCESS and SHARD_TAG not in run.tags:
        return True  # of the runs of a first load only the one that completes it marks windows
    marked = instance.get_latest_materialization_event(key)
    return (
        marked is not None and marked.run_id == run.run_id and marked.get_dagster_event().partition == run.tags.get(RANGE_END_TAG)
    )
