"""What merges left behind, read back by plain SQL."""

import atexit
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import psycopg

from sequin_pipeline.ledger.counts import Counts
from tests.support.postgres import connect_aside, is_usable
from tests.support.waits import PATIENCE_SECONDS, wait_until

COUNT_NAMES = tuple(field.name for field in fields(Counts))


def query(url: str, statement: str, *parameters: object, **named: object) -> list[tuple[Any, ...]]:
    """All rows of one statement by itself; whoever writes the statement knows their types."""
    with _reader(url) as connection:
        return connection.execute(statement, parameters or named or None).fetchall()


_kept: dict[str, psycopg.Connection[tuple[Any, ...]]] = {}
"""The connection of the last query, by its URL: the next one is mostly to the same database, and a new one costs 5 ms each time."""


@contextmanager
def _reader(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection that has nothing open, and that what waits for sessions does not count."""
    if threading.current_thread() is not threading.main_thread():
        with connect_aside(url) as connection:
            yield connection
        return
    if url not in _kept or not is_usable(_kept[url]):
        close_reader()
        _kept[url] = connect_aside(url)
    yield _kept[url]


@atexit.register
def close_reader() -> None:
    while _kept:
        _kept.popitem()[1].close()


def execute(url: str, *statements: str) -> None:
    """Statements without an answer, each committed by itself."""
    with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
        for statement in statements:
            connection.execute(statement)


def rows(url: str, *expressions: str, table: str = "demo.thing") -> list[tuple[Any, ...]]:
    """These expressions of every row, in the order of the first one."""
    return query(url, f"select {', '.join(expressions)} from {table} order by 1")


def terminate(url: str, condition: str) -> int:
    """Ends the sessions that fit, and returns how many there were once they are gone; Postgres 13 cannot wait for that itself."""
    ended = "select pg_terminate_backend(pid), pid from pg_stat_activity where pid <> pg_backend_pid() and "
    pids = [pid for _, pid in query(url, ended + condition)]
    assert are_gone(url, pids, within_seconds=PATIENCE_SECONDS), "a session did not end"
    return len(pids)


def are_gone(url: str, pids: list[int], *, within_seconds: float) -> bool:
    """Whether these sessions end within the time."""
    deadline = time.monotonic() + within_seconds
    while query(url, "select from pg_stat_activity where pid = any(%s)", pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def flush_statistics(url: str) -> None:
    """Everything that sessions have done until now is in Postgres' statistics: before version 15 a process of its own gathers them, in the
    order in which they come, so that it knows all once it knows of a table that was written last."""
    execute(url, "drop table if exists public.written_last", "create table public.written_last (a int)")
    execute(url, "insert into public.written_last values (1)")
    written = "select n_tup_ins from pg_stat_user_tables where relname = 'written_last'"
    wait_until(lambda: query(url, written) == [(1,)], "the statistics")


def merges(url: str, run_id: str | None = None) -> list[dict[str, int]]:
    """The counts of every row of `merges`, in the order of their commits, without zeros."""
    rows = query(
        url,
        f"select {', '.join(COUNT_NAMES)} from sequin_pipeline.merges"
        " where %s::text is null or run_id = %s order by committed_at, window_key",
        run_id,
        run_id,
    )
    return [{name: int(str(value)) for name, value in zip(COUNT_NAMES, row, strict=True) if value} for row in rows]


def totals(url: str) -> dict[str, int]:
    """Sums over all of `merges`, without zeros."""
    return dict(sum((Counter(counts) for counts in merges(url)), Counter()))


def rejects(url: str) -> dict[object, tuple[object, object]]:
    """By record id: class and SQLSTATE of the open rejects."""
    rows = query(url, "select record_id, class, sqlstate from sequin_pipeline.rejects where resolved_at is null")
    return {record_id: (reject_class, sqlstate) for record_id, reject_class, sqlstate in rows}


def ids_and_versions(url: str, table: str = "demo.thing") -> list[tuple[object, ...]]:
    """Every row of a collection's table: id, version, deleted."""
    return rows(url, "id", "updated_idx", "deleted", table=table)


def row_count(url: str, table: str = "demo.thing") -> int:
    """The ledger's running total, which must be the count of the rows."""
    [(total,)] = query(url, "select row_count from sequin_pipeline.tables where table_name = %s", table)
    [(counted,)] = query(url, f"select count(*) from {table}")
    assert total == counted
    return int(str(total))


def raw(record: object) -> bytes:
    """The record's bytes as the builders' pages hold them."""
    return json.dumps(record).encode()
