"""This module limits how many rows a listing may mark as deleted unasked.

What is more is held in the ledger until somebody accepts it. What a listing did not see, and how it is marked, is the business of
unlisted.py.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from sequin_pipeline.ledger.held_deletes import HeldDeletes, accept, find_held, hold
from sequin_pipeline.ledger.listings import release
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.read.stream import Portion, RunConfig
from sequin_pipeline.runs.outcome import Totals
from sequin_pipeline.runs.unlisted import count_unlisted, mark_unlisted
from sequin_pipeline.sources import Listed
from sequin_pipeline.write.job import WriteJob

logger = logging.getLogger("sequin_pipeline.deletes")


class DeleteLimit:
    """This limit stands between the listings of one run and the tombstones for what they did not see.

    The run may accept more than the limit (`RunConfig.accept_deletes`). Tombstones and notes go into `totals`.
    """

    def __init__(self, session: Session, job: WriteJob, run_config: RunConfig, totals: Totals) -> None:
        self._session = session
        self._job = job
        self._run_config = run_config
        self._totals = totals
        self._accepted = run_config.accept_deletes or 0
        self._held: Sequence[HeldDeletes] = ()

    def mark_accepted(self) -> None:
        """Marks the held deletes that somebody accepts, now or in a run that was killed.

        A run does this first.
        """
        ledger, sync_id = self._job.ledger, self._run_config.sync_id
        self._held = self._session.attempt(partial(find_held, ledger=ledger), f"reading the held deletes of {ledger.label!r}")
        concerned = [held for held in self._held if sync_id in (None, held.sync_id)]
        for held in concerned:
            if self._accepted or held.accepted:
                self._mark_held(held)
        if self._accepted and not concerned:
            self._note("no deletes are held: what is accepted holds for a listing of this run")

    def _mark_held(self, held: HeldDeletes) -> None:
        listed, accepted = Listed(held.sync_id, held.version), max(self._accepted, held.accepted or 0)
        found = count_unlisted(self._session, self._job, self._run_config.collection, listed, self._totals.notes)
        if found is not None and found.rows > max(accepted, found.limit):
            self._note(f"{held.sync_id}: {found.rows:,} deletes are held, and only {accepted:,} are accepted: none is marked")
            return
        if found is not None:
            self._attempt(partial(accept, held=held, rows=accepted), "accepting the held deletes")
            self._mark(listed)
        self._attempt(partial(release, held=held), "forgetting the held deletes")
        self._held = [other for other in self._held if other != held]

    def settle(self, listed: Listed) -> HeldDeletes | None:
        """Marks what a complete listing did not see. Returns it where it is too much: to be held by the commit that completes the listing.

        The writers have come to their end.
        """
        self._held = [held for held in self._held if held.sync_id != listed.sync_id]
        found = count_unlisted(self._session, self._job, self._run_config.collection, listed, self._totals.notes)
        if found is None:
            return None
        if found.rows > max(found.limit, self._accepted):
            told = found.told(self._job.ledger.label)
            logger.warning("%s", told)
            self._note(told)
            self._held = [*self._held, found]
            return found
        if found.rows > found.limit:
            # Noted first, so that the run after one that is killed here goes on.
            self._attempt(partial(hold, held=replace(found, accepted=self._accepted)), "accepting the deletes")
        self._mark(listed)
        return None

    def seen_since(self, gathered: Sequence[Portion]) -> Iterator[Listed]:
        """Yields what pages that are of no listing say against held deletes: a record that comes is there, also if it has not changed."""
        if not self._held:
            return
        for portion in gathered:
            rejected = (reject.record_id for reject in portion.normalized.rejects if reject.record_id is not None)
            ids = (*portion.normalized.frame["id"], *rejected)
            if ids and any(page.listed is None for page in portion.pages):
                yield from (Listed(held.sync_id, held.version, ids) for held in self._held)

    def _mark(self, listed: Listed) -> None:
        for committed in mark_unlisted(self._session, self._job, self._run_config.collection, listed, self._totals.notes):
            self._totals.add_committed(committed)

    def _attempt(self, change: Callable[..., None], doing: str) -> None:
        def work(connection: Connection) -> None:
            with connection.transaction():
                change(connection, self._job.ledger)

        self._session.attempt(work, f"{doing} of {self._job.ledger.label!r}")

    def _note(self, note: str) -> None:
        self._totals.notes[note] = None
