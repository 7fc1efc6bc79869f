"""This module tells somebody who looks what the ledger knows: what a run did, and how every table stands."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from sequin_pipeline.ledger.counts import COUNT_NAMES, Counts
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class RunSummary:
    """This value says what a run did to one table.

    `rows` are those it has now, None when the run did not come that far. `filled` are rows whose new or changed columns were
    filled.
    """

    counts: Counts
    rows: int | None
    seconds: float
    filled: int = 0


@dataclass(frozen=True)
class TableStatus:
    """This value says how a table stands: `stream_time` is the greatest `inserted_at` before the live cursor."""

    label: str
    rows: int
    source: str
    cursor: str | None
    stream_time: datetime | None
    last_merge_at: datetime | None
    open_rejects: int


@dataclass(frozen=True)
class LiveRuns:
    """This value says when a collection's last live run came to its end, and the id of one that shows life.

    `asked_at` is when a tick last found that there has been nothing new since. Each is None where there is none.
    """

    ended_at: datetime | None = None
    at_work: str | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True)
class CompletedRun:
    """This value is a live run of a collection that read to the end of the stream: all that was in it when the run started."""

    run_id: str
    started_at: datetime


def completed_runs(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> dict[str, CompletedRun]:
    """Returns by label the live run that ended last, where one has. Leans on runs (label, ended_at)."""
    return dict(
        fetch_rows(
            connection,
            lambda label, *columns: (label, CompletedRun(*columns)),
            sql.SQL(
                "select l.label, r.run_id, r.started_at from (select distinct label from {schema}.tables) l"
                " cross join lateral (select r.run_id, r.started_at from {schema}.runs r where r.label = l.label"
                " and r.mode = 'live' and r.ended_at is not null order by r.ended_at desc limit 1) r"
            ).format(schema=sql.Identifier(schema)),
        )
    )


def live_runs(connection: Connection, within: timedelta, *, schema: str = DEFAULT_SCHEMA) -> dict[str, LiveRuns]:
    """Returns the live runs by label, of every table that the ledger knows.

    Life shown `within` that time counts. Leans on runs (label, ended_at) and runs (heartbeat_at).
    """
    return dict(
        fetch_rows(
            connection,
            lambda label, *columns: (label, LiveRuns(*columns)),
            sql.SQL(
                "select t.label, l.ended_at,"
                " coalesce((select r.run_id from {schema}.runs r where r.label = t.label and r.mode = 'live' and r.ended_at is null"
                " and r.heartbeat_at > now() - %(within)s order by r.heartbeat_at desc limit 1),"
                # A shard of a first load, of which the last one ends as a live run.
                " (select r.run_id from {schema}.runs r where r.heartbeat_at > now() - %(within)s and r.label = t.label"
                " and r.mode = 'load' and r.ended_at is null order by r.heartbeat_at desc limit 1)), l.asked_at"
                " from {schema}.tables t left join lateral (select r.ended_at, r.asked_at from {schema}.runs r where r.label = t.label"
                " and r.mode = 'live' and r.ended_at is not null order by r.ended_at desc limit 1) l on true"
            ).format(schema=sql.Identifier(schema)),
            {"within": within},
        )
    )


def run_summaries(connection: Connection, run_id: str, *, schema: str = DEFAULT_SCHEMA) -> dict[str, RunSummary]:
    """Returns the summaries by label, for every table that the run reached the end of, or wrote to.

    What the run tried again of its own rejects has been fetched and counted as rejected before.
    """
    summed = {name: sql.SQL("m.{}").format(sql.Identifier(name)) for name in COUNT_NAMES}
    summed["fetched"] = sql.SQL("case when m.mode <> 'again' then m.fetched end").format()
    summed["rejected"] = sql.SQL("m.rejected - case when m.mode = 'again' then m.fetched else 0 end").format()
    sums = sql.SQL(", ").join(sql.SQL("coalesce(sum({}), 0)::bigint").format(summed[name]) for name in COUNT_NAMES)
    return dict(
        fetch_rows(
            connection,
            lambda label, rows, seconds, filled, *counts: (label, RunSummary(Counts(*counts), rows, seconds, filled)),
            sql.SQL(
                "select t.label, t.row_count, coalesce(extract(epoch from max(r.ended_at) - min(r.started_at)), 0)::float8,"
                " (select coalesce(sum(f.rewritten), 0)::bigint from {schema}.merges f"
                " where f.table_name = t.table_name and f.run_id = %(run)s and f.mode = 'refill'), {sums}"
                " from {schema}.tables t left join {schema}.runs r on r.table_name = t.table_name and r.run_id = %(run)s"
                " left join {schema}.merges m on m.table_name = t.table_name and m.run_id = %(run)s and m.mode not in ('refill', 'replay')"
                " where r.run_id is not null or m.run_id is not null group by t.table_name, t.label, t.row_count"
            ).format(sums=sums, schema=sql.Identifier(schema)),
            {"run": run_id},
        )
    )


def table_statuses(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> dict[str, TableStatus]:
    """Returns by `schema.table` how every table stands that the ledger knows."""
    return dict(
        fetch_rows(
            connection,
            lambda name, *columns: (name, TableStatus(*columns)),
            sql.SQL(
                "select t.table_name, t.label, t.row_count, concat_ws(' ', t.source_kind, t.base_url, nullif(t.stream, '')),"
                " c.cursor, c.stream_time, (select max(m.committed_at) from {schema}.merges m where m.table_name = t.table_name),"
                " (select count(*) from {schema}.rejects r where r.table_name = t.table_name and r.resolved_at is null)"
                " from {schema}.tables t left join lateral (select cursor, stream_time from {schema}.cursors c"
                " where c.table_name = t.table_name and c.shard = 0 order by c.seq limit 1) c on true order by t.label"
            ).format(schema=sql.Identifier(schema)),
        )
    )


def cursor_times(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> dict[str, datetime | None]:
    """Returns by label (`provider/name`) the stream time of the live cursor, of those that have one.

    Where a collection has moved to another table, that of the newest: the cursor of the old one stands still for ever.
    """
    return dict(
        fetch_rows(
            connection,
            lambda label, stream_time: (label, stream_time),
            sql.SQL(
                "select distinct on (t.label) t.label,"
                " (select min(c.stream_time) from {schema}.cursors c where c.table_name = t.table_name and c.shard = 0)"
                " from {schema}.tables t"
                " where exists (select from {schema}.cursors c where c.table_name = t.table_name and c.shard = 0)"
                " order by t.label, t.created_at desc"
            ).format(schema=sql.Identifier(schema)),
        )
    )
