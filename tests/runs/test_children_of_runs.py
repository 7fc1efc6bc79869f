"""Child tables in runs of other kinds than a live one: queues, first loads by shard, windows, and objects that are kept as text."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.first_load import read_collection
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources import Page, ReadRequest, TimeWindow
from tests.runs.test_first_load import NOW, SyncsSource
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record
from tests.support.children import with_children
from tests.support.queues import ListQueue
from tests.support.reading import query

OF = with_children(collection(columns=()))


def invoice(record_id: str, version: int, *ids: str, **overrides: object) -> dict[str, object]:
    return record(record_id, version, data={"lines": {"data": [{"id": one} for one in ids]}}, **overrides)


def lines(url: str) -> list[tuple[object, ...]]:
    return query(url, "select parent_id, id, sync_id from demo.thing_line order by parent_id, id")


def test_a_queue_fills_child_tables_in_any_order_of_its_messages(warehouse_url: str) -> None:
    queue = ListQueue([[invoice("r", 2, "b", "c")], [invoice("r", 1, "a"), invoice("s", 1, "a")], [invoice("r", 2, "b", "c")]])

    outcome = drain(queue, [OF], Warehouse(warehouse_url), run_id="run").collections["demo/thing"]

    assert lines(warehouse_url) == [("r", "b", "s1"), ("r", "c", "s1"), ("s", "a", "s1")]
    assert (queue.acknowledged, outcome.child_rows["demo.thing_line"]) == ([0, 1, 2], 3)


def test_shards_of_a_first_load_fill_child_tables_together(warehouse_url: str) -> None:
    of, source = replace(OF, shards=2), SyncsSource()
    for number, sync_id in enumerate(("one", "two", "three"), start=1):
        sync: dict[str, object] = {"id": sync_id, "external_id": None, "metadata": {}}
        entry = invoice(f"r{number}", number, "a", "b", sync=sync, inserted_at=NOW.isoformat())
        source.entries[f"r{number}"] = (number, entry)

    for shard in (2, 1):
        run_config = replace(live_run_config(of), only_shard=shard)
        read_collection(RecordStream(run_config, source), Warehouse(warehouse_url), run_id=f"shard {shard}", batch_records=1)

    assert lines(warehouse_url) == [
        (f"r{number}", line, sync_id) for number, sync_id in enumerate(("one", "two", "three"), start=1) for line in ("a", "b")
    ]


def test_a_window_that_is_read_again_changes_no_child_of_a_newer_version(warehouse_url: str) -> None:
    stream = [[invoice("r", 1, "a")], [invoice("r", 2, "b")]]
    run_sync(RecordStream(live_run_config(OF), ListSource(stream)), Warehouse(warehouse_url), run_id="live")
    window = TimeWindow(EPOCH, EPOCH + timedelta(minutes=2))
    backfill = RunConfig(OF, "backfill", window, partition_keys=("2024-01",), window_starts=(EPOCH,))

    run_sync(RecordStream(backfill, ListSource(stream)), Warehouse(warehouse_url), run_id="backfill")

    assert lines(warehouse_url) == [("r", "b", "s1")]


class TextSource(ListSource):
    """One page, byte for byte."""

    def __init__(self, text: bytes) -> None:
        super().__init__([])
        self.text = text

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        if not request.after:
            yield Page(self.text, "1", datetime(2030, 1, 1, tzinfo=UTC))


def test_elements_that_are_kept_as_json_stand_as_they_came(warehouse_url: str) -> None:
    element = b'{"z": 1.50, "id":"a",  "z": 1e3, "taxes": [{"rate": 0.10}]}'
    whole = b'[{"id":"r","collection_id":"demo:thing","provider":"demo","upstream_id":"u","sync":{"id":"s1"},"updated_idx":1,'
    whole += b'"deleted":false,"inserted_at":"2024-01-01T00:00:00Z","data":{"lines":{"data":[' + element + b"]}}}]"
    of = with_children(replace(collection(columns=()), data_type="json"))

    run_sync(RecordStream(live_run_config(of), TextSource(whole)), Warehouse(warehouse_url), run_id="run")

    assert query(warehouse_url, "select data::text from demo.thing_line") == [(element.decode(),)]
    assert query(warehouse_url, "select data::text, rate::text from demo.thing_line_tax") == [('{"rate": 0.10}', "0.10")]
