"""This module shows in the ledger that this process is at work on a run, and notices when the run was ended without it.

A thread does so from the start to the end of the work, whatever the work is doing: waiting for a place in the pool, for a page, for a
lock, or for Postgres to create an index. Its connection is its own, so that no transaction of the run holds it up, and a warehouse that
cannot be reached for a while costs nothing but the sign of life: who takes processes for lost looks at that.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import psycopg

from sequin_pipeline.environment.lost_after import LOST_AFTER_SECONDS
from sequin_pipeline.errors import PipelineError, RunFenced
from sequin_pipeline.ledger.ledger import HEARTBEAT_SECONDS
from sequin_pipeline.ledger.processes import beat, enter, leave
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse

logger = logging.getLogger("sequin_pipeline.life")

BEATS_UNTIL_LOST = LOST_AFTER_SECONDS / HEARTBEAT_SECONDS
"""Whoever is taken for lost sooner shows life more often."""

LEAVING_SECONDS = 5.0
"""The end of a run waits this long for its last word; a row that stays is forgotten by the sensor, once the run has ended."""

_at_work: dict[tuple[int, str], "Life"] = {}
"""Those of this process, by its id and the run's: a process that was forked from this one shows no life for it."""
_changing = threading.Lock()


class Life:
    """This class shows life for one run until it is stopped; `is_lost` says that the run was ended meanwhile."""

    def __init__(
        self, warehouse: Warehouse, run_id: str, *, schema: str, lost_after_seconds: float, when_lost: Callable[[], None]
    ) -> None:
        self.is_lost = False
        self.users = 1
        self._warehouse = warehouse
        self._run_id = run_id
        self._schema = schema
        self._lost_after = timedelta(seconds=lost_after_seconds)
        self._when_lost = when_lost
        self._id = uuid4()
        self._has_entered = False
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._show, name="sequin-life", daemon=True)

    def start(self) -> None:
        """Begins to show life."""
        self._thread.start()

    def stop(self) -> None:
        """Says that the work has ended, well or not."""
        self._is_ending.set()
        self._thread.join(LEAVING_SECONDS)

    def _show(self) -> None:
        pause_seconds = self._lost_after.total_seconds() / BEATS_UNTIL_LOST
        with Session(self._warehouse) as session:
            while True:
                try:
                    self.is_lost = not self._beat(session.connection())
                except (PipelineError, psycopg.Error) as error:
                    logger.debug("no sign of life of run %s could be written: %s", self._run_id, error)
                if self.is_lost:
                    self._when_lost()
                if self.is_lost or self._is_ending.wait(pause_seconds):
                    break
            if self._has_entered:
                with suppress(PipelineError, psycopg.Error):
                    leave(session.connection(), self._id, schema=self._schema)

    def _beat(self, connection: Connection) -> bool:
        if self._has_entered:
            return beat(connection, self._id, schema=self._schema)
        migrate(connection, self._schema)
        enter(
            connection,
            self._id,
            self._run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            lost_after=self._lost_after,
            schema=self._schema,
        )
        self._has_entered = True
        return True


@contextmanager
def showing_life(
    warehouse: Warehouse,
    run_id: str,
    *,
    schema: str = DEFAULT_SCHEMA,
    lost_after_seconds: float = LOST_AFTER_SECONDS,
    when_lost: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Shows that this process is at work on the run until the block ends; once, where it does so already.

    `when_lost` is called in another thread, should the run be ended without this process. Raises RunFenced where it already was.
    """
    place = (os.getpid(), run_id)
    check_life(run_id)
    with _changing:
        if place in _at_work:
            life = _at_work[place]
            life.users += 1
        else:
            life = Life(warehouse, run_id, schema=schema, lost_after_seconds=lost_after_seconds, when_lost=when_lost)
            _at_work[place] = life
            life.start()
    try:
        yield
    finally:
        with _changing:
            life.users -= 1
            is_last = life.users == 0
            if is_last:
                del _at_work[place]
        if is_last:
            life.stop()


def check_life(run_id: str) -> None:
    """Raises RunFenced when the run has been ended without this process: another one may be at work in its place."""
    life = _at_work.get((os.getpid(), run_id))
    if life is not None and life.is_lost:
        raise RunFenced(
            f"run {run_id} was ended while this process on {socket.gethostname()!r} was at work on it: either it had shown no life for so "
            "long that it was taken for dead, or somebody ended the run. What was committed stays, and nothing more is written; the next "
            "run continues from there"
        )
