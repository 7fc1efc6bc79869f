"""This module updates the rows of a batch all of which are expected to be older in the table, without a look at each beforehand.

Only a saving. An update locks no row that it leaves as it is, so that a batch that turns out to be known writes nothing. What was not
updated must be known, or outranked; where it is neither, as a new row, the transaction is rolled back, and the batch is merged.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import psycopg
from psycopg import sql

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection, is_about_a_record
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.direct_copy import check_table
from sequin_pipeline.write.merge import Merged, ShortWayRefused, Waiting, pin_plan
from sequin_pipeline.write.removals import STAGED
from sequin_pipeline.write.row_expressions import STORED, RowExpressions
from sequin_pipeline.write.staging import EncodedBatch, fill


class UpdateStatements(RowExpressions):
    """This value holds the statements for one batch layout, with the parameter `starts` as MergeStatements has it."""

    def update(self) -> sql.Composed:
        """Composes the update of rows that are older than staged, and its counts by window; leans on the unique index of the key."""
        return sql.SQL(
            "with updated as (update {table} t set {assignments} from (select s.* from {staging} s offset 0) s"
            " where {key_equal} and t.{tv} < s.{v} returning {is_deleted} as is_deleted, {window} as window_index)"
            " select window_index, count(*) filter (where not is_deleted), count(*) filter (where is_deleted) from updated group by 1"
        ).format(**self._names, assignments=self._assignments(STAGED), is_deleted=self._is_deleted(), window=self._window(STORED))

    def count_standing(self) -> sql.Composed:
        """Composes a count by window of the rows that the table holds now as staged, and of those that it holds newer."""
        # A trigger may have changed what was just written. An equal hash does not tell that from text in another encoding.
        is_ascii = self._is_ascii() if self.target.rechecks_text else sql.SQL("")
        known = sql.SQL("({}{})").format(self._is_known_by_hash(), is_ascii)
        return sql.SQL(
            "select {window}, count(*) filter (where t.is_equal), count(*) filter (where t.is_newer) from {staging} s"
            " left join lateral (select t.{tv} > s.{v} as is_newer, t.{tv} = s.{v} and ({same} or {known}) as is_equal"
            " from {table} t where {key_equal} offset 0) t on true group by 1"
        ).format(**self._names, window=self._window(STAGED), same=self._same(STAGED), known=known)


@dataclass(frozen=True)
class UpdateBatch:
    """This value is a batch that is ready for staging, all of whose rows are expected to be older in the table."""

    staged: EncodedBatch

    @property
    def target(self) -> Target:
        """This is its table."""
        return self.staged.target

    @property
    def batch(self) -> Batch:
        """These are its rows."""
        return self.staged.batch


def can_update(target: Target, batch: Batch) -> bool:
    """Tells whether a greater version alone decides that a row is written, whole, and nothing else is to be told of it."""
    return (
        len(batch) > 0
        and target.version is not None
        and not batch.has_bare_tombstones
        and not target.updates_in_place
        and not target.remembers
        and not target.observes_time
        and target.history is None
        and not target.children
    )


def update_rows(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    waiting: Waiting = nullcontext,
) -> Merged:
    """Copies a batch into staging and updates from it, inside the open transaction, deferred constraints included.

    Raises ShortWayRefused, else psycopg.Error; then the transaction must be rolled back.
    """
    windows = encoded.batch.windows
    is_one_window = windows.min() == windows.max()
    statements = UpdateStatements(encoded.target, encoded.staging, versions, has_windows=not is_one_window)
    parameters = {"starts": None if is_one_window else list(window_starts)}
    started = time.perf_counter()
    check_table(connection, encoded.target)
    try:
        with connection.cursor() as cursor:
            pin_plan(connection)
            fill(cursor, encoded)
            copied = time.perf_counter()
            with waiting():
                updated = fetch_rows(connection, _three, _update_statement(statements), parameters)
        counts = defaultdict(Counts, {window: Counts(updated=live, deleted=deleted) for window, live, deleted in updated})
        if sum(count.accounted for count in counts.values()) < len(encoded.batch):
            for window, equal, newer in fetch_rows(connection, _three, statements.count_standing(), parameters):
                counts[window] += Counts(unchanged=max(0, equal - counts[window].accounted), stale=newer)
        connection.execute("set constraints all immediate")
    except psycopg.Error as error:
        if is_about_a_record(error):
            raise ShortWayRefused(error) from error
        raise
    if sum(count.accounted for count in counts.values()) != len(encoded.batch):
        raise ShortWayRefused
    return Merged(
        {int(windows[0]) if is_one_window else window: count for window, count in counts.items()},
        copied_bytes=len(encoded.payload),
        seconds={"copy": copied - started, "merge": time.perf_counter() - copied},
    )


def _three(window: int, first: int, second: int) -> tuple[int, int, int]:
    return window, first, second


@cache
def _update_statement(statements: UpdateStatements) -> bytes:
    return with_parameters(statements.update()).as_bytes()
