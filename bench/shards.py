"""One collection read by several runs beside each other, from a source that takes its time: first loads by shard, backfills by part.

Each is the real command with its start, against the sandbox, whose pages are late; the tables have to be the same.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any
from urllib.request import Request, urlopen

import psycopg

from bench.child import ContestantFailed
from bench.contestants import CHECKOUT
from bench.rounds import Arena
from sequin_pipeline.postgres.urls import psycopg2_url
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings

RECORDS = 20_000
PAGE_RECORDS = 200
DELAY_SECONDS = 1.5
SYNCS = 4
SHARDS = 4
START = datetime(2025, 1, 1, tzinfo=UTC)
MONTHS = ("2025-01", "2025-12")
"""Twelve windows, in which the records are spread evenly."""

TABLE = "bench.thing"


@dataclass(frozen=True)
class Phase:
    """A command, and the number of shards that the collection declares; `database` has the table that it fills or reads again."""

    label: str
    arguments: Sequence[str]
    database: str
    shards: int = 1


BACKFILL = ("backfill", "bench/thing", "--from", MONTHS[0], "--to", MONTHS[1])
PHASES = (
    Phase("first load, one run", ("sync",), "shards_one"),
    Phase(f"first load, {SHARDS} shards", ("sync",), "shards_many", SHARDS),
    Phase("backfill, one run", BACKFILL, "shards_one"),
    Phase("backfill, --parallel 4", (*BACKFILL, "--parallel", "4"), "shards_one"),
    Phase("backfill, 12 runs of one window", (*BACKFILL, "--parallel", "12"), "shards_one"),
)
"""The pool has four places, so that four runs are at work at once."""


def measure_shards(arena: Arena) -> list[dict[str, Any]]:
    """How long each takes from its start to its end, and how much it asks; raises ContestantFailed where tables differ."""
    is_whole = arena.records >= RECORDS
    settings = Settings(limit_cap=PAGE_RECORDS, delay_ms=round(1000 * (DELAY_SECONDS if is_whole else 0.01)))
    records = RECORDS if is_whole else arena.records
    folder = arena.scratch / "shards"
    folder.mkdir(parents=True)
    copy(CHECKOUT / "dagster.yaml", folder)
    databases = sorted({phase.database for phase in PHASES})
    urls = {database: arena.postgres.make_database(database) for database in databases}
    storage_url = psycopg2_url(arena.postgres.make_database("shards_dagster"))
    found, tables = [], set()
    with running_sandbox(RecordedFeed(_lines(records)), settings) as api_url:
        for phase in PHASES:
            environment = _environment(folder, api_url, urls[phase.database], storage_url, phase.shards)
            # Dagster makes its tables, and modules are read into memory, before anything is measured.
            _run(folder, environment, ("backfill", "bench/thing", "--from", MONTHS[0], "--parallel", "1", "--dry-run"))
            urlopen(Request(f"{api_url}/_sandbox/requests", method="DELETE")).close()
            started = time.perf_counter()
            _run(folder, environment, phase.arguments)
            seconds = time.perf_counter() - started
            with urlopen(f"{api_url}/_sandbox/requests") as answer:
                requests = json.load(answer)["count"]
            tables.add(_digest(urls[phase.database]))
            found.append({"label": phase.label, "records": records, "seconds": seconds, "requests": requests})
            print(f"bench: {found[-1]}", file=sys.stderr, flush=True)
    if len(tables) != 1:
        raise ContestantFailed("the tables of the first loads and backfills differ")
    for database in (*databases, "shards_dagster"):
        arena.postgres.drop_database(database)
    return found


def _lines(records: int) -> Iterator[bytes]:
    for number in range(records):
        at = START + timedelta(days=364) * (number / records)
        yield json.dumps(
            {
                "id": f"r{number:06}",
                "collection_id": "bench:thing",
                "provider": "bench",
                "stream_id": "default",
                "sync": {"id": f"sync-{number % SYNCS}", "external_id": None, "metadata": {}},
                "upstream_id": f"u{number:06}",
                "updated_idx": number + 1,
                "deleted": False,
                "inserted_at": at.isoformat(),
                "data": {"number": number, "text": "x" * 500},
            }
        ).encode()


def _environment(folder: Path, api_url: str, warehouse_url: str, storage_url: str, shards: int) -> dict[str, str]:
    collections = folder / f"collections_{shards}"
    (collections / "bench").mkdir(parents=True, exist_ok=True)
    (collections / "bench" / "defs.yaml").write_text(
        "type: sequin_pipeline.component.CollectionSync\n"
        "attributes:\n  provider: bench\n  windows: {every: month, start: 2025-01-01}\n"
        f"  collections: {{thing: {{shards: {shards}}}}}\n"
    )
    return {
        **os.environ,
        "SEQUIN_API_URL": api_url,
        "SEQUIN_API_TOKEN": "none is needed",
        "SEQUIN_COLLECTIONS": str(collections),
        "WAREHOUSE_URL": warehouse_url,
        "DAGSTER_POSTGRES_URL": storage_url,
        "DAGSTER_HOME": str(folder),
    }


def _run(folder: Path, environment: dict[str, str], arguments: Sequence[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sequin_pipeline.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise ContestantFailed(f"{' '.join(arguments)} ended with {ended.returncode}: {ended.stderr[-2000:]}")


def _digest(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"select count(*), md5(string_agg(concat_ws(':', id, sync_id, updated_idx, data), ',' order by id)) from {TABLE}".encode()
        ).fetchone()
