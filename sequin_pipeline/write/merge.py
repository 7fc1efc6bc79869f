"""This module merges one batch into its table, in one statement that locks rows of the target.

For any order, repetition and overlap of merges, the table ends as the fold of what was delivered: for each key the greatest version,
among equal ones the last. Where versions are times of observation, a row that holds already what a newer one brings keeps its own.
Rows already known are not touched: no tuple, no row lock. Of the ledger, the statement writes versions and history, and nothing else.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
import psycopg
from psycopg import sql

from sequin_pipeline.ledger.counts import ChildCounts, Counts
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection, is_about_a_record, session_limits
from sequin_pipeline.write.child_rows import added, prepare_parents, write_children
from sequin_pipeline.write.history import BatchHistory
from sequin_pipeline.write.merge_statements import MergeStatements, merge_statement
from sequin_pipeline.write.refusal import RowsRefused as RowsRefused
from sequin_pipeline.write.removals import lock_buckets
from sequin_pipeline.write.staging import EncodedBatch, empty, encode, fill
from sequin_pipeline.write.tally import Tally

Waiting = Callable[[], AbstractContextManager[None]]
"""This is done while the server works by itself on a statement that takes long."""


class ShortWayRefused(Exception):
    """The batch could not be written without being merged; the transaction must be rolled back, and the batch merged.

    `error` None: Postgres said nothing. The table is one where only the merge will do, or has not taken every row.
    """

    def __init__(self, error: psycopg.Error | None = None) -> None:
        super().__init__(str(error or "the batch has to be merged"))
        self.error = error


@dataclass(frozen=True)
class Merged:
    """This value says what became of the staged rows, by index of the window.

    `fetched` is left to whoever knows what was not staged. The value also has the bytes copied, the seconds of each stage, and what became
    of the rows of child tables, by their table's name.
    """

    counts: dict[int, Counts]
    copied_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    children: dict[str, ChildCounts] = field(default_factory=dict)


def merge_rows(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None = None,
    waiting: Waiting = nullcontext,
) -> Merged:
    """Copies and merges a batch inside the open transaction, which must be read committed, deferred constraints included.

    `versions` is the ledger's table of removed rows; `history` None: nothing is logged. Raises RowsRefused where a row is at fault,
    else psycopg.Error; then the transaction, or its savepoint, must be rolled back.
    """
    try:
        merged = _merge(connection, encoded, window_starts=window_starts, versions=versions, history=history, waiting=waiting)
        connection.execute("set constraints all immediate")
    except psycopg.Error as error:
        if is_about_a_record(error):
            raise RowsRefused(error) from error
        raise
    return merged


def merge_in_parts(
    connection: Connection,
    encoded: EncodedBatch,
    parts: Sequence[Sequence[int]],
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None = None,
) -> Merged:
    """Does what `merge_rows` does with these rows of the batch, one part after the other, in one transaction.

    For rows that pass in this order only, as one that takes a unique value behind the one that lets it go.
    """
    return _merge_each(
        connection,
        encoded,
        parts,
        partial(merge_rows, connection, window_starts=window_starts, versions=versions, history=history),
    )


def _merge_each(
    connection: Connection, encoded: EncodedBatch, parts: Iterable[Sequence[int]], merge: Callable[[EncodedBatch], Merged]
) -> Merged:
    if encoded.target.locks_buckets:
        # All of them, and so in order, before the first part.
        with connection.cursor() as cursor:
            lock_buckets(cursor, encoded.target, encoded.batch)
    counts, seconds, children = dict[int, Counts](), defaultdict[str, float](float), dict[str, ChildCounts]()
    copied_bytes = 0
    for rows in parts:
        part = encode(encoded.target, encoded.batch.part(rows))
        merged = merge(part)
        empty(connection, part)
        for window, told in merged.counts.items():
            counts[window] = counts.get(window, Counts()) + told
        for stage, spent in merged.seconds.items():
            seconds[stage] += spent
        copied_bytes += merged.copied_bytes
        children = added(children, merged.children)
    return Merged(counts, copied_bytes=copied_bytes, seconds=dict(seconds), children=children)


def _merge(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None,
    waiting: Waiting = nullcontext,
) -> Merged:
    if len(encoded.batch) == 0:
        return Merged({})
    windows = encoded.batch.windows
    is_one_window = windows.min() == windows.max()
    if encoded.target.is_unmanaged and not is_one_window:
        return _merge_by_window(connection, encoded, window_starts=window_starts, versions=versions, history=history)
    statements = MergeStatements(
        target=encoded.target,
        staging=encoded.staging,
        versions=versions,
        has_windows=not is_one_window,
        has_bare_tombstones=encoded.batch.has_bare_tombstones,
        history=history.table if history else None,
    )
    parameters: dict[str, object] = {"starts": None if is_one_window else list(window_starts), "table": str(encoded.target.table)}
    if history is not None:
        parameters |= history.parameters()
    started = time.perf_counter()
    with connection.cursor() as cursor:
        pin_plan(connection)
        fill(cursor, encoded)
        copied = time.perf_counter()
        if encoded.target.locks_buckets:
            lock_buckets(cursor, encoded.target, encoded.batch)
        if encoded.target.children:
            # Rows are locked behind the buckets, as the merge does.
            prepare_parents(cursor, encoded)
        with waiting():
            tallies = fetch_rows(connection, Tally, merge_statement(statements), parameters)
        if not all(tally.is_settled for tally in tallies):
            left_out = fetch_value(connection, statements.find_left_out(), parameters)
            if left_out is not None:
                raise RowsRefused(None, standing=left_out)
            if history is not None:
                cursor.execute(statements.log_outranked(), parameters)
            equal_now = dict(fetch_rows(connection, _pair, statements.count_equal(), parameters))
            tallies = [tally.settled(equal_now.get(tally.window, 0)) for tally in tallies]
        children = write_children(connection, encoded, tallies, versions=versions) if encoded.target.children else {}
    merged = time.perf_counter()
    return Merged(
        {int(windows[0]) if is_one_window else tally.window: tally.counts() for tally in tallies},
        copied_bytes=encoded.copied_bytes,
        seconds={"copy": copied - started, "merge": merged - copied},
        children=children,
    )


def _pair(window: int, equal: int) -> tuple[int, int]:
    return window, equal


def _merge_by_window(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None,
) -> Merged:
    """Merges once for each window: what an unmanaged table gives back of a row does not tell its window."""
    windows = encoded.batch.windows
    parts = [np.flatnonzero(windows == window).tolist() for window in np.unique(windows)]
    return _merge_each(
        connection,
        encoded,
        parts,
        partial(_merge, connection, window_starts=window_starts, versions=versions, history=history),
    )


def pin_plan(connection: Connection) -> None:
    """Pins the plan until the transaction ends."""
    # Staging outside, the key's index inside, always. On a table that was analyzed while empty the planner's own choice is quadratic;
    # and what the pinned plan is said to cost would have every batch compiled for 200 ms where the server has JIT.
    # And without array_nulls, which a database may have off, a null in a text[] would become the word.
    connection.execute(
        "select set_config(name, 'off', true) from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit']) name"
        " union all select set_config('array_nulls', 'on', true)"
        " union all select set_config(name, '0', true) from unnest(%s::text[]) name",
        (session_limits(connection),),
    )
