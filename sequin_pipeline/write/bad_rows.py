"""Rows that Postgres refuses: told from other errors, and found by dividing the real merge in savepoints.

All of the search is rolled back. A row that only this table refuses (a CHECK, a foreign key, a trigger, a limit) shows no other way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql

from sequin_pipeline.normalize.normalizer import NormalizedPages, Reject
from sequin_pipeline.postgres.warehouse import Connection, limit_lock_waits
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import Batch, Place, without_objects
from sequin_pipeline.write.merge import RowsRefused, merge_rows

PARTS = 8
"""That a refused part is divided into. Halving finds one row among 5,000 with 25 merges instead of 33, but needs two for each where
all are refused."""

LEFT_OUT = "a trigger, rule or policy of the table left the row out: Postgres reported no error and wrote nothing"


def find_refused(
    connection: Connection,
    *,
    target: Target,
    batch: Batch,
    pages: Sequence[NormalizedPages],
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    lock_timeout_seconds: float,
) -> dict[Place, Reject]:
    """The refused rows of the batch by their origin in `pages`; empty when it passes now. Raises psycopg.Error."""
    search = _Search(connection, target, batch, pages, window_starts, versions)
    with connection.transaction(force_rollback=True):
        limit_lock_waits(connection, lock_timeout_seconds)
        search.prepare()
        search.divide(range(len(batch)))
    return search.found


@dataclass(frozen=True)
class _Search:
    connection: Connection
    target: Target
    batch: Batch
    pages: Sequence[NormalizedPages]
    window_starts: Sequence[datetime]
    versions: sql.Identifier
    found: dict[Place, Reject] = field(default_factory=dict)

    def prepare(self) -> None:
        """The staging table once for all parts: what a refused part makes is taken back with it."""
        with self.connection.cursor() as cursor:
            staging.create(cursor, staging.encode(self.target, self.batch.part(range(1))).staging)

    def divide(self, rows: range) -> None:
        """Parts that pass stay merged for the time being, so that two rows which only together violate something are told apart."""
        if not rows:
            return
        part = self.batch.part(rows)
        try:
            self._try(part)
        except RowsRefused as refusal:
            if len(rows) == 1:
                self._note(part, refusal)
                return
            step = -(-len(rows) // PARTS)
            for start in range(rows.start, rows.stop, step):
                self.divide(range(start, min(start + step, rows.stop)))

    def _try(self, part: Batch) -> None:
        with self.connection.transaction():
            encoded = staging.encode(self.target, part)
            merge_rows(self.connection, encoded, window_starts=self.window_starts, versions=self.versions)
            self.connection.execute(sql.SQL("truncate {}").format(encoded.staging.identifier))

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
        """A bare tombstone that passes without the object it carries is not at fault: the version the object came from is."""
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
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail and error.sqlstate in ("23503", "23505") else ""
    return f"Postgres refused the row: {said}{detail}"


def _refused_class(error: psycopg.Error) -> str:
    return "parent" if error.sqlstate == "23503" else "postgres"


def _left_out_class(target: Target, standing: str) -> str:
    # Of a rewrite the version is stored already, and would pass for the good one that settles the reject. Where the ledger keeps the
    # versions, the merge has just noted it.
    return "left out again" if standing.startswith("rewrite") and not target.keeps_versions else "left out"
