"""This module cuts a range of windows into parts of about equal work, for runs beside each other.

A run reads from the newest recorded position before its first window, so that is where a cut costs least. How the work is spread over the
stream's time is told by a sample of the table's rows, or by the recorded positions where the table has no rows yet. Nothing is written.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.windows import SLACK, KeyRange, asked_window

SAMPLE_BLOCKS = 2_000
"""This many blocks of the table are looked at, 16 MB: a hundredth of the rows tells where they lie as well as all of them would."""

SEEKING = frozenset({"stripe", "rest"})
"""These sources are asked for a window by itself, so that a run may begin with any of them."""

READING_ALL = frozenset({"airbyte", "singer"})
"""These sources read everything, whatever the window is."""

HALVINGS = 40
"""The longest part is found to a share of the whole that is smaller than one record."""


@dataclass(frozen=True)
class Window:
    """This value is one window of the range.

    `starts_at` None: the first window, open to the left. `position_at` is the stream time of the position from which a run that begins
    with the window would read; None: from the earliest record.
    """

    key: str
    starts_at: datetime | None
    ends_at: datetime
    position_at: datetime | None = None


@dataclass(frozen=True)
class RangeCut:
    """This value is a range of windows in parts, each for one run; `note` says why they are fewer than were asked for."""

    parts: tuple[KeyRange, ...]
    note: str | None = None


def cut_range(
    connection: Connection, collection: Collection, keys: Sequence[str], most: int, *, schema: str = DEFAULT_SCHEMA
) -> RangeCut:
    """Cuts the windows of these keys, ascending, into at most so many parts; windows that are not adjacent never share one."""
    ledger = Ledger(str(collection.table), collection.label, schema)
    windows = [_window(collection, key) for key in keys]
    if collection.source.kind in SEEKING:
        windows = [replace(one, position_at=one.starts_at) for one in windows]
    else:
        windows = _with_positions(connection, ledger, windows)
    moments = sorted(
        {moment for one in windows for moment in (one.starts_at, one.ends_at, one.position_at) if moment is not None}
    )
    counts = _count_rows(connection, collection, moments) or _count_positions(connection, ledger, moments)
    parts = parts_of(windows, moments, counts, most)
    return RangeCut(parts, None if len(parts) >= most else _explain(collection, windows, len(parts), most))


def parts_of(windows: Sequence[Window], moments: Sequence[datetime], counts: Sequence[int], most: int) -> tuple[KeyRange, ...]:
    """Returns the parts of which the longest is as short as can be, as few as do that.

    `counts` say how much there is to read before the first of the `moments`, between each two, and after the last. Pure.
    """
    before = [0, *accumulate(counts)]
    blocks = list(_blocks_of(windows))

    def work(first: Window, last: Window) -> int:
        start = 0 if first.starts_at is None or first.position_at is None else before[bisect_left(moments, first.position_at) + 1]
        return before[bisect_left(moments, last.ends_at) + 1] - start

    def parts_within(limit: float) -> list[KeyRange]:
        parts, (first, last) = [], blocks[0]
        for start, end in blocks[1:]:
            if start.starts_at != last.ends_at or work(first, end) > limit:
                parts.append(KeyRange(first.key, last.key))
                first = start
            last = end
        return [*parts, KeyRange(first.key, last.key)]

    longest_block, whole = max(work(*block) for block in blocks), work(windows[0], windows[-1])
    fewest = len(found := parts_within(whole))
    too_little, enough = longest_block - 1.0, float(whole)
    for _ in range(HALVINGS):
        limit = (enough + too_little) / 2
        parts = parts_within(limit)
        if limit < longest_block or len(parts) > max(most, fewest):
            too_little = limit
        else:
            enough, found = limit, parts
    return tuple(found)


def _blocks_of(windows: Sequence[Window]) -> Iterator[tuple[Window, Window]]:
    """Yields the first and the last of adjacent windows that have the same position.

    A cut between them would make both runs read what lies behind it.
    """
    first = last = windows[0]
    for one in windows[1:]:
        if one.starts_at != last.ends_at or one.position_at != first.position_at:
            yield first, last
            first = one
        last = one
    yield first, last


def _window(collection: Collection, key: str) -> Window:
    bounds = asked_window(collection.windows, KeyRange(key, key))
    return Window(key, bounds.start, bounds.end)


def _with_positions(connection: Connection, ledger: Ledger, windows: Sequence[Window]) -> list[Window]:
    """Returns the windows with the positions that runs would start from, as `Ledger.position_before` finds them."""
    starts = [one.starts_at - SLACK for one in windows if one.starts_at is not None]
    found = fetch_rows(
        connection,
        lambda moment, position_at: (moment, position_at),
        sql.SQL(
            "select start, (select max(stream_time) from {positions} where table_name = %s and stream_time <= start)"
            " from unnest(%s::timestamptz[]) start"
        ).format(positions=ledger.table("positions")),
        (ledger.table_name, starts),
    )
    positions = dict(found)
    return [one if one.starts_at is None else replace(one, position_at=positions[one.starts_at - SLACK]) for one in windows]


def _count_rows(connection: Connection, collection: Collection, moments: Sequence[datetime]) -> list[int] | None:
    """Counts a sample of the table's rows between the moments; None where the table has none, or does not tell their times."""
    target = collection_target(collection)
    column = target.column("record_inserted_at")
    table = sql.Identifier(target.table.schema, target.table.name)
    blocks = fetch_value(
        connection,
        # A partitioned table has its rows in others; a view has no blocks, and is not sampled.
        "select (pg_relation_size(c.oid) + case when c.relkind = 'p'"
        " then (select sum(pg_relation_size(p.relid)) from pg_partition_tree(c.oid) p) else 0 end) / current_setting('block_size')::int"
        " from (select 1) one left join pg_class c on c.oid = to_regclass(%s) and c.relkind in ('r', 'p')",
        (table.as_string(connection),),
    )
    if not blocks or column.scope != "table" or column.cast is not None:
        return None
    percent = min(100.0, 100.0 * SAMPLE_BLOCKS / float(blocks))
    statement = sql.SQL("select {time} as at from {table} tablesample system (%s) where {time} is not null").format(
        time=sql.Identifier(column.table_name), table=table
    )
    return _count_between(connection, statement, (percent,), moments)


