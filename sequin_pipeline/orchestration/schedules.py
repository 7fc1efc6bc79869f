"""This module builds the job and the schedule of a provider or a queue: live runs over the windows since each cursor."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.assets import asset_key, group_name, run_name
from sequin_pipeline.orchestration.chosen_executor import chosen_executor
from sequin_pipeline.orchestration.executor import FIRST_LOAD_TAG, RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.orchestration.freshness import FRESHNESS
from sequin_pipeline.orchestration.queue_asset import keys_beside
from sequin_pipeline.orchestration.resources import SOURCE, WAREHOUSE, LiveState, WarehouseResource, live_state
from sequin_pipeline.orchestration.run_config import SHARD_TAG
from sequin_pipeline.orchestration.shard_runs import with_shards
from sequin_pipeline.orchestration.table_checks import DESCRIPTIONS
from sequin_pipeline.orchestration.ticks import find_due, looks_first
from sequin_pipeline.orchestration.unmarked_windows import times_to_ask_from
from sequin_pipeline.windows import MODE_TAG, KeyRange, live_ranges

WATCHING = frozenset({FRESHNESS, *DESCRIPTIONS})
"""No run of a collection evaluates the checks of these names by itself."""

ALIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
"""Runs in these states are at work or will be: another one behind them would find nothing to do."""

RETRY_COMES_WITHIN = timedelta(minutes=2)
"""Dagster's daemon launches the retry of a failed run within seconds; one that has not come by then comes no more."""


def job_name(run: str) -> str:
    """Returns the name of the job of the collections that run together, by their `run_name`."""
    return f"sync_{run}"


def live_tags(asked: KeyRange | None) -> dict[str, str]:
    """Returns the tags of a live run over these windows, whoever launches it; None means a queue, which has no windows."""
    if asked is None:
        return {MODE_TAG: "live"}
    return {RANGE_START_TAG: asked.first, RANGE_END_TAG: asked.last, MODE_TAG: "live"}


