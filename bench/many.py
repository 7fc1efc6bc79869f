"""Many collections in one run: what it takes of processors, connections, requests and memory, against what is configured."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import yaml

from bench import processes
from bench.child import Contestant, ContestantFailed, Task
from bench.contestants import CHECKOUT, Entry
from bench.records import MANY_COLLECTIONS, MANY_PROVIDER
from bench.report import machine
from bench.rounds import Arena
from bench.server import Serving
from sequin_pipeline.postgres.urls import psycopg2_url

COLLECTION_RECORDS = 5_000
FEW_COLLECTIONS = 2
"""Of a smoke run."""
RETRY_AFTER_SECONDS = 1
MANY = Entry("many", "many collections, through Dagster", "bench.many_run", "many", ("new", "nothing_new", "replay"))
STORAGE = "many_storage"

LOOK_SECONDS = 0.1
LOOKS_A_MEMORY = 5
"""To add up a process' memory takes the kernel milliseconds."""


@dataclass
class Peaks:
    """The most that was there at once."""

    warehouse_connections: int = 0
    dagster_connections: int = 0
    processes: int = 0
    memory_bytes: int = 0
    stop: threading.Event = field(default_factory=threading.Event, repr=False)


def measure_many(arena: Arena) -> dict[str, Any]:
    """First load, a tick that finds nothing, and everything again after each collection was told to come back later.

    Raises ContestantFailed where a table lacks records, or a collection came back too early.
    """
    names = MANY_COLLECTIONS if arena.records >= COLLECTION_RECORDS else MANY_COLLECTIONS[:FEW_COLLECTIONS]
    few = replace(arena, records=min(COLLECTION_RECORDS, arena.records))
    url = arena.postgres.make_database(MANY.name)
    storage_url = psycopg2_url(arena.postgres.make_database(STORAGE))
    serving = Serving("new", arena.encoding, records=few.records, kind=MANY_PROVIDER)
    found = []
    with few.contestant(MANY, MANY.name, storage_url=storage_url, collections=names) as contestant:
        for phase in MANY.phases:
            is_told_to_wait = phase == "replay"
            arena.api.serve(replace(serving, retry_after_seconds=RETRY_AFTER_SECONDS * is_told_to_wait))
            found.append(_measure(few, contestant, phase))
            if is_told_to_wait and (found[-1]["refused"], found[-1]["early"]) != (len(names), 0):
                raise ContestantFailed(f"of {len(names)} collections that were to wait: {found[-1]}")
    _check(url, names, few.records)
    arena.postgres.drop_database(MANY.name)
    arena.postgres.drop_database(STORAGE)
    return {
        "collections": len(names),
        "records": few.records,
        "retry_after_seconds": RETRY_AFTER_SECONDS,
        "pool_limit": yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())["concurrency"]["pools"]["default_limit"],
        "cpus": machine()["cpus"],
        "phases": found,
    }


def _measure(arena: Arena, contestant: Contestant, phase: str) -> dict[str, Any]:
    contestant.prepare(Task(phase, [], arena.records))
    arena.postgres.checkpoint()
    arena.api.seen()
    server, client = arena.postgres.read(MANY.name), _cpu_seconds(contestant)
    with _watched(arena, contestant) as peaks:
        spent = contestant.work()
    client_seconds = _cpu_seconds(contestant) - client
    after, seen = arena.postgres.read(MANY.name), arena.api.seen()
    has_cpu = server.cpu_seconds is not None and after.cpu_seconds is not None
    return {
        "phase": phase,
        "seconds": spent.seconds,
        "client_cpu_seconds": client_seconds,
        "server_cpu_seconds": after.cpu_seconds - server.cpu_seconds if has_cpu else None,  # type: ignore[operator]  # has_cpu
        "warehouse_connections": peaks.warehouse_connections,
        "dagster_connections": peaks.dagster_connections,
        "requests": seen.requests,
        "requests_in_flight": seen.peak_in_flight,
        "refused": seen.refused,
        "early": seen.early,
        "processes": peaks.processes,
        "memory_bytes": peaks.memory_bytes,
    }


def _cpu_seconds(contestant: Contestant) -> float:
    return sum(processes.cpu_seconds(pid, with_reaped=True) for pid in processes.tree(contestant.pid))


@contextmanager
def _watched(arena: Arena, contestant: Contestant) -> Iterator[Peaks]:
    peaks = Peaks()
    watching = threading.Thread(target=_watch, args=(arena.postgres.server.url("postgres"), contestant.pid, peaks))
    watching.start()
    try:
        yield peaks
    finally:
        peaks.stop.set()
        watching.join()


def _watch(url: str, pid: int, peaks: Peaks) -> None:
    looks = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while not peaks.stop.is_set():
            rows = connection.execute(
                "select datname, count(*) from pg_stat_activity where backend_type = 'client backend' group by datname"
            ).fetchall()
            counts = {str(name): int(count) for name, count in rows}
            peaks.warehouse_connections = max(peaks.warehouse_connections, counts.get(MANY.name, 0))
            peaks.dagster_connections = max(peaks.dagster_connections, counts.get(STORAGE, 0))
            if looks % LOOKS_A_MEMORY == 0:
                running = processes.tree(pid)
                peaks.processes = max(peaks.processes, len(running))
                peaks.memory_bytes = max(peaks.memory_bytes, sum(map(processes.pss_bytes, running)))
            looks += 1
            time.sleep(LOOK_SECONDS)


def _check(url: str, names: Sequence[str], records: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name in names:
            row = connection.execute(f'select count(*) from "{MANY_PROVIDER}"."{name}"'.encode()).fetchone()
            if row is None or row[0] != records:
                raise ContestantFailed(f"table {MANY_PROVIDER}.{name} holds {row and row[0]} rows instead of {records}")
