"""Versions that are times of observation: what is seen again unchanged is left as it is, however often somebody looks."""

import pytest

from sequin_pipeline.catalog import OnDelete
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import ids_and_versions, query
from tests.write.test_known import copied_bytes
from tests.write.test_replay import settle, tuples


@pytest.fixture
def way() -> str:
    """Here it matters."""
    return "as the product chooses"


def observed(at: int, *ids: str, **overrides: object) -> list[dict[str, object]]:
    """These records as a listing that began at `at` shows them."""
    return [
        record(each, at, inserted_at=f"2024-05-01T00:00:{at:02}Z", data={"status": "active", "amount": 1}, **overrides)
        for each in ids
    ]


def deliver(url: str, *pages: list[dict[str, object]], run_id: str, on_delete: OnDelete = "mark") -> Counts:
    """A full read of these pages, each a batch of its own."""
    of = collection(on_delete=on_delete, observes_time=True)
    stream = RecordStream(live_run_config(of, full_refresh=True), ListSource(pages))
    return run_sync(stream, Warehouse(url), run_id=run_id, batch_records=1).counts


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_a_listing_of_what_has_not_changed_writes_nothing(warehouse_url: str, on_delete: OnDelete) -> None:
    deliver(warehouse_url, observed(10, "a", "b", "c"), run_id="first", on_delete=on_delete)
    settle(warehouse_url)
    before = tuples(warehouse_url)

    counts = deliver(
        warehouse_url,
        observed(20, "a", "b"),
        observed(20, "c"),
        observed(30, "a", "b", "c"),
        run_id="nightly",
        on_delete=on_delete,
    )

    assert counts == Counts(fetched=6, unchanged=6)
    assert tuples(warehouse_url) == before
    assert query(warehouse_url, "select distinct updated_idx from demo.thing") == [(10,)]
    assert copied_bytes(warehouse_url, "nightly")[1:] == [0, 0], "what the hash tells to be known is not sent"


def test_what_has_changed_takes_the_time_at_which_it_was_seen(warehouse_url: str) -> None:
    deliver(warehouse_url, observed(10, "a", "b"), run_id="first")
    changed = record("b", 20, inserted_at="2024-05-01T00:00:20Z", data={"status": "active", "amount": 2})

    counts = deliver(warehouse_url, [*observed(20, "a"), changed], run_id="second")

    assert counts == Counts(fetched=2, unchanged=1, updated=1)
    assert query(warehouse_url, "select id, updated_idx, amount from demo.thing order by id") == [("a", 10, 1), ("b", 20, 2)]


def test_an_older_listing_never_overwrites_a_newer_event(warehouse_url: str) -> None:
    deliver(warehouse_url, observed(10, "a"), run_id="first")
    event = record("a", 20, data={"status": "active", "amount": 2})
    deliver(warehouse_url, [event], run_id="event")

    counts = deliver(warehouse_url, observed(15, "a"), run_id="late")

    assert counts == Counts(fetched=1, stale=1)
    assert query(warehouse_url, "select updated_idx, amount from demo.thing") == [(20, 2)]


def test_a_row_that_was_marked_comes_back_with_the_listing_that_sees_it(warehouse_url: str) -> None:
    deliver(warehouse_url, observed(10, "a"), observed(11, "a", deleted=True), run_id="first")

    counts = deliver(warehouse_url, observed(20, "a"), run_id="second")

    assert counts == Counts(fetched=1, updated=1)
    assert query(warehouse_url, "select updated_idx, deleted from demo.thing") == [(20, False)]


SAME, OTHER = {"status": "active", "amount": 1}, {"status": "active", "amount": 2}


@pytest.mark.parametrize(
    ("at", "content", "expected", "stands_at"),
    [
        pytest.param(30, SAME, Counts(unchanged=1), 20, id="the same later"),
        pytest.param(30, OTHER, Counts(updated=1), 30, id="another later"),
        pytest.param(15, OTHER, Counts(stale=1), 20, id="another earlier"),
        pytest.param(15, SAME, Counts(stale=1), 20, id="the same earlier"),
    ],
)
def test_two_who_look_at_once_end_as_one_behind_the_other(
    warehouse_url: str, at: int, content: dict[str, object], expected: Counts, stands_at: int
) -> None:
    of = collection(observes_time=True)
    deliver(warehouse_url, [record("a", 10, data={"status": "before"})], run_id="first")
    with (
        OpenBatch(warehouse_url, of, record("a", 20, data=SAME)) as ahead,
        OpenBatch(warehouse_url, of, record("a", at, data=content)) as behind,
    ):
        ahead.write().result()
        waiting = behind.write()
        wait_until_blocked(warehouse_url, [behind.pid], by="transactionid")
        ahead.commit()
        written = waiting.result()
        behind.commit()

    assert written == expected
    assert ids_and_versions(warehouse_url) == [("a", stands_at, False)]
