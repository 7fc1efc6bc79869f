"""This module keeps what ticks need that launch nothing where nothing is new.

It says what the ledger knows that speaks for a run, or against it, and remembers that a source had nothing new: with the last live run that
came to its end, which is left as it is otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import WAITING
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class LedgerWork:
    """This value says what a live run would find to do in the ledger, whatever its source has.

    `last_run` is the live run of the table that ended last, None where none has; `is_old`: it began longer ago than was asked.
    `is_unfinished`: a later one has not come to its end.
    """

    last_run: str | None
    is_old: bool
    is_unfinished: bool
    has_held_deletes: bool
    has_census: bool
    has_rejects_to_retry: bool
    has_unfilled_columns: bool


def find_work(connection: Connection, ledger: Ledger, *, oldest: timedelta, resting_seconds: float) -> LedgerWork:
    """Reads what there is to do, by one statement; rejects wait that were last tried `resting_seconds` ago.

    Leans on runs (label, ended_at), and on rejects (table_name) where resolved_at is null.
    """
    names = {name: ledger.table(name) for name in ("runs", "held_deletes", "census", "rejects", "columns")}
    found = fetch_row(
        connection,
        LedgerWork,
        sql.SQL(
            "select l.run_id, coalesce(l.started_at < now() - %(oldest)s, false), exists (select from {runs} r where r.label = %(label)s"
            " and r.table_name = %(table)s and r.mode = 'live' and r.ended_at is null and r.started_at > l.started_at),"
            " exists (select from {held_deletes} where table_name = %(table)s),"
            " exists (select from {census} where table_name = %(table)s),"
            " exists (select from {rejects} where table_name = %(table)s and resolved_at is null and class = any(%(waiting)s)"
            " and last_seen_at <= now() - %(resting)s * interval '1 second'),"
            " exists (select from {columns} where table_name = %(table)s and refilled_at is null)"
            " from (values (1)) one left join lateral (select r.run_id, r.started_at from {runs} r where r.label = %(label)s"
            " and r.table_name = %(table)s and r.mode = 'live' and r.ended_at is not null order by r.ended_at desc limit 1) l on true"
        ).format(**names),
        {
            "label": ledger.label,
            "table": ledger.table_name,
            "oldest": oldest,
            "waiting": [*WAITING],
            "resting": resting_seconds,
        },
    )
    assert found is not None  # noqa: S101 - one row of values
    return found


@dataclass(frozen=True)
class NothingNew:
    """This value says of a table that its source had nothing new behind `cursor`, after the live run that ended last."""

    table_name: str
    last_run: str
    cursor: str | None


def remember_nothing_new(connection: Connection, asked: Iterable[NothingNew], *, schema: str = DEFAULT_SCHEMA) -> frozenset[str]:
    """Remembers that these tables' sources have nothing new; returns the tables for which that is still so.

    It is not where a run has moved the live cursor meanwhile, or has forgotten it. One statement: all or none.
    """
    rows = sorted(asked, key=lambda one: one.table_name)
    return frozenset(
        fetch_rows(
            connection,
            lambda table_name: table_name,
            sql.SQL(
                "update {schema}.runs r set asked_at = now() from unnest(%s::text[], %s::text[], %s::text[]) a (table_name, run_id, cursor)"
                " where r.run_id = a.run_id and r.table_name = a.table_name and r.ended_at is not null"
                " and (select c.cursor from {schema}.cursors c where c.table_name = a.table_name and c.shard = 0 order by c.seq limit 1)"
                " is not distinct from a.cursor returning r.table_name"
            ).format(schema=sql.Identifier(schema)),
            ([one.table_name for one in rows], [one.last_run for one in rows], [one.cursor for one in rows]),
        )
    )
