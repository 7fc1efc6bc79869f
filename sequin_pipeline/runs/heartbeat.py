"""This module tells how far a run has come: whoever asked for reports, each time, and the ledger, now and then.

That the process lives is shown by life.py.
"""

import time
from collections.abc import Callable
from datetime import datetime

from sequin_pipeline.ledger.ledger import HEARTBEAT_SECONDS, Ledger
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.runs.life import check_life
from sequin_pipeline.runs.outcome import Progress, Totals


class Heartbeat:
    """This class tells of one run of one collection how far it has come, by its `totals`."""

    def __init__(self, ledger: Ledger, totals: Totals, *, run_id: str, mode: str, report: Callable[[Progress], None]) -> None:
        self._ledger = ledger
        self._totals = totals
        self._run_id = run_id
        self._mode = mode
        self._report = report
        self._last_at = time.perf_counter()

    def beat(self, connection: Connection, *, has_ended: bool = False) -> None:
        """Writes down that the run is alive, or that it has ended."""
        self._ledger.show_life(
            connection,
            self._run_id,
            mode=self._mode,
            seconds=self._totals.seconds,
            pages=self._totals.pages,
            records=self._totals.records,
            has_ended=has_ended,
        )

    def progress(self, session: Session, stream_time: datetime | None) -> None:
        """Reports the progress, and writes it down when that was last done HEARTBEAT_SECONDS ago.

        Raises WarehouseError, and RunFenced when the run was ended without this process.
        """
        check_life(self._run_id)
        totals, label = self._totals, self._ledger.label
        self._report(Progress(label, totals.pages, totals.records, totals.seconds, stream_time))
        if time.perf_counter() - self._last_at >= HEARTBEAT_SECONDS:
            self._last_at = time.perf_counter()
            session.attempt(self.beat, f"showing that the run of {label!r} is alive")
