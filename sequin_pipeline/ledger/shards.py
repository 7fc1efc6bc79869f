"""This module keeps what a first load that is divided has come to: which syncs each shard reads, and which shards are complete.

How far a shard has come is its cursor, which ledger.py moves in the transaction of each batch. When the last shard is complete, the live
cursor takes the place of all: from there on the collection is read as ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection, limit_lock_waits
from sequin_pipeline.windows import SLACK

DIVIDING_SECONDS = 600
"""A source that is asked again and again may need minutes."""


@dataclass(frozen=True)
class Shard:
    """This value is one shard of a first load: the number, counted from 1, and the syncs that it reads, in order."""

    number: int
    syncs: tuple[str, ...]
    began_at: datetime
    is_complete: bool = False


def find_shards(connection: Connection, ledger: Ledger) -> list[Shard]:
    """Returns the shards of the first load under way, in order; none where there is no such load."""
    return fetch_rows(
        connection,
        lambda number, syncs, began_at, is_complete: Shard(number, tuple(syncs), began_at, is_complete),
        sql.SQL("select shard, syncs, began_at, completed_at is not null from {} where table_name = %s order by shard").format(
            ledger.table("shards")
        ),
        (ledger.table_name,),
    )


def hold_division(connection: Connection, ledger: Ledger) -> None:
    """Waits while another run asks the source what to divide this first load by, until the open transaction ends."""
    limit_lock_waits(connection, DIVIDING_SECONDS)
    connection.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"sequin_pipeline.shards {ledger.schema} {ledger.table_name}",)
    )


def begin_load(connection: Connection, ledger: Ledger, syncs: Sequence[str], *, most: int, began_at: datetime) -> list[Shard]:
    """Divides the syncs among at most so many shards, unless another run has done so; returns the shards.

    Every sync was listed after `began_at`, by the source's clock.
    """
    with connection.transaction():
        _lock(connection, ledger)
        found = find_shards(connection, ledger)
        if found or ledger.live_cursors(connection):
            return found
        ordered = sorted(syncs)
        shards = [Shard(number, tuple(ordered[number - 1 :: most]), began_at) for number in range(1, min(most, len(ordered)) + 1)]
        with connection.cursor() as cursor:
            cursor.executemany(
                sql.SQL("insert into {} (table_name, shard, syncs, began_at) values (%s, %s, %s, %s)").format(
                    ledger.table("shards")
                ),
                [(ledger.table_name, one.number, list(one.syncs), began_at) for one in shards],
            )
        return shards


def complete_shard(connection: Connection, ledger: Ledger, shard: Shard, *, run_id: str) -> list[int] | None:
    """Marks a shard as read to its end; returns the numbers of those that are not. Where there are none, the live cursor is set.

    Returns None, having done nothing, where the load has been forgotten meanwhile, for a full refresh.

    It stands at a position that the shards passed before which nothing entered the stream after the load began, less SLACK for the
    source's clocks: every sync that had a record there has been read since, to its end. What came later stands behind it, whichever sync
    it is of.
    """
    with connection.transaction():
        _lock(connection, ledger)
        names = {"shards": ledger.table("shards"), "cursors": ledger.table("cursors")}
        connection.execute(
            sql.SQL("update {shards} set completed_at = now() where table_name = %s and shard = %s").format(**names),
            (ledger.table_name, shard.number),
        )
        shards = find_shards(connection, ledger)
        left = [one.number for one in shards if not one.is_complete]
        if left or not shards:
            return left or None
        stream_time, cursor = ledger.position_before(connection, shard.began_at - SLACK) or (None, None)
        connection.execute(
            sql.SQL("delete from {cursors} where table_name = %s and shard > 0").format(**names), (ledger.table_name,)
        )
        connection.execute(sql.SQL("delete from {shards} where table_name = %s").format(**names), (ledger.table_name,))
        # One that is there already, of a run that read everything as one stream, stays.
        ledger.move_cursor(connection, None, cursor=cursor, stream_time=stream_time, run_id=run_id)
        return []


def shards_left(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> Mapping[str, tuple[int, ...]]:
    """Returns by label the shards that are left of each first load under way."""
    return dict(
        fetch_rows(
            connection,
            lambda label, numbers: (label, tuple(numbers)),
            sql.SQL(
                "select t.label, array_agg(s.shard order by s.shard) from {schema}.shards s join {schema}.tables t using (table_name)"
                " where s.completed_at is null group by t.label"
            ).format(schema=sql.Identifier(schema)),
        )
    )


def which_are(numbers: Sequence[int]) -> str:
    """Returns the numbers of shards as the subject of a sentence, with its verb: `number 2 is`, or `numbers 2, 3 are`."""
    return f"number {numbers[0]} is" if len(numbers) == 1 else f"numbers {', '.join(map(str, numbers))} are"


def _lock(connection: Connection, ledger: Ledger) -> None:
    connection.execute(
        sql.SQL("select from {} where table_name = %s for update").format(ledger.table("tables")), (ledger.table_name,)
    )
