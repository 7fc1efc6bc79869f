"""What a history table costs: the pipeline without one and with one, and dlt's scd2, each with the same records in the same order."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from bench.contestants import PHASE_LABELS, VARIANTS, CannotRun, Entry
from bench.rounds import Arena, Measurement
from bench.server import Serving

RECORDS = 50_000
SCD2_RECORDS = 20_000
"""It takes rows one by one."""

PHASES = ("new", "changed", "one_percent", "replay")

BARE = Entry("bare", "sequin_pipeline, without a history table", "bench.pipeline", "history", PHASES, options={"part": "whole"})
KEPT = Entry(
    "kept", "sequin_pipeline, with one", "bench.pipeline", "history", PHASES, options={"part": "whole", "keeps_versions": True}
)
SCD2 = Entry("dlt_scd2", "dlt, merge by scd2", "bench.peers.dlt_scd2", "history", PHASES[:3], SCD2_RECORDS)


def measure_histories(arena: Arena) -> list[dict[str, Any]]:
    """Each phase of each: microseconds of client and server for a record, of which as many change as the phase says, and the rows kept."""
    few = replace(arena, records=min(RECORDS, arena.records))
    found = []
    for entry in (BARE, KEPT, SCD2):
        with suppress(CannotRun):
            found += list(_phases(few, entry))
    return found


def _phases(arena: Arena, entry: Entry) -> Iterator[dict[str, Any]]:
    database = f"history_{entry.name}"
    url = arena.postgres.make_database(database)
    with arena.contestant(entry, database) as contestant:
        for phase in entry.phases:
            arena.api.serve(Serving(VARIANTS[phase], arena.encoding, records=entry.records(arena.records)))
            measured = arena.measure(entry, contestant, phase, round_number=1, database=database)
            yield _row(entry, phase, measured, _versions(url, entry))
    arena.postgres.drop_database(database)


def _row(entry: Entry, phase: str, measured: Measurement, versions: int) -> dict[str, Any]:
    server = measured.server_cpu_seconds
    return {
        "label": entry.label,
        "phase": PHASE_LABELS[phase],
        "records": measured.records,
        "records_per_second": measured.records / measured.seconds,
        "client_us": measured.client_cpu_seconds / measured.records * 1e6,
        "server_us": None if server is None else server / measured.records * 1e6,
        "wal_bytes": measured.wal_bytes,
        "versions": versions,
    }


def _versions(url: str, entry: Entry) -> int:
    """How many versions are kept by now."""
    table = "subscription" if entry is SCD2 else "subscription_history"
    with psycopg.connect(url) as connection:
        if connection.execute("select to_regclass(%s)", (f"{entry.name}.{table}",)).fetchone() == (None,):
            return 0
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(entry.name, table))).fetchone()
    return int(str(row[0])) if row else 0
