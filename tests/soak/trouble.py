"""What happens to runs: faults of the source and of Postgres, each of which ends by itself or is ended again."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random

import psycopg

from tests.e2e.project import SandboxControls
from tests.support.postgres import PostgresServer
from tests.support.reading import execute, query

SOURCE_FAULTS = (
    "status:500,every=3",
    "status:429,retry-after=1,every=4",
    "reset-before,every=3",
    "cut:120,every=3",
    "html,every=4",
    "json-cut,every=5",
    "status:503,from=2",
    "status:401,at=2",
)
OURS = "application_name = 'sequin_pipeline'"


@dataclass(frozen=True)
class Trouble:
    """Makes trouble for what runs on this server and reads this API. Must be used from the thread that started the server."""

    server: PostgresServer
    api: SandboxControls
    url: str
    chance: Random

    def draw(self) -> str:
        """The name of a fault."""
        return self.chance.choice([*FAULTS, *SOURCE_FAULTS])

    def make(self, fault: str) -> None:
        """Lets it happen."""
        if fault in SOURCE_FAULTS:
            self.api.set_faults(fault)
        else:
            FAULTS[fault](self)

    def end(self) -> None:
        """Whatever still lasts."""
        self.api.set_faults()

    def terminate(self) -> None:
        query(self.url, f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")

    def kill(self) -> None:
        found = query(self.url, f"select pid from pg_stat_activity where {OURS} order by pid limit 1")
        with suppress(ProcessLookupError):
            for (pid,) in found:
                os.kill(int(str(pid)), signal.SIGKILL)
        with suppress(psycopg.OperationalError), closing(psycopg.connect(self.url, autocommit=True)) as watching:
            # The server ends every session, this one too; where there was nobody to kill, it does not.
            watching.execute("select pg_sleep(%s)", (1.0 if found else 0.0,))
        self.server.wait_until_ready()

    def restart(self) -> None:
        self.server.crash()
        self.server.start()

    def lock(self) -> None:
        with psycopg.connect(self.url) as holder:
            holder.execute("lock table sequin_pipeline.merges in share mode")
            time.sleep(self.chance.uniform(0.1, 0.5))

    def turn_read_only(self) -> None:
        [(database,)] = query(self.url, "select current_database()")
        execute(self.url, f"alter database {database} set default_transaction_read_only = on")
        self.terminate()
        time.sleep(self.chance.uniform(0.1, 0.5))
        writing = psycopg.conninfo.make_conninfo(self.url, options="-c default_transaction_read_only=off")
        execute(writing, f"alter database {database} reset default_transaction_read_only")
        self.terminate()


FAULTS: dict[str, Callable[[Trouble], None]] = {
    "backends terminated": Trouble.terminate,
    "backend killed": Trouble.kill,
    "immediate restart": Trouble.restart,
    "ledger locked": Trouble.lock,
    "read-only for a moment": Trouble.turn_read_only,
}
