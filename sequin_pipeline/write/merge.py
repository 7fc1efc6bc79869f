"""The merge: one batch into its table, in one statement that locks rows of the target.

For any order, repetition and overlap of merges, the table ends as the fold of what was delivered: for each key the greatest version,
among equal ones the last. Where versions are times of observation, a row that holds already what a newer one brings keeps its own.
Rows already known are not touched: no tuple, no row lock. The ledger is not written here.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime

import numpy as np
from psycopg import sql

from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.write.history import BatchHistory
from sequin_pipeline.write.merge_statements import MergeStatements, merge_statement
from sequin_pipeline.write.removals import lock_buckets
from sequin_pipeline.write.staging import Cursor, EncodedBatch, encode, fill

Waiting = Callable[[], AbstractContextManager[None]]
"""What is done while the server works by itself on a statement that takes long."""


@dataclass(frozen=True)
class MergeCounts:
    """What became of the staged rows of one window, and what that did to the table: `created` and `removed` are the rows it gained
    and lost, `rewritten` those whose content changed at a version that was stored already."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    stale: int = 0
    created: int = 0
    removed: int = 0
    rewritten: int = 0

    @property
    def staged(self) -> int:
        """Every staged row is counted once."""
        return self.inserted + self.updated + self.deleted + self.unchanged + self.stale

    def __add__(self, other: "MergeCounts") -> "MergeCounts":
        mine, theirs = asdict(self), asdict(other)
        return MergeCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Merged:
    """Counts by index of the window, bytes copied, seconds per stage."""

    counts: dict[int, MergeCounts]
    copied_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def write(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None = None,
    waiting: Waiting = nullcontext,
) -> Merged:
    """Copies and merges inside the open transaction, which must be read committed.

    `versions` is the ledger's table of removed rows; `history` None: nothing is logged. Raises psycopg.Error; then the
    transaction, or its savepoint, must be rolled back.
    """
    if len(encoded.batch) == 0:
        return Merged({})
    windows = encoded.batch.windows
    is_one_window = windows.min() == windows.max()
    if encoded.target.is_unmanaged and not is_one_window:
        return _write_by_window(connection, encoded, window_starts=window_starts, versions=versions, history=history)
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
        pin_plan(cursor)
        fill(cursor, encoded)
        copied = time.perf_counter()
        if encoded.target.locks_buckets:
            lock_buckets(cursor, encoded.target, encoded.batch)
        with waiting():
            cursor.execute(merge_statement(statements), parameters)
        tallies = {int(str(window)): (int(str(staged)), _counts(row)) for window, staged, *row in cursor.fetchall()}
        if any(staged != counts.staged for staged, counts in tallies.values()):
            if history is not None:
                cursor.execute(statements.log_outranked(), parameters)
            cursor.execute(statements.count_equal(), parameters)
            equal_now = {int(str(window)): int(str(equal)) for window, equal in cursor.fetchall()}
            tallies = {
                window: (staged, _settled(staged, counts, equal_now.get(window, 0)))
                for window, (staged, counts) in tallies.items()
            }
    merged = time.perf_counter()
    return Merged(
        {int(windows[0]) if is_one_window else window: counts for window, (_, counts) in tallies.items()},
        copied_bytes=len(encoded.payload),
        seconds={"copy": copied - started, "merge": merged - copied},
    )


def _write_by_window(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None,
) -> Merged:
    """One merge a window: what an unmanaged table gives back of a row does not tell its window."""
    if encoded.target.locks_buckets:
        with connection.cursor() as cursor:
            lock_buckets(cursor, encoded.target, encoded.batch)
    parts = []
    for window in np.unique(encoded.batch.windows):
        part = encode(encoded.target, encoded.batch.only(encoded.batch.windows == window))
        parts.append(write(connection, part, window_starts=window_starts, versions=versions, history=history))
        connection.execute(sql.SQL("truncate {}").format(part.staging.identifier))
    return Merged(
        {window: counts for part in parts for window, counts in part.counts.items()},
        copied_bytes=sum(part.copied_bytes for part in parts),
        seconds={stage: sum(part.seconds[stage] for part in parts) for stage in parts[0].seconds},
    )


def _counts(row: Iterable[object]) -> MergeCounts:
    return MergeCounts(*(int(str(value)) for value in row))


def _settled(staged: int, counts: MergeCounts, equal_now: int) -> MergeCounts:
    """Rows that a concurrent writer took between the snapshot and their lock came back from nowhere. The second look is exact, for
    this transaction now holds those rows: what stands there as staged is unchanged, the rest has been outranked."""
    applied = counts.inserted + counts.updated + counts.deleted
    unchanged = max(0, equal_now - applied)
    rewritten = min(counts.rewritten, counts.updated + counts.deleted)
    return MergeCounts(
        **{**asdict(counts), "unchanged": unchanged, "stale": staged - applied - unchanged, "rewritten": rewritten}
    )


def pin_plan(cursor: Cursor) -> None:
    """Until the transaction ends."""
    # Staging outside, the key's index inside, always. On a table that was analyzed while empty the planner's own choice is quadratic;
    # and what the pinned plan is said to cost would have every batch compiled for 200 ms where the server has JIT.
    # And without array_nulls, which a database may have off, a null in a text[] would become the word.
    cursor.execute(
        "select set_config(name, 'off', true) from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit']) name"
        " union all select set_config('array_nulls', 'on', true)"
    )
