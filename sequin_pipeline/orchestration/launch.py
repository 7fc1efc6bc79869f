"""This module launches runs of a provider's or a queue's job in this process; `sync` and `backfill` stand on it."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.census import Others
from sequin_pipeline.orchestration.assets import asset_key, run_name
from sequin_pipeline.orchestration.command_runs import alive, end_abandoned_runs, standing_on_timeline
from sequin_pipeline.orchestration.definitions import build_sync_definitions
from sequin_pipeline.orchestration.queue_asset import keys_beside, step_name
from sequin_pipeline.orchestration.resources import LiveState
from sequin_pipeline.orchestration.run_config import (
    ACCEPT_DELETES_TAG,
    ADOPT_TAG,
    FULL_REFRESH_TAG,
    OTHERS_TAG,
    SYNC_ID_TAG,
    refuse_reread,
)
from sequin_pipeline.orchestration.schedules import job_name, live_tags, with_followers
from sequin_pipeline.orchestration.unmarked_windows import times_to_ask_from
from sequin_pipeline.windows import MODE_TAG, KeyRange, RunMode, live_range, named_range


@dataclass(frozen=True)
class Request:
    """A request says what runs are asked for beyond their windows; `marks` are tags by which they are found again."""

    mode: RunMode
    sync_id: str | None = None
    full_refresh: bool = False
    adopt: bool = False
    others: Others = "keep"
    accept_deletes: int | None = None
    marks: Mapping[str, str] = field(default_factory=dict)

    def tags(self, asked: KeyRange | None) -> dict[str, str]:
        """Returns the tags of such a run, the same from every launcher."""
        tags = {**self.marks, **live_tags(asked), MODE_TAG: self.mode}
        if self.sync_id is not None:
            tags[SYNC_ID_TAG] = self.sync_id
        if self.full_refresh:
            tags[FULL_REFRESH_TAG] = "true"
        if self.adopt:
            tags[ADOPT_TAG] = "true"
        if self.others != "keep":
            tags[OTHERS_TAG] = self.others
        if self.accept_deletes is not None:
            tags[ACCEPT_DELETES_TAG] = str(self.accept_deletes)
        return tags


@dataclass(frozen=True)
class FinishedRun:
    """This value is a run, its collections, and by label the message of each that failed, and what set the pace of the others."""

    run_id: str
    collections: tuple[Collection, ...]
    failures: Mapping[str, str]
    bottlenecks: Mapping[str, str] = field(default_factory=dict)


Groups = Mapping[tuple[str, KeyRange | None], tuple[Collection, ...]]
"""Collections are grouped by `run_name` and range of windows (None for a queue): those of one key share a run."""


def whole_queues(selected: Sequence[Collection], declared: Iterable[Collection]) -> tuple[Collection, ...]:
    """Returns the selected collections, and with one of a queue all that it delivers: one run drains it for all of them."""
    queues = {collection.queue_key for collection in selected if collection.is_queued}
    others = (collection for collection in declared if collection.queue_key in queues and collection not in selected)
    return (*selected, *others)


def times_of(collections: Iterable[Collection], state: LiveState) -> Mapping[str, datetime | None]:
    """Returns by label from when on live runs of the collections have something to tell; see times_to_ask_from."""
    by_run: dict[str, list[Collection]] = {}
    for collection in collections:
        label = collection.label
        if not collection.is_queued and (state.cursor_times.get(label) is not None or label in state.completed_runs):
            by_run.setdefault(run_name([collection]), []).append(collection)
    times = dict(state.cursor_times)
    if by_run:
        with dg.DagsterInstance.get() as instance:
            for run, members in by_run.items():
                asked_from = times_to_ask_from(instance, job_name(run), members, state)
                times |= {member.label: asked_from.get(member.label) for member in members}
    return times


def live_groups(
    collections: Sequence[Collection], cursor_times: Mapping[str, datetime | None], request: Request, *, now: datetime
) -> Groups:
    """Groups collections into the runs that live reading takes; of queues `collections` hold all.

    A restricted or full read asks for all windows. Raises ConfigurationError where that would be asked of a queue.
    """
    groups: dict[tuple[str, KeyRange | None], tuple[Collection, ...]] = {}
    for collection in collections:
        if collection.source.queue is not None:
            if request.full_refresh or request.sync_id is not None or request.others == "mark":
                raise ConfigurationError(f"{collection.label}: {refuse_reread(collection.source.queue.consumer)}")
            drained = tuple(other for other in collections if other.queue_key == collection.queue_key)
            groups[run_name(drained), None] = drained
            continue
        reads_all = request.full_refresh or request.sync_id is not None
        cursor_at = None if reads_all else cursor_times.get(collection.label)
        group = (run_name([collection]), live_range(collection.windows, cursor_at, now))
        groups[group] = (*groups.get(group, ()), collection)
    return groups


def backfill_groups(collections: Sequence[Collection], first: str, last: str | None, *, now: datetime) -> Groups:
    """Groups collections by `run_name` and the windows that `first` and `last` (None: the present) name in each one's own width.

    Raises ConfigurationError for what names no window of a collection, and for a queue.
    """
    groups: dict[tuple[str, KeyRange | None], tuple[Collection, ...]] = {}
    for collection in collections:
        if collection.source.queue is not None:
            raise ConfigurationError(f"{collection.label}: {refuse_reread(collection.source.queue.consumer)}")
        try:
            group = (run_name([collection]), named_range(collection.windows, first, last, now=now))
        except ConfigurationError as error:
            raise ConfigurationError(f"{collection.label}: {error}") from error
        groups[group] = (*groups.get(group, ()), collection)
    return groups


def run_groups(groups: Groups, request: Request) -> Iterator[FinishedRun]:
    """Runs one group after the other; a failed collection stops neither the others of its run nor the runs after it."""
    repository = build_sync_definitions(os.environ).get_repository_def()
    with dg.DagsterInstance.get() as instance, alive(instance) as life_tags:
        end_abandoned_runs(instance)
        for (run, asked), members in groups.items():
            selection = with_followers(repository, members)
            with standing_on_timeline(instance, job_name(run)):
                result = repository.get_job(job_name(run)).execute_in_process(
                    instance=instance,
                    asset_selection=selection,
                    tags={**request.tags(asked), **life_tags},
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    raise_on_error=False,
                )
            yield FinishedRun(result.run_id, members, failures_of(result, members), _bottlenecks(result, members))


def failures_of(result: dg.ExecuteInProcessResult, members: Sequence[Collection]) -> dict[str, str]:
    """Returns by label what each failed step said; a step without a collection has its own name."""
    labels = {asset_key(collection).to_python_identifier(): collection.label for collection in members}
    if members[0].is_queued:
        steps = [step_name(members), *(key.path[-1] for key in keys_beside(members))]
        labels |= dict.fromkeys(steps, members[0].label)
    failures = {}
    for event in result.filter_events(lambda event: event.is_step_failure):
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        failures[labels.get(event.step_key or "", event.step_key or "")] = said or _innermost_message(event)
    if not result.success and not failures:
        # Before any step: a resource, or the run itself.
        (event,) = result.filter_events(lambda event: event.event_type == dg.DagsterEventType.RUN_FAILURE)
        return dict.fromkeys((collection.label for collection in members), _innermost_message(event))
    return failures


def _bottlenecks(result: dg.ExecuteInProcessResult, members: Sequence[Collection]) -> dict[str, str]:
    """Returns by label what the materializations of the newest windows say; runs of one sync have none."""
    labels = {asset_key(collection): collection.label for collection in members}
    told = {}
    for event in result.filter_events(lambda event: event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION):
        made = event.step_materialization_data.materialization
        said = made.metadata.get("bottleneck")
        if said is not None and made.asset_key in labels:
            told[labels[made.asset_key]] = str(said.value)
    return told


def _innermost_message(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "failed without a message"
