"""This sensor ends runs whose process or machine is gone, and frees their places in the pool; nothing else does.

Dagster would leave such a run STARTED for a day. Every process at work on a run shows life in the ledger (runs/life.py), and says there
after how long without life it may be taken for lost. It is taken for lost when every look of this sensor has found the same sign of life
for that long, with no two looks further apart than that:

* One clock decides, that of the warehouse.
* A warehouse that cannot be reached, a daemon that stood still or a laptop that slept break the row of looks: it begins again, and whoever
  lives has shown life before it is complete. So has one whose connections to the warehouse hung as long as that.
* A run without a row in the ledger is none of its business: one that has not begun (Dagster's start timeout ends it), one of other assets.

The run is reported as failed, so that Dagster's own retries decide whether it is run again; the tick of a schedule waits for that
(schedules.py). A process that was taken for lost and lives notices it by its next sign of life, and stops.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import dagster as dg
import psycopg

from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.processes import Process, end_all, processes, take_for_lost
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.orchestration.resources import WAREHOUSE
from sequin_pipeline.postgres.warehouse import Connection, explain

NAME = "end_lost_runs"

LOOKS_UNTIL_LOST = 3
"""A limit of ninety seconds is looked at every thirty: one small read of the ledger."""

ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
AT_WORK = frozenset({dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED})
"""A run that is being cancelled is run monitoring's to end, when it does not end by itself."""


@dataclass(frozen=True)
class Watch:
    """This value is what the looks until now have seen: of each process its last sign of life, and since when there was no other."""

    looked_at: datetime | None = None
    seen: Mapping[UUID, tuple[datetime, datetime]] = field(default_factory=dict)

    def look(self, found: Iterable[Process], now: datetime) -> "Watch":
        """Returns the watch after another look."""
        seen = {}
        for process in found:
            last, since = self.seen.get(process.id, (None, now))
            is_unbroken = self.looked_at is not None and now - self.looked_at < process.lost_after
            seen[process.id] = (process.beat_at, since if last == process.beat_at and is_unbroken else now)
        return Watch(now, seen)

    def is_silent(self, process: Process) -> bool:
        """Says whether the process may be taken for lost; one that was before, by a look that came no further, stays so."""
        _, since = self.seen[process.id]
        return process.is_lost or (self.looked_at is not None and self.looked_at - since >= process.lost_after)

    def to_json(self) -> str:
        """Returns the watch as the cursor of the sensor."""
        seen = {str(id_): [moment.isoformat() for moment in moments] for id_, moments in self.seen.items()}
        return json.dumps({"looked_at": self.looked_at.isoformat() if self.looked_at else None, "seen": seen})

    @classmethod
    def from_json(cls, text: str | None) -> "Watch":
        """Returns the watch that a cursor holds; a new one where there is none."""
        if not text:
            return cls()
        kept = json.loads(text)
        seen = {
            UUID(id_): (datetime.fromisoformat(beat_at), datetime.fromisoformat(since))
            for id_, (beat_at, since) in kept["seen"].items()
        }
        return cls(datetime.fromisoformat(kept["looked_at"]) if kept["looked_at"] else None, seen)


def build_lost_runs_sensor(lost_after_seconds: float) -> dg.SensorDefinition:
    """Builds the sensor, which is on until somebody switches it off; of a project there is one, whatever number of files it has."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=max(1, round(lost_after_seconds / LOOKS_UNTIL_LOST)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose process or machine is gone, and frees their places in the pool: "
        f"{lost_after_seconds:.0f} s after the last sign of life, as the looks see it.",
        required_resource_keys={WAREHOUSE},
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            watch, told = _look(context, Watch.from_json(context.cursor))
        except (PipelineError, psycopg.Error) as error:
            explained = explain(error, "reading which processes are at work") if isinstance(error, psycopg.Error) else error
            return dg.SensorResult(skip_reason=dg.SkipReason(f"the ledger cannot be read: {explained}"), cursor=Watch().to_json())
        return dg.SensorResult(skip_reason=dg.SkipReason(told), cursor=watch.to_json())

    return look


def _look(context: dg.SensorEvaluationContext, before: Watch) -> tuple[Watch, str]:
    instance = context.instance
    with getattr(context.resources, WAREHOUSE).open().connect() as connection:
        migrate(connection)
        now, found = processes(connection)
        watch = before.look(found, now)
        by_run: dict[str, list[Process]] = {}
        for process in found:
            by_run.setdefault(process.run_id, []).append(process)
        runs = instance.get_runs(dg.RunsFilter(run_ids=list(by_run))) if by_run else []
        # Also those that somebody ended in the UI, and those that a look ended which came no further.
        end_all(connection, [run.run_id for run in runs if run.status in ENDED])
        ended = [
            run.run_id
            for run in runs
            if run.status in AT_WORK
            and (silent := [process for process in by_run[run.run_id] if watch.is_silent(process)])
            and end_lost_run(instance, connection, run, silent)
        ]
    if ended:
        context.log.warning(f"ended as lost: {', '.join(ended)}")
    return watch, f"{len(found)} processes are at work, of {len(by_run)} runs; {len(ended)} runs were ended as lost"


def end_lost_run(instance: dg.DagsterInstance, connection: Connection, run: dg.DagsterRun, silent: Sequence[Process]) -> bool:
    """Ends a run of which processes are lost, and frees its places in the pool; says whether it did: life may have come meanwhile."""
    if not take_for_lost(connection, run.run_id, {process.id: process.beat_at for process in silent}):
        return False
    instance.report_run_failed(run, lost_message(silent))
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    end_all(connection, [run.run_id])
    return True


def lost_message(silent: Sequence[Process]) -> str:
    """Returns what the run's page and the alert say."""
    lost = " and ".join(f"process {process.pid} on {process.host!r}" for process in silent)
    seconds = max(process.lost_after for process in silent).total_seconds()
    return (
        f"The run is taken for dead: {lost} has shown no life for {seconds:.0f} seconds. The process or its machine ended, or hangs; "
        "what it committed stays, its places in the pool are free, and the next run continues with the first batch that was not committed."
    )
