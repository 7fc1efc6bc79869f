"""What child tables cost: the same records of five elements each, with and without a table for these, one after the other.

From pages in memory, so that the writing is what is measured. A bare first load is copied, which none with children is. Rows are those of
parents and of children that are written; the share is that of the bare speed a row.
"""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bench.collection import collection_in, live_run_config
from bench.rounds import Arena
from sequin_pipeline.catalog import ChildTable, Collection, Column, TableName, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity

RECORDS = 20_000
PAGE = 1_000
ELEMENTS = 5
ROUNDS = 5

BARE = "none"
WITH = "five a record"
PHASES = ("new", "changed", "known again")


@dataclass
class PagesInMemory:
    """A stream that is there already."""

    bodies: Sequence[bytes]
    identity: SourceIdentity = field(default_factory=lambda: SourceIdentity("bench", ""))
    can_reread: bool = True
    observes_time: bool = False

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for index in range(int(request.after or 0), len(self.bodies)):
            yield Page(self.bodies[index], str(index + 1), datetime(2030, 1, 1, tzinfo=UTC))

    def committed(self, cursor: str) -> None:
        """Nothing: it is read from its beginning each time."""

    def head(self, collection_id: str) -> str | None:
        return None

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        return None


def measure_children(arena: Arena) -> list[dict[str, Any]]:
    """The median of rounds in which both take turns; of a phase whose records are changed, one element of each is."""
    records = min(RECORDS, arena.records)
    pages = {"new": _pages(records, version=1), "changed": _pages(records, version=2)}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS):
        for label in (BARE, WITH) if number % 2 else (WITH, BARE):
            database = f"children_{number}_{label.split()[0]}"
            url = arena.postgres.make_database(database)
            of = _collection(with_children=label == WITH)
            for phase in PHASES:
                bodies = pages["new" if phase == "new" else "changed"]
                config = live_run_config(of, full_refresh=phase != "new")
                started = time.perf_counter()
                run_sync(RecordStream(config, PagesInMemory(bodies)), Warehouse(url), run_id=phase)
                seconds.setdefault((label, phase), []).append(time.perf_counter() - started)
            arena.postgres.drop_database(database)
    return [_row(phase, label, records, seconds) for phase in PHASES for label in (BARE, WITH)]


def _row(phase: str, label: str, records: int, seconds: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    # Of a record that changed, one element did, too.
    rows = {(WITH, "new"): 1 + ELEMENTS, (WITH, "changed"): 2}.get((label, phase), 1) * records
    took, bare = statistics.median(seconds[label, phase]), statistics.median(seconds[BARE, phase])
    return {
        "phase": phase,
        "children": label,
        "records_per_second": records / took,
        "rows_per_second": rows / took,
        "share": (rows / took) / (records / bare),
    }


def _collection(*, with_children: bool) -> Collection:
    of = collection_in("pipeline")
    line = ChildTable(
        "line",
        TableName("pipeline", "subscription_line"),
        parse_path("lines.data"),
        key=(Column("id", parse_path("id"), "text"),),
        columns=(
            Column("amount", parse_path("amount"), "bigint"),
            Column("price_id", parse_path("price.id"), "text"),
        ),
    )
    return replace(of, children=(line,) if with_children else ())


def _pages(records: int, *, version: int) -> list[bytes]:
    return [
        json.dumps([_record(number, version) for number in range(first, min(first + PAGE, records))]).encode()
        for first in range(0, records, PAGE)
    ]


def _record(number: int, version: int) -> dict[str, object]:
    lines = [
        {
            "id": f"li_{number:08}_{place}",
            "object": "line_item",
            "amount": 1_000 * place + (version if place == 0 else 0),
            "currency": "eur",
            "description": "1 x a plan that somebody has taken out, at so much a month",
            "period": {"start": 1_700_000_000, "end": 1_702_592_000},
            "price": {"id": f"price_{place}", "product": "prod_1", "unit_amount": 1_000},
            "quantity": 1,
        }
        for place in range(ELEMENTS)
    ]
    return {
        "id": f"r{number:012}",
        "collection_id": "stripe:subscription",
        "sync": {"id": "s1", "external_id": f"t{number % 50}"},
        "upstream_id": f"sub_{number}",
        "updated_idx": version,
        "deleted": False,
        "inserted_at": "2024-03-01T00:00:00Z",
        "upstream_created_at": None,
        "upstream_updated_at": None,
        "data": {
            "status": "active",
            "customer": f"cus_{number % 1_000}",
            "current_period_end": 1_702_592_000,
            "items": {"data": [{"price": {"id": "price_1"}, "quantity": 1}]},
            "metadata": {"tenant": f"t{number % 50}"},
            "lines": {"data": lines, "has_more": False},
        },
    }
