"""This module checks freshness: whether a live run of each collection has ended when its schedule says that one should have.

It is judged by what the ledger says of live runs, not by materializations: a run that does not happen turns the check red, and a
backfill of an old window does not turn it green. A sensor looks every minute without launching anything; the check can also be
executed by hand. Neither starts anything or needs the records API.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.status import LiveRuns, live_runs
from sequin_pipeline.orchestration.assets import asset_key, group_name
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.postgres.warehouse import attempt

FRESHNESS = "freshness"

LOOK_SECONDS = 60
"""The sensor looks this often: one small read of the ledger, and one of Dagster's storage, for all collections of a provider."""

PATIENCE = timedelta(hours=1)
"""A tick's run may take this long before it counts as late, or the schedule's own interval where that is shorter."""

LIFE_SIGN = timedelta(minutes=10)
"""A run that wrote down within these how far it has come is shown as at work: one page may be retried for as long."""

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class FreshnessStatus:
    """This value is the status of one collection; `mark` changes when there is something new to say."""

    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    metadata: Mapping[str, dg.MetadataValue]
    mark: str


def build_freshness(
    provider: str, collections: Sequence[Collection], *, cron: str, clock: Clock = lambda: datetime.now(UTC)
) -> dg.Definitions:
    """Builds the check of each collection, and the sensor that evaluates them all.

    The sensor is stopped until somebody switches it on, as the schedule is: the two belong together, and a schedule that somebody has
    stopped and forgotten shows.
    """

    @dg.sensor(
        name=f"{group_name(provider)}_freshness",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Turns the freshness checks of {provider} red when live runs do not end as scheduled.",
        required_resource_keys={WAREHOUSE},
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        statuses = judge(getattr(context.resources, WAREHOUSE), collections, cron=cron, now=clock())
        told: Mapping[str, str] = json.loads(context.cursor or "{}")
        # Dagster takes a status that is older than the last materialization for out of date, and hides it.
        materialized = context.instance.get_latest_materialization_events([asset_key(collection) for collection in collections])
        news = {
            collection.label: f"{status.mark}, {_run_id(materialized.get(asset_key(collection)))}"
            for collection, status in statuses
        }
        fresh = sum(status.passed for _, status in statuses)
        return dg.SensorResult(
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=asset_key(collection),
                    check_name=FRESHNESS,
                    passed=status.passed,
                    severity=status.severity,
                    description=status.description,
                    metadata=status.metadata,
                )
                for collection, status in statuses
                if told.get(collection.label) != news[collection.label]
            ],
            skip_reason=dg.SkipReason(f"{fresh} of {len(statuses)} collections are fresh"),
            cursor=json.dumps(news),
        )

    return dg.Definitions(
        asset_checks=[_build_check(collection, cron=cron, clock=clock) for collection in collections], sensors=[look]
    )


def judge(
    warehouse: WarehouseResource, collections: Sequence[Collection], *, cron: str, now: datetime
) -> list[tuple[Collection, FreshnessStatus]]:
    """Returns the status of each collection by one read of the ledger; raises WarehouseError."""

    def read() -> Mapping[str, LiveRuns]:
        with warehouse.open().connect() as connection:
            migrate(connection)
            return live_runs(connection, LIFE_SIGN)

    found = attempt(read, "reading when live runs ended")
    since = due_since(cron, now)
    return [(collection, freshness_status(found.get(collection.label, LiveRuns()), since)) for collection in collections]


def due_since(cron: str, now: datetime) -> datetime:
    """Returns the newest tick of a cron schedule (UTC) whose run should have ended by now."""
    ticks = dg.TimeWindowPartitionsDefinition(
        start=datetime(2000, 1, 1, tzinfo=UTC), fmt="%Y-%m-%dT%H:%M", cron_schedule=cron, timezone="UTC"
    )
    between = ticks.get_prev_partition_window(now, respect_bounds=False)
    assert between is not None  # noqa: S101 - only bounds leave a time without a window before it
    is_late = now >= between.end + min(between.end - between.start, PATIENCE)
    return between.end if is_late else between.start


def freshness_status(runs: LiveRuns, since: datetime) -> FreshnessStatus:
    """Returns "fresh" when a live run has ended since then, or a tick has found that none is needed.

    A late run at work is a warning: the first load takes its time.
    """
    metadata = {"expected_since": dg.MetadataValue.timestamp(since)}
    if runs.ended_at is not None:
        metadata["last_live_run_ended"] = dg.MetadataValue.timestamp(runs.ended_at)
    ended = f"the last live run ended at {_minute(runs.ended_at)}" if runs.ended_at else "no live run has ended yet"
    if runs.asked_at is not None:
        metadata["source_last_asked"] = dg.MetadataValue.timestamp(runs.asked_at)
        ended += f", and at {_minute(runs.asked_at)} there was nothing new"
    if runs.ended_at is not None and max(runs.ended_at, runs.asked_at or runs.ended_at) >= since:
        # Not each tick that asks in vain is something new to say: that would cost more than asking.
        return FreshnessStatus(True, dg.AssetCheckSeverity.ERROR, ended, metadata, f"fresh {runs.ended_at.isoformat()}")
    expected = f"one should have since {_minute(since)}"
    if runs.at_work is not None:
        description = f"{ended}, {expected}; run {runs.at_work} is at work"
        return FreshnessStatus(False, dg.AssetCheckSeverity.WARN, description, metadata, f"late {runs.at_work}")
    return FreshnessStatus(False, dg.AssetCheckSeverity.ERROR, f"{ended}, {expected}", metadata, "late")


def _build_check(collection: Collection, *, cron: str, clock: Clock) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(collection),
        name=FRESHNESS,
        description=f"A live run has ended as the schedule {cron!r} (UTC) demands; backfills do not count.",
        required_resource_keys={WAREHOUSE},
    )
    def freshness(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        ((_, status),) = judge(getattr(context.resources, WAREHOUSE), [collection], cron=cron, now=clock())
        return dg.AssetCheckResult(
            passed=status.passed, severity=status.severity, description=status.description, metadata=status.metadata
        )

    return freshness


def _run_id(event: dg.EventLogEntry | None) -> str | None:
    return event.run_id if event else None


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z"
