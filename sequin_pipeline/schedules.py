"""The job and the schedule of a provider: live runs of its collections, asked for by the windows since each one's cursor."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from sequin_pipeline.assets import asset_key, group_name
from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.windows import MODE_TAG, KeyRange, live_ranges

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

CursorTimes = Callable[[WarehouseResource], Mapping[str, datetime | None]]
"""`inserted_at` where each collection's live cursor stands, by label; missing or None: not begun."""


def job_name(provider: str) -> str:
    """The job that syncs a provider."""
    return f"sync_{group_name(provider)}"


def live_tags(asked: KeyRange) -> dict[str, str]:
    """The tags of a live run over these windows, whoever launches it."""
    return {RANGE_START_TAG: asked.first, RANGE_END_TAG: asked.last, MODE_TAG: "live"}


def build_job_and_schedule(
    provider: str, collections: Sequence[Collection], *, cron: str | None, cursor_times: CursorTimes
) -> dg.Definitions:
    """The provider's job over every asset of its group, and the schedule of its live runs where there is a `cron`."""
    job = dg.define_asset_job(
        job_name(provider),
        selection=dg.AssetSelection.groups(group_name(provider)),
        description=f"Syncs the collections of {provider}, and runs what is built on them in its group.",
    )
    schedules = [build_schedule(provider, collections, cron=cron, cursor_times=cursor_times)] if cron else []
    return dg.Definitions(jobs=[job], schedules=schedules)


def build_schedule(
    provider: str, collections: Sequence[Collection], *, cron: str, cursor_times: CursorTimes
) -> dg.ScheduleDefinition:
    """Live runs at the ticks of `cron` (UTC), stopped until somebody switches it on; the first run is the initial load."""

    @dg.schedule(
        name=f"{job_name(provider)}_schedule",
        job_name=job_name(provider),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Live runs of {provider}: from each collection's cursor to the end of the stream.",
        required_resource_keys={WAREHOUSE},
    )
    def live_runs(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        times = cursor_times(getattr(context.resources, WAREHOUSE))
        now = context.scheduled_execution_time.astimezone(UTC)
        return [
            dg.RunRequest(
                run_key=f"{now.isoformat()} {asked.first}...{asked.last}",
                asset_selection=with_followers(context.repository_def, provider, members),
                tags=live_tags(asked),
            )
            for asked, members in live_ranges(collections, times, now=now).items()
        ]

    return live_runs


def check_cron(cron: str, origin: str | None) -> None:
    """Raises CatalogError for what Dagster does not take as a cron schedule."""
    try:
        dg.ScheduleDefinition(name="check", job_name="check", cron_schedule=cron)
    except dg.DagsterInvalidDefinitionError as error:
        raise CatalogError(
            f"schedule {cron!r} is not a cron schedule: write minute, hour, day, month and weekday, as in '*/15 * * * *'", origin
        ) from error


def with_followers(repository: dg.RepositoryDefinition, provider: str, collections: Sequence[Collection]) -> list[dg.AssetKey]:
    """The collections' assets and those of the provider's group that are built on them."""
    synced = dg.AssetSelection.assets(*(asset_key(collection) for collection in collections))
    followers = synced.downstream() & dg.AssetSelection.groups(group_name(provider))
    return sorted(followers.resolve(repository.asset_graph))