def _count_positions(connection: Connection, ledger: Ledger, moments: Sequence[datetime]) -> list[int]:
    statement = sql.SQL("select stream_time as at from {positions} where table_name = %s").format(
        positions=ledger.table("positions")
    )
    return _count_between(connection, statement, (ledger.table_name,), moments) or [0] * (len(moments) + 1)


def _count_between(
    connection: Connection, statement: sql.Composable, parameters: tuple[object, ...], moments: Sequence[datetime]
) -> list[int] | None:
    found = dict(
        fetch_rows(
            connection,
            lambda place, count: (place, count),
            sql.SQL("select width_bucket(at, %s::timestamptz[]), count(*) from ({}) times group by 1").format(statement),
            (list(moments), *parameters),
        )
    )
    return [found.get(place, 0) for place in range(len(moments) + 1)] if found else None


def _explain(collection: Collection, windows: Sequence[Window], parts: int, most: int) -> str:
    told = f"{collection.label}: {parts} {'run' if parts == 1 else 'runs'} instead of {most}"
    if parts == len(windows):
        return f"{told}, since there are {len(windows)} windows to be read and a window is read by one run"
    if collection.source.kind in READING_ALL:
        return f"{told}, since source {collection.source.kind!r} reads everything, whatever the windows are"
    missing = [one.key for one in windows if one.starts_at is not None and one.position_at is None]
    if missing:
        which = missing[0] if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
        return (
            f"{told}: the ledger has recorded no position before windows {which}, so that a run which begins there would read the "
            "stream from its earliest record; live runs record positions as they read, and so does each backfill"
        )
    return f"{told}: more would not end sooner, since most of the records lie in few windows, or no position is recorded near the others"
