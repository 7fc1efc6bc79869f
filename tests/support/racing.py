"""A batch that can be held open between its steps, so that every interleaving of two writers can be played through."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import build_batch
from sequin_pipeline.write.merge import merge_rows
from tests.support.postgres import ASIDE
from tests.support.reading import query
from tests.support.waits import looks

VERSIONS = sql.Identifier("sequin_pipeline", "versions")


class OpenBatch:
    """One batch of one writer on a connection of its own: begun by `write`, ended by `commit` or `roll_back`."""

    def __init__(self, url: str, of: Collection, *records: dict[str, object]) -> None:
        self._url = url
        target = collection_target(of)
        page = Normalizer(of)(json.dumps(records).encode())
        self._encoded = staging.encode(target, build_batch(target, [page], window_starts=()))
        self._stack = ExitStack()
        self.threads = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.threads)
        self.connection = self._stack.enter_context(Warehouse(self._url).connect())
        self.pid = self.connection.info.backend_pid
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def write(self) -> "Future[Counts]":
        """Begins and merges, in a thread, for it may have to wait for another writer."""

        def work() -> Counts:
            self.connection.execute("begin isolation level read committed")
            merged = merge_rows(self.connection, self._encoded, window_starts=(), versions=VERSIONS)
            return sum(merged.counts.values(), Counts())

        return self.threads.submit(work)

    def commit(self) -> None:
        self.connection.execute("commit")

    def roll_back(self) -> None:
        self.connection.execute("rollback")


def wait_until_blocked(url: str, pids: Sequence[int], *, by: str = "%") -> None:
    """Returns once each of these backends waits for a lock; `by` is a pattern of its kind, as pg_stat_activity names it."""
    wait_for_activity(url, "pid = any(%s) and wait_event_type = 'Lock' and wait_event like %s", (list(pids), by), count=len(pids))


def wait_for_activity(url: str, condition: str, parameters: Sequence[object], *, count: int = 1) -> list[int]:
    """The process ids of `count` backends that pg_stat_activity shows in the wanted state, as soon as it does."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in looks():
            rows = connection.execute(
                f"select pid from pg_stat_activity where pid <> pg_backend_pid() and application_name <> '{ASIDE}' and {condition}",
                parameters,
            ).fetchall()
            if len(rows) == count:
                return [int(str(pid)) for (pid,) in rows]
    seen = query(url, "select pid, application_name, state, wait_event_type, wait_event, query from pg_stat_activity")
    raise AssertionError(f"no {count} backends came to {condition} with {parameters}: {seen}")


@contextmanager
def holding(url: str, statement: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A third session that holds what `statement` locks, until the block ends."""
    with psycopg.connect(url) as connection:
        connection.execute(statement)
        yield connection
        connection.rollback()
