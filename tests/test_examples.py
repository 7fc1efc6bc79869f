"""The worked example of a source: short, of the protocol's form, and run against a real server into a real table."""

import importlib.util
import json
from types import ModuleType

import pytest

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import ReadRequest, Source
from tests.sources.scripted import Reply, scripted_server
from tests.support.builders import COLUMNS, collection, live_run_config
from tests.support.checkout import CHECKOUT
from tests.support.reading import query

EXAMPLE = CHECKOUT / "examples" / "tracker" / "tracker_source.py"
FIRST, SECOND = "2024-05-01T10:00:00+00:00", "2024-05-02T10:00:00.000001+00:00"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tracker_source", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def listing(*items: dict[str, object], following: str | None = None) -> Reply:
    return Reply(body=json.dumps({"items": items, "next": following}).encode())


def thing(number: int, updated_at: str, status: str) -> dict[str, object]:
    return {"id": number, "updated_at": updated_at, "status": status, "amount": number}


def test_the_example_is_shorter_than_sixty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60


def test_the_example_reads_linked_pages_into_a_table_and_goes_on_at_the_last_one(example: ModuleType, warehouse_url: str) -> None:
    of = collection(columns=COLUMNS)
    script = (
        listing(thing(1, FIRST, "open"), following="https://elsewhere.test/thing?after=812&per_page=100"),
        listing(thing(2, FIRST, "open")),
        listing(thing(2, FIRST, "open"), thing(1, SECOND, "done"), following=None),
    )
    with scripted_server(*script) as server:
        source: Source = example.TrackerSource(server.url, "secret")
        for run_id in ("first", "second"):
            outcome = run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id=run_id)

    assert [(asked.path, asked.query) for asked in server.asked] == [
        ("/thing", {"per_page": "100", "sort": "updated_at"}),
        ("/thing", {"after": "812", "per_page": "100"}),
        ("/thing", {"after": "812", "per_page": "100"}),
    ]
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret"}
    assert query(warehouse_url, "select id, upstream_id, updated_idx, status, amount from demo.thing order by id") == [
        ("demo:thing:1", "1", 1_714_644_000_000_001, "done", 1),
        ("demo:thing:2", "2", 1_714_557_600_000_000, "open", 2),
    ]
    assert (outcome.counts.updated, outcome.counts.unchanged) == (1, 1)


def test_an_item_at_fault_is_a_reject_and_an_answer_that_is_no_listing_a_fault_of_the_source(
    example: ModuleType, warehouse_url: str
) -> None:
    of = collection(columns=COLUMNS)
    with scripted_server(listing(thing(1, FIRST, "open"), {"id": 2})) as server:
        outcome = run_sync(
            RecordStream(live_run_config(of), example.TrackerSource(server.url)), Warehouse(warehouse_url), run_id="run"
        )
    with scripted_server(Reply(body=b"<html>"), Reply(body=b"<html>"), Reply(body=b"<html>")) as server:
        pages = example.TrackerSource(server.url).pages(ReadRequest(frozenset({"demo:thing"})))
        with pytest.raises(SourceFault, match="an answer that is not a listing"):
            next(pages)

    assert (outcome.counts.inserted, outcome.counts.rejected) == (1, 1)
