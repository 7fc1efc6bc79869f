"""Asking first: where a run reads again, and once most of a batch was known, a batch sends only what is not."""

from datetime import timedelta

import psycopg
import pytest

from sequin_pipeline.catalog import OnDelete
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import TimeWindow
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record
from tests.support.reading import rows

FIRST = [record("a", 10), record("b", 11), record("c", 12)]
STORED = ("id", "updated_idx", "deleted", "amount", "data->>'amount'")


@pytest.fixture
def way() -> str:
    """Here it matters."""
    return "as the product chooses"


def copied_bytes(url: str, run_id: str) -> list[int]:
    """Of each batch of a run, in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select sum(bytes)::int from sequin_pipeline.merges where run_id = %s group by batch_id order by min(committed_at)",
            (run_id,),
        ).fetchall()
    return [row[0] for row in rows]


def deliver(url: str, *pages: list[dict[str, object]], run_id: str, on_delete: OnDelete = "mark") -> Counts:
    """A full read of these pages, each a batch of its own."""
    stream = RecordStream(live_run_config(collection(on_delete=on_delete), full_refresh=True), ListSource(pages))
    return run_sync(stream, Warehouse(url), run_id=run_id, batch_records=1).counts


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_a_full_read_of_known_records_sends_no_row(warehouse_url: str, on_delete: OnDelete) -> None:
    known = [FIRST, [record("d", 20), record("e", 21)], [record("f", 30, deleted=True, data=None)]]
    deliver(warehouse_url, *known, run_id="load", on_delete=on_delete)

    counts = deliver(warehouse_url, *known, run_id="replay", on_delete=on_delete)

    assert counts == Counts(fetched=6, unchanged=6)
    assert copied_bytes(warehouse_url, "replay") == [0, 0, 0]


def test_a_window_that_is_read_again_sends_no_row(warehouse_url: str) -> None:
    of = collection()
    deliver(warehouse_url, FIRST, run_id="load")
    window = TimeWindow(EPOCH, EPOCH + timedelta(days=1))
    backfill = RunConfig(of, "backfill", window, partition_keys=("2024-01",), window_starts=(EPOCH,))

    counts = run_sync(RecordStream(backfill, ListSource([FIRST])), Warehouse(warehouse_url), run_id="window").counts

    assert (counts, copied_bytes(warehouse_url, "window")) == (Counts(fetched=3, unchanged=3), [0])


def test_a_live_run_expects_nothing_of_its_first_batch(warehouse_url: str) -> None:
    deliver(warehouse_url, FIRST, run_id="load")
    stream = RecordStream(live_run_config(collection()), ListSource([FIRST, FIRST, FIRST]))

    counts = run_sync(stream, Warehouse(warehouse_url), run_id="live", batch_records=1).counts

    assert counts == Counts(fetched=6, unchanged=6)
    assert [sent > 0 for sent in copied_bytes(warehouse_url, "live")] == [True, False]


def test_what_is_not_known_is_sent_and_only_that(warehouse_url: str) -> None:
    deliver(warehouse_url, FIRST, run_id="load")
    second = [record("a", 9), record("b", 11), record("c", 13), record("d", 14), record("d", 13)]

    counts = deliver(warehouse_url, FIRST, second, run_id="again")

    assert counts == Counts(fetched=8, inserted=1, updated=1, unchanged=4, stale=1, duplicate=1, created=1)
    assert rows(warehouse_url, *STORED) == [
        ("a", 10, False, 10, "10"),
        ("b", 11, False, 11, "11"),
        ("c", 13, False, 13, "13"),
        ("d", 14, False, 14, "14"),
    ]


def test_known_version_with_other_content_is_sent(warehouse_url: str) -> None:
    deliver(warehouse_url, FIRST, run_id="load")
    other = record("b", 11, data={"status": "active", "amount": 99})

    counts = deliver(warehouse_url, FIRST, [other], run_id="again")

    assert counts == Counts(fetched=4, updated=1, unchanged=3, rewritten=1)
    assert rows(warehouse_url, *STORED)[1] == ("b", 11, False, 99, "99")


def test_known_tombstone_that_brings_an_object_of_its_own_batch_is_sent(warehouse_url: str) -> None:
    tombstone = record("b", 15, deleted=True, data=None)
    deliver(warehouse_url, FIRST, [tombstone], run_id="load")
    object_of_the_same_version = record("b", 15, data={"status": "active", "amount": 15})

    deliver(warehouse_url, FIRST, [object_of_the_same_version, tombstone], run_id="again")

    assert rows(warehouse_url, *STORED)[1] == ("b", 15, True, 15, "15")


def test_removed_rows_are_known_by_the_version_that_removed_them(warehouse_url: str) -> None:
    tombstone = record("b", 15, deleted=True, data=None)
    deliver(warehouse_url, FIRST, [tombstone], run_id="load", on_delete="remove")
    known = [record("a", 10), record("c", 12)]

    counts = deliver(
        warehouse_url, known, [tombstone, record("a", 10)], [record("b", 14), record("c", 12)], run_id="again", on_delete="remove"
    )

    assert counts == Counts(fetched=6, unchanged=5, stale=1)
    assert [row[0] for row in rows(warehouse_url, *STORED)] == ["a", "c"]
