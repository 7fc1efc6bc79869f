"""What is measured once, after the rounds: sources that take their time, Dagster's share, and how it all grows."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import psycopg

from bench.child import Contestant, ContestantFailed
from bench.children import measure_children
from bench.contestants import ENTRIES, PIPELINE, CannotRun, Entry
from bench.histories import measure_histories
from bench.many import measure_many
from bench.records import write_pages
from bench.rounds import Arena, Measurement, make_schema, running_api
from bench.server import Serving
from bench.shards import measure_shards
from bench.ticks import measure_ticks
from sequin_pipeline.postgres.urls import psycopg2_url

DELAY_SECONDS = 0.05
ONCE_RECORDS = 20_000
SOURCE_RECORDS = {"sequin": 100_000, "sequin_consumer": 30_000, "sequin_stream": 30_000, "stripe": 30_000, "rest": 30_000}
"""Of the pages that are fetched ahead a hundred: what is left to write when the last one has come is a small part of them."""
MEMORY_RECORDS = (100_000, 1_000_000)
TABLE_SIZES = (0, 1_000_000, 10_000_000)

WHOLE = next(entry for entry in ENTRIES if entry.name == PIPELINE)
DLT_REST = Entry("dlt_rest", "dlt rest_api, upsert", "bench.peers.dlt_rest_api", "core", ("new",))
REST_RECORDS = 50_000
THROUGH_DAGSTER = Entry("dagster", "sequin_pipeline, through Dagster", "bench.dagster_run", "core", ("new",))


def measure_sources(arena: Arena) -> list[dict[str, Any]]:
    """With a delay of each answer: how much of what a source alone can deliver arrives in the table, by kind of source.

    All in one process, for nobody asks for its memory. Raises ContestantFailed where a queue has messages left that were not acknowledged.
    """
    found = []
    with _contestant(arena, WHOLE, "sources") as contestant:
        for kind in SOURCE_RECORDS:
            slow = replace(arena, records=min(SOURCE_RECORDS[kind], arena.records))
            alone = _once(slow, WHOLE, f"alone_{kind}", contestant, delay_seconds=DELAY_SECONDS, kind=kind, part="source")
            whole = _once(slow, WHOLE, f"whole_{kind}", contestant, delay_seconds=DELAY_SECONDS, kind=kind)
            found.append(
                {
                    "kind": kind,
                    "delay_seconds": DELAY_SECONDS,
                    "records": slow.records,
                    "alone_records_per_second": alone.records / alone.seconds,
                    "records_per_second": whole.records / whole.seconds,
                    "share": alone.seconds / whole.seconds,
                }
            )
    return found


def measure_rest(arena: Arena) -> list[dict[str, Any]]:
    """A REST API by declaration: the source alone with two sizes of pages, then all of it and dlt's own source, one after the other.

    Those of the pipeline are in one process, what takes more memory after what takes less.
    """
    # Packing as it answers, the server would be what is measured.
    few = replace(arena, records=min(REST_RECORDS, arena.records), encoding="identity")
    found = []
    with _contestant(few, WHOLE, "rest") as contestant:
        for limit in (100, 1000):
            alone = _once(few, WHOLE, f"rest_alone_{limit}", contestant, kind="rest", limit=limit, part="source")
            found.append(_rest_row("source alone", limit, alone))
        for lanes in (1, 2):
            whole = _once(few, WHOLE, f"rest_{lanes}", contestant, kind="rest", limit=1000, lanes=lanes)
            found.append(_rest_row(f"into the table, {lanes} lanes", 1000, whole))
    with suppress(CannotRun):
        found.append(_rest_row("dlt rest_api, merge and upsert", 1000, _once(few, DLT_REST, "rest_dlt", kind="rest", limit=1000)))
    return found


def _rest_row(label: str, limit: int, measured: Measurement) -> dict[str, Any]:
    return {
        "label": label,
        "limit": limit,
        "records": measured.records,
        "records_per_second": measured.records / measured.seconds,
        "client_us": measured.client_cpu_seconds / measured.records * 1e6,
        "peak_rss_bytes": measured.peak_rss_bytes,
    }


def measure_rest_memory(arena: Arena) -> list[dict[str, float]]:
    """Peak memory of two lists of a REST API of which one is ten times as long."""
    found = []
    for records in MEMORY_RECORDS:
        with arena_of(arena, records) as long:
            measured = _once(long, WHOLE, f"rest_memory_{records}", kind="rest", limit=1000)
        found.append({"records": records, "peak_rss_bytes": measured.peak_rss_bytes})
    return found


def measure_dagster(arena: Arena) -> dict[str, float]:
    """The same records in a plain process and as an asset of Dagster, run in a process whose imports are done."""
    few = replace(arena, records=min(ONCE_RECORDS, arena.records))
    arena.postgres.make_database("dagster_storage")
    storage_url = psycopg2_url(arena.postgres.server.url("dagster_storage"))
    plain = _once(few, WHOLE, "dagster_plain")
    through = _once(few, THROUGH_DAGSTER, "dagster_through", storage_url=storage_url)
    arena.postgres.drop_database("dagster_storage")
    return {
        "records": few.records,
        "plain_seconds": plain.seconds,
        "seconds": through.seconds,
        "more_seconds": through.seconds - plain.seconds,
        "peak_rss_bytes": through.peak_rss_bytes,
    }


def measure_memory(arena: Arena) -> list[dict[str, float]]:
    """Peak memory and speed of streams of two lengths, each in a fresh process."""
    found = []
    for records in MEMORY_RECORDS:
        with arena_of(arena, records) as long:
            measured = _once(long, WHOLE, f"memory_{records}")
        found.append(
            {
                "records": records,
                "peak_rss_bytes": measured.peak_rss_bytes,
                "records_per_second": measured.records / measured.seconds,
                "client_us": measured.client_cpu_seconds / measured.records * 1e6,
            }
        )
    return found


def measure_growth(arena: Arena) -> list[dict[str, float | None]]:
    """The same batches, new and changed, into tables that hold more and more rows of others."""
    found: list[dict[str, float | None]] = []
    for rows in TABLE_SIZES:
        database = f"growth_{rows}"
        url = arena.postgres.make_database(database)
        with arena.contestant(WHOLE, database) as contestant:
            # A run that finds an empty stream makes the table.
            arena.api.serve(Serving("new", records=0))
            arena.measure(WHOLE, contestant, "new", round_number=1, database=database)
            _fill(url, rows)
            for phase in ("new", "changed"):
                arena.api.serve(Serving(phase, arena.encoding))
                measured = arena.measure(WHOLE, contestant, phase, round_number=1, database=database)
                server = measured.server_cpu_seconds
                found.append(
                    {
                        "rows": rows,
                        "is_changed": float(phase == "changed"),
                        "records_per_second": measured.records / measured.seconds,
                        "server_us": None if server is None else server / measured.records * 1e6,
                    }
                )
        arena.postgres.drop_database(database)
    return found


SECTIONS: Mapping[str, Callable[[Arena], Any]] = {  # what JSON holds
    "sources": measure_sources,
    "rest": measure_rest,
    "rest_memory": measure_rest_memory,
    "dagster": measure_dagster,
    "many": measure_many,
    "ticks": measure_ticks,
    "memory": measure_memory,
    "growth": measure_growth,
    "shards": measure_shards,
    "history": measure_histories,
    "children": measure_children,
}
DEFAULT = ("sources", "rest", "dagster")
QUICK = (*DEFAULT, "many")
LARGE = ("sources", "rest", "rest_memory", "dagster", "many", "ticks", "memory", "growth")


@contextmanager
def _contestant(arena: Arena, entry: Entry, database: str, **options: object) -> Iterator[Contestant]:
    """A process for several measurements, each of which gets a database of its own besides."""
    arena.postgres.make_database(database)
    with arena.contestant(entry, database, **options) as contestant:
        yield contestant
    arena.postgres.drop_database(database)


def _once(
    arena: Arena,
    entry: Entry,
    database: str,
    running: Contestant | None = None,
    *,
    delay_seconds: float = 0.0,
    kind: str = "sequin",
    **options: object,
) -> Measurement:
    """The first phase of one contestant, which runs already or is started for it, in a database of its own."""
    url = arena.postgres.make_database(database)
    arena.api.serve(Serving("new", arena.encoding, delay_seconds, arena.records, kind))
    started = nullcontext(running) if running else arena.contestant(entry, database, kind=kind, **options)
    with started as contestant:
        make_schema(url, entry)
        asked = {"kind": kind, "database_url": url, **options}
        measured = arena.measure(entry, contestant, "new", round_number=1, database=database, **asked)
    arena.postgres.drop_database(database)
    if left := arena.api.seen().unacknowledged:
        raise ContestantFailed(f"{left} messages of {kind} were not acknowledged")
    return measured


@contextmanager
def arena_of(arena: Arena, records: int) -> Iterator[Arena]:
    """An arena with that many new records, whose pages are served by a process of their own until the block ends."""
    pages = arena.scratch / f"pages_{records}"
    write_pages(pages, records=records, variants=["new"])
    with running_api(pages) as api:
        yield replace(arena, pages=pages, api=api, records=records)


def _fill(url: str, rows: int) -> None:
    """Narrow rows of other ids, in the order of the key, so that making them takes a minute rather than an hour."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into pipeline.subscription (id, updated_idx, deleted, inserted_at, updated_at)"
            " select md5(n::text), n, false, now(), now() from generate_series(1, %s) n order by 1",
            (rows,),
        )
        connection.execute("vacuum analyze pipeline.subscription")