def build_job_and_schedule(
    collections: Sequence[Collection],
    *,
    cron: str | None,
    skip_empty: bool = True,
    read_state: Callable[[WarehouseResource], LiveState] = live_state,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.Definitions:
    """Builds the job over all assets of the collections' groups and, where there is a `cron` (UTC), the schedule of its live runs.

    The collections are all of one provider, or of one queue. The schedule is stopped until somebody switches it on. A tick is skipped
    while a live run of the job is at work, and with `skip_empty` where no collection has anything new; else it launches those that have.
    """
    name = job_name(run_name(collections))
    providers = " and ".join(sorted({collection.provider for collection in collections}))
    job = dg.define_asset_job(
        name,
        selection=_groups(collections),
        description=f"Syncs the collections of {providers}, and runs what is built on them in their group.",
        # Not left to the project, whose own jobs may need another: steps of a tick must not cost a process each.
        executor_def=chosen_executor(os.environ),
    )
    if cron is None:
        return dg.Definitions(jobs=[job])
    looks = skip_empty and looks_first(collections)

    @dg.schedule(
        name=f"{name}_schedule",
        job_name=name,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Live runs of {providers}, from each collection's cursor to the end of the stream; the first is the initial load.",
        required_resource_keys={WAREHOUSE, SOURCE} if looks else {WAREHOUSE},
    )
    def live_runs(context: dg.ScheduleEvaluationContext) -> dg.SkipReason | list[dg.RunRequest]:
        state = read_state(getattr(context.resources, WAREHOUSE))
        busy = _runs_at_work(context.instance, name, now=clock())
        if busy:
            return dg.SkipReason(f"run {busy[0]} is at work on {providers} and will read to the end of the stream")
        due: Sequence[Collection] = collections
        if looks:
            found = find_due(
                context.instance,
                name,
                collections,
                state,
                warehouse=getattr(context.resources, WAREHOUSE).open(),
                open_source=getattr(context.resources, SOURCE).open,
            )
            if not found.due:
                return dg.SkipReason(found.told)
            context.log.info(found.told)
            due = [collection for collection in collections if collection.label in found.due]
        return _run_requests(context, name, due, state)

    return dg.Definitions(jobs=[job], schedules=[live_runs])


def _run_requests(
    context: dg.ScheduleEvaluationContext, job: str, due: Sequence[Collection], state: LiveState
) -> list[dg.RunRequest]:
    """Returns a run for each range of windows that the collections are asked for, and for each shard that is left."""
    now = context.scheduled_execution_time.astimezone(UTC)
    runs: list[tuple[KeyRange | None, Sequence[Collection]]] = (
        [(None, due)]
        if due[0].is_queued
        else list(live_ranges(due, times_to_ask_from(context.instance, job, due, state), now=now).items())
    )
    return [
        dg.RunRequest(
            run_key=_run_key(now, asked, members, shard),
            asset_selection=selection,
            asset_check_keys=step_checks(context.repository_def, selection),
            tags={**live_tags(asked), **_load_tags(members, state), **({} if shard is None else {SHARD_TAG: str(shard)})},
        )
        for asked, members, shard in with_shards(runs, state)
        for selection in [with_followers(context.repository_def, members)]
    ]


def _run_key(now: datetime, asked: KeyRange | None, members: Sequence[Collection], shard: int | None) -> str:
    key = f"{now.isoformat()} {asked.first}...{asked.last}" if asked else now.isoformat()
    return key if shard is None else f"{key} {members[0].label} shard {shard}"


def _load_tags(collections: Sequence[Collection], state: LiveState) -> dict[str, str]:
    """Returns tags for a first load; a queue keeps no cursor here, and its first run is as short as any other.

    A collection that was read and is empty has no cursor either.
    """
    if collections[0].is_queued:
        return {}
    labels = [collection.label for collection in collections]
    is_first = all(state.cursor_times.get(label) is None and label not in state.completed_runs for label in labels)
    return {FIRST_LOAD_TAG: "true"} if is_first else {}


def check_cron(cron: str, origin: str | None) -> None:
    """Raises CatalogError for what Dagster does not accept as a cron schedule."""
    try:
        dg.ScheduleDefinition(name="check", job_name="check", cron_schedule=cron)
    except dg.DagsterInvalidDefinitionError as error:
        raise CatalogError(
            f"schedule {cron!r} is not a cron schedule: write minute, hour, day, month and weekday, as in '*/15 * * * *'", origin
        ) from error


def with_followers(repository: dg.RepositoryDefinition, collections: Sequence[Collection]) -> list[dg.AssetKey]:
    """Returns the collections' assets, those of their groups that are built on them, and the further steps of a queue."""
    synced = dg.AssetSelection.assets(*(asset_key(collection) for collection in collections), *keys_beside(collections))
    return sorted((synced.downstream() & _groups(collections)).resolve(repository.asset_graph))


def _groups(collections: Sequence[Collection]) -> dg.AssetSelection:
    return dg.AssetSelection.groups(*sorted({group_name(collection.provider) for collection in collections}))


def step_checks(repository: dg.RepositoryDefinition, keys: Sequence[dg.AssetKey]) -> list[dg.AssetCheckKey]:
    """Returns the checks of these assets except those that watch from outside: a tick must not read whole tables."""
    checks = dg.AssetSelection.assets(*keys).resolve_checks(repository.asset_graph)
    return sorted(check for check in checks if check.name not in WATCHING)


def _runs_at_work(instance: dg.DagsterInstance, job: str, *, now: datetime) -> list[str]:
    """Returns the ids of live runs of the job that are at work, or that Dagster is about to run again.

    A run launched between a failure and its retry would meet it at the live cursor, and one of the two would end red. Those whose process
    is gone are ended by the sensor of lost_runs.py.
    """
    live = {MODE_TAG: "live"}
    runs = list(instance.get_runs(dg.RunsFilter(job_name=job, tags=live, statuses=ALIVE)))
    failed = dg.RunsFilter(
        job_name=job, tags=live, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - RETRY_COMES_WITHIN
    )
    runs += [run for run in instance.get_runs(failed) if run.is_complete_and_waiting_to_retry]
    return [run.run_id for run in runs]
