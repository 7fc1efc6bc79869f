"""This module knows the processes that are at work on runs, and when each last showed life, by the clock of Postgres alone.

A process that ends takes its row away, however its work came out: a row that stays and stands still is that of a process that died, or
hangs. Who decides that one is lost is the sensor in orchestration/lost_runs.py; what a process does that was taken for lost is in
runs/life.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString
from uuid import UUID

from psycopg import sql

from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class Process:
    """This value is one process at work on a run; by its own word it may be taken for lost after `lost_after` without life."""

    id: UUID
    run_id: str
    host: str
    pid: int
    beat_at: datetime
    lost_after: timedelta
    is_lost: bool


def enter(
    connection: Connection,
    process_id: UUID,
    run_id: str,
    *,
    host: str,
    pid: int,
    lost_after: timedelta,
    schema: str = DEFAULT_SCHEMA,
) -> None:
    """Writes down that a process is at work on the run."""
    connection.execute(
        _composed("insert into {processes} (process_id, run_id, host, pid, lost_after) values (%s, %s, %s, %s, %s)", schema),
        (process_id, run_id, host, pid, lost_after),
    )


def beat(connection: Connection, process_id: UUID, *, schema: str = DEFAULT_SCHEMA) -> bool:
    """Shows life; returns False where the process has been taken for lost, so that its run goes on without it."""
    statement = "update {processes} set beat_at = clock_timestamp() where process_id = %s and lost_at is null returning true"
    return bool(fetch_value(connection, _composed(statement, schema), (process_id,)))


def leave(connection: Connection, process_id: UUID, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Takes the row of a process away that has ended its work."""
    connection.execute(_composed("delete from {processes} where process_id = %s", schema), (process_id,))


def processes(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> tuple[datetime, Sequence[Process]]:
    """Returns what time it is in Postgres, and every process that is at work or died there: a few rows."""
    found = fetch_rows(
        connection,
        Process,
        _composed(
            "select process_id, run_id, host, pid, beat_at, lost_after, lost_at is not null from {processes} order by beat_at",
            schema,
        ),
    )
    now = fetch_value(connection, sql.SQL("select clock_timestamp()"))
    assert isinstance(now, datetime)  # noqa: S101 - for the type checker: Postgres' own function
    return now, found


def take_for_lost(connection: Connection, run_id: str, silent: Mapping[UUID, datetime], *, schema: str = DEFAULT_SCHEMA) -> bool:
    """Takes all processes of a run for lost, if those of `silent` have shown no life since the times given; says whether it did."""
    return bool(
        fetch_value(
            connection,
            _composed(
                "with marked as (update {processes} set lost_at = coalesce(lost_at, clock_timestamp()) where run_id = %(run)s"
                " and exists (select from {processes} p join unnest(%(ids)s::uuid[], %(beats)s::timestamptz[]) s (id, beat_at)"
                " on p.process_id = s.id and p.beat_at = s.beat_at) returning true) select exists (select from marked)",
                schema,
            ),
            {"run": run_id, "ids": list(silent), "beats": list(silent.values())},
        )
    )


def end_all(connection: Connection, run_ids: Iterable[str], *, schema: str = DEFAULT_SCHEMA) -> None:
    """Tells the processes of runs that have ended to stop, and forgets those that were told so before and did not answer."""
    connection.execute(
        _composed(
            "with dead as (delete from {processes} where run_id = any(%(runs)s) and lost_at < clock_timestamp() - lost_after)"
            " update {processes} set lost_at = clock_timestamp() where run_id = any(%(runs)s) and lost_at is null",
            schema,
        ),
        {"runs": list(run_ids)},
    )


def _composed(statement: LiteralString, schema: str) -> sql.Composed:
    return sql.SQL(statement).format(processes=sql.Identifier(schema, "processes"))
