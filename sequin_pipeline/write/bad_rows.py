"""This module finds the rows that Postgres refuses.

They are told from other errors, and found by dividing the real merge in savepoints. All of the search is rolled back. A row that
only this table refuses (a CHECK, a foreign key, a trigger, a limit) shows no other way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import psycopg
import pyarrow as pa
from psycopg import sql

from sequin_pipeline.ledger.rejects import CONFLICT, PARENT
from sequin_pipeline.normalize.normalizer import NormalizedPages, Reject
from sequin_pipeline.postgres.warehouse import Connection, limit_lock_waits
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import OBJECT_VERSION, Batch, Place, object_names
from sequin_pipeline.write.merge import RowsRefused, merge_rows

PARTS = 8
"""A refused part is divided into this many.

Halving finds one row among 5,000 with 25 merges instead of 33, but needs two for each where all are refused.
"""

MAX_RETRIES = 5_000
"""One search tries at most this many again, for some ten seconds.

Rows that still wait are rejects, which the end of the run tries again.
"""

WAITING_CLASSES = {"23503": PARENT, "23505": CONFLICT, "23P01": CONFLICT}
"""These are, by SQLSTATE, the classes of rejects whose row passes once another one has come, or has let a value go."""

EXCHANGED = (
    "; it is tried again at the end of this run and of later ones, since the row that holds the value may let it go. "
    "Rows that exchange their values need a deferrable constraint"
)

LEFT_OUT = "a trigger, rule or policy of the table left the row out: Postgres reported no error and wrote nothing"


@dataclass(frozen=True)
class SearchResult:
    """This value holds the refused rows by their origin in the pages, and the others as parts that pass one after the other."""

    refused: Mapping[Place, Reject]
    passed: tuple[Sequence[int], ...]


def find_refused(
    connection: Connection,
    *,
    target: Target,
    batch: Batch,
    pages: Sequence[NormalizedPages],
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    lock_timeout_seconds: float,
    trying: Callable[[Connection, Target, Batch], None] | None = None,
) -> SearchResult:
    """Searches the batch; of what passes now, nothing is refused. Raises psycopg.Error.

    `trying` writes some rows in a savepoint, and raises RowsRefused; None: they are merged.
    """
    search = _Search(connection, target, batch, pages, window_starts, versions, trying)
    with connection.transaction(force_rollback=True):
        limit_lock_waits(connection, lock_timeout_seconds)
        if trying is None:
            search.prepare()
        search.divide(range(len(batch)))
        search.retry_waiting()
        if not search.found:
            # Else what they wait for may come with the older version of a row that was refused.
            search.note_waiting()
    return SearchResult(search.found, tuple(search.passed))


@dataclass
class _Search:
    connection: Connection
    target: Target
    batch: Batch
    pages: Sequence[NormalizedPages]
    window_starts: Sequence[datetime]
    versions: sql.Identifier
    trying: Callable[[Connection, Target, Batch], None] | None = None
    found: dict[Place, Reject] = field(default_factory=dict)
    passed: list[Sequence[int]] = field(default_factory=list)
    waiting: dict[int, RowsRefused] = field(default_factory=dict)
    tried: int = 0

    def prepare(self) -> None:
        """Makes the staging table once for all parts: what a refused part makes is taken back with it."""
        with self.connection.cursor() as cursor:
            staging.create_all(cursor, staging.encode(self.target, self.batch.part(range(1))))

    def divide(self, rows: Sequence[int]) -> None:
        """Divides the rows until those that are refused are found.

        Parts that pass stay merged for the time being, so that two rows which only together violate something are told apart.
        """
        if not rows:
            return
        refusal = self._refusal(rows)
        if refusal is None:
            return
        if len(rows) == 1:
            if refusal.waits_for_another:
                self.waiting[rows[0]] = refusal
            else:
                self._note(self.batch.part(rows), refusal)
            return
        # A value that each row takes from the next one passes from the end.
        if refusal.is_conflict and self._refusal(rows[::-1]) is None:
            return
        step = -(-len(rows) // PARTS)
        for start in range(0, len(rows), step):
            self.divide(rows[start : start + step])

    def retry_waiting(self) -> None:
        """Tries rows again that another row of the batch stood in the way of, as long as some of them pass."""
        self.tried, order = 0, 1
        while self.waiting and self.tried < MAX_RETRIES:
            rows = sorted(self.waiting)[::order]
            self.waiting = {}
            self.divide(rows)
            if len(self.waiting) == len(rows):
                return
            order = -order

    def note_waiting(self) -> None:
        for row, refusal in sorted(self.waiting.items()):
            self._note(self.batch.part([row]), refusal)

    def _refusal(self, rows: Sequence[int]) -> RowsRefused | None:
        self.tried += 1
        try:
            self._try(self.batch.part(rows))
        except RowsRefused as refusal:
            return refusal
        self.passed.append(rows)
        return None

    def _try(self, part: Batch) -> None:
        if self.trying is not None:
            self.trying(self.connection, self.target, part)
            return
        with self.connection.transaction():
            encoded = staging.encode(self.target, part)
            merge_rows(self.connection, encoded, window_starts=self.window_starts, versions=self.versions)
            staging.empty(self.connection, encoded)

    def _note(self, row: Batch, refusal: RowsRefused) -> None:
        place = self._place_at_fault(row)
        error = refusal.error
        self.found[place] = Reject(
            record_id=str(row.column(self.target.record_id)[0]),
            raw=self.pages[place.page].raw_record(place.position),
            reason=LEFT_OUT if error is None else _reason(error),
            reject_class=_left_out_class(self.target, refusal.standing) if error is None else _refused_class(error),
            sqlstate=None if error is None else error.sqlstate,
        )

    def _place_at_fault(self, row: Batch) -> Place:
        """Returns the place that is at fault.

        A bare tombstone that passes without the object it carries is not at fault: the version the object came from is.
        """
        origin = row.object_place(0)
        if origin is None:
            return row.place(0)
        try:
            self._try(without_objects(self.target, row))
        except RowsRefused:
            return row.place(0)
        return origin


def _reason(error: psycopg.Error) -> str:
    said = error.diag.message_primary or str(error)
    # Of a CHECK or a missing value, the detail is the whole row; of keys it names the key.
    names_key = error.sqlstate in WAITING_CLASSES and error.diag.message_detail
    detail = f" ({error.diag.message_detail})" if names_key else ""
    return f"Postgres refused the row: {said}{detail}{EXCHANGED if _refused_class(error) == CONFLICT else ''}"


def _refused_class(error: psycopg.Error) -> str:
    return WAITING_CLASSES.get(error.sqlstate or "", "postgres")


def _left_out_class(target: Target, standing: str) -> str:
    # Of a rewrite the version is stored already, and would pass for the good one that settles the reject. Where the ledger keeps the
    # versions, the merge has just noted it.
    return "left out again" if standing.startswith("rewrite") and not target.keeps_versions else "left out"


def without_objects(target: Target, batch: Batch) -> Batch:
    """Returns the batch, of bare tombstones only, as if none of them carried an object."""
    emptied = {OBJECT_VERSION, *object_names(target)}
    columns = {
        name: pa.nulls(len(values), values.type) if name in emptied else values
        for name, values in zip(batch.delivered.column_names, batch.delivered.columns, strict=True)
    }
    return replace(batch, delivered=pa.table(columns))
