"""A batch held in one of its phases on a server that the test may kill meanwhile.

It is held from outside, by what another session locks or by a standby that never answers, and where it stands is seen in
pg_stat_activity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.support.postgres import SETTINGS
from tests.support.racing import wait_for_activity
from tests.support.reading import execute, query
from tests.support.waits import wait_until

HOLDABLE = {**SETTINGS, "wal_level": "replica", "max_wal_senders": "1", "synchronous_commit": "local"}
"""Settings of a server on which a commit can be held: sessions that say `synchronous_commit=on` wait for a standby, if one is named."""

PHASES = {
    "staging": "lock table pg_catalog.pg_attribute in share mode",
    "merge": "select from demo.thing where id = 'r1' for update",
    "ledger": "lock table sequin_pipeline.merges in share mode",
    "commit": "select",
}
"""What keeps a batch from going on: making the staging table, writing record r1, its row in `merges`."""


OF_RUNS = "select from pg_stat_activity where application_name = 'sequin_pipeline' and datname = current_database()"


@dataclass(frozen=True)
class HeldBatch:
    """`url` is what the run has to connect to."""

    url: str
    _phase: str
    _holder: psycopg.Connection[tuple[object, ...]]

    def arrived(self) -> int:
        """Waits until a batch stands there; returns the process id of its backend."""
        waits_for = "wait_event = 'SyncRep'" if self._phase == "commit" else "wait_event_type = 'Lock'"
        (pid,) = wait_for_activity(self.url, f"application_name = 'sequin_pipeline' and {waits_for}", [])
        return pid

    def let_go(self) -> None:
        """Nothing holds later batches: on the next start of the server, or at once."""
        if self._phase == "commit":
            execute(self.url, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
        self._holder.close()

    def wait_for_crash(self) -> None:
        """Until the server has ended its sessions, as it does when one of its processes was killed."""
        try:
            while True:
                self._holder.execute("select pg_sleep(0.01)")
        except psycopg.OperationalError:
            return


@contextmanager
def held_in(phase: str, url: str) -> Iterator[HeldBatch]:
    """The next batch that is written through the URL of what is yielded comes as far as `phase` and no farther."""
    # A session of an earlier run that is still ending, and drops its temporary tables, would be held and taken for the batch's.
    wait_until(lambda: not query(url, OF_RUNS), "the end of earlier runs' sessions")
    with psycopg.connect(url) as holder:
        holder.execute(PHASES[phase])  # type: ignore[arg-type]  # tests write SQL as text
        if phase == "commit":
            execute(url, "alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
            url = psycopg.conninfo.make_conninfo(url, options="-c synchronous_commit=on")
        held = HeldBatch(url, phase, holder)
        try:
            yield held
        finally:
            holder.close()
