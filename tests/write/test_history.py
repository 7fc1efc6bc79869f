"""The history of a collection: what it says of every fate, and what it does not cost."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from sequin_pipeline.catalog import OnDelete
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import list_rejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.replay_rejects import replay
from sequin_pipeline.write.history import history_of
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, live_stream, record
from tests.support.racing import OpenBatch, wait_for_activity

THING = replace(collection(), history=timedelta(days=30))
LEDGER = Ledger("demo.thing", "demo/thing")

Entry = tuple[str, int | None, str, int | None]


def entries(url: str) -> list[Entry]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select record_id, version, fate, stored_version from sequin_pipeline.history order by at, record_id, version, fate"
        )
        return [(str(row[0]), row[1], str(row[2]), row[3]) for row in rows]


def tuples(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select 'row', id, xmin::text, xmax::text from demo.thing"
            " union all select 'entry', record_id, xmin::text, xmax::text from sequin_pipeline.history order by 1, 2, 3"
        ).fetchall()


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_every_fate_but_unchanged_has_an_entry(warehouse_url: str, on_delete: OnDelete, lanes: int) -> None:
    of = replace(THING, on_delete=on_delete)
    source = ListSource([[record("a", 1), record("a", 2), record("b", 1), record("c", 1), record("same", 1)]])
    run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id="first", lanes=lanes)
    source.page_records = [
        *source.page_records,
        [
            record("a", 5),
            record("b", 2, deleted=True, data=None),
            record("c", 0),
            record("d", 1, data={"amount": "a dozen"}),
            record("gone", 3, deleted=True, data=None),
            record("same", 1),
        ],
    ]

    outcome = run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id="second", lanes=lanes)

    assert (
        entries(warehouse_url)
        == [
            ("a", 1, "duplicate", None),
            ("a", 2, "inserted", None),
            ("b", 1, "inserted", None),
            ("c", 1, "inserted", None),
            ("same", 1, "inserted", None),
            ("a", 5, "updated", 2),
            ("b", 2, "deleted", 1),
            ("c", 0, "stale", 1),
            ("d", 1, "rejected", None),
            ("gone", 3, "deleted", None),
        ]
        or lanes > 1
    )
    assert Counter(fate for _, _, fate, _ in entries(warehouse_url)) == {
        "duplicate": 1,
        "inserted": 4,
        "updated": 1,
        "deleted": 2,
        "stale": 1,
        "rejected": 1,
    }
    assert outcome.counts.unchanged == 1


def test_entries_name_their_batch_and_run_and_say_why(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    source = ListSource([[record("a", 1)], [record("a", 3)], [record("a", 2)], [record("a", 4, data={"amount": "x"})]])
    run_sync(RecordStream(live_run_config(THING), source), warehouse, run_id="run-1", batch_records=1)

    with warehouse.connect() as connection:
        told = history_of(connection, LEDGER, "a")
        batches = connection.execute("select batch_id from sequin_pipeline.merges order by committed_at").fetchall()

    assert [(entry.version, entry.fate, entry.why.split(":")[0]) for entry in told] == [
        (1, "inserted", "the table had no row of it"),
        (3, "updated", "newer than version 1, which was stored"),
        (2, "stale", "version 3 was stored already"),
        (
            4,
            "rejected",
            "column 'amount' (path $.amount, bigint) found the string 'x', where a number or a decimal string was expected",
        ),
    ]
    assert [(entry.batch_id,) for entry in told] == batches
    assert {(entry.run_id, entry.mode) for entry in told} == {("run-1", "live")}


def test_other_content_at_a_stored_version_and_a_refill_are_told_apart(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    source = ListSource([[record("a", 1)], [record("a", 1, data={"status": "new", "amount": 1})]])
    run_sync(
        RecordStream(live_run_config(replace(THING, columns=COLUMNS[:1])), source), warehouse, run_id="first", batch_records=1
    )
    run_sync(RecordStream(live_run_config(THING), source), warehouse, run_id="second")

    with warehouse.connect() as connection:
        told = history_of(connection, LEDGER, "a")

    assert [(entry.fate, entry.mode, entry.why) for entry in told] == [
        ("inserted", "live", "the table had no row of it"),
        ("updated", "live", "the same version was stored: other content, or a column's declaration changed"),
        ("updated", "refill", "the same version was stored: a column was filled"),
    ]


def test_rows_lost_to_a_concurrent_writer_are_stale_and_those_it_made_equal_are_nothing(warehouse_url: str) -> None:
    run_sync(live_stream(THING, []), Warehouse(warehouse_url), run_id="makes the table")
    stream = live_stream(THING, [], [record("a", 3), record("b", 1), record("c", 1)])
    with OpenBatch(warehouse_url, THING, record("a", 5), record("b", 1)) as rival, ThreadPoolExecutor(1) as thread:
        rival.write().result()
        running = thread.submit(run_sync, stream, Warehouse(warehouse_url), run_id="second")
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = 'Lock'", ())
        rival.commit()
        counts = running.result().counts

    assert counts == Counts(fetched=3, inserted=1, unchanged=1, stale=1, created=1)
    assert entries(warehouse_url) == [("a", 3, "stale", 5), ("c", 1, "inserted", None)]


def test_a_replay_of_anything_writes_nothing(warehouse_url: str) -> None:
    pages = [
        [record("a", 1), record("a", 2), record("b", 5), record("c", 3, deleted=True, data=None)],
        [record("b", 4), record("d", 1, data={"amount": "a dozen"}), *(record(f"g{number}", 1) for number in range(200))],
    ]
    source = ListSource(pages)
    run_sync(RecordStream(live_run_config(THING), source), Warehouse(warehouse_url), run_id="first", batch_records=1)
    before = tuples(warehouse_url)

    for attempt in ("again", "and again"):
        refresh = RecordStream(live_run_config(THING, full_refresh=True), source)
        counts = run_sync(refresh, Warehouse(warehouse_url), run_id=attempt, batch_records=1).counts

        assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)
        assert (counts.stale, counts.duplicate, counts.rejected) == (1, 1, 1)
    assert tuples(warehouse_url) == before


def test_a_replayed_reject_is_an_entry_of_its_own(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    run_sync(live_stream(THING, [record("a", 1), record("b", 7, data={"amount": "x"})]), warehouse, run_id="first")
    fixed = replace(THING, columns=(COLUMNS[0], replace(COLUMNS[1], name="amount_text", type="text")))
    run_sync(live_stream(fixed, []), warehouse, run_id="fixed")

    replay(warehouse, fixed, LEDGER, run_id="replay")

    with warehouse.connect() as connection:
        told = history_of(connection, LEDGER, "b")
        assert list_rejects(connection, LEDGER) == []
    assert [(entry.fate, entry.mode, entry.run_id) for entry in told] == [
        ("rejected", "live", "first"),
        ("inserted", "replay", "replay"),
    ]


def test_entries_go_when_their_own_time_is_over_whoever_runs(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    run_sync(live_stream(THING, [record("old", 1), record("young", 1)]), warehouse, run_id="first")
    with warehouse.connect() as connection:
        kept = connection.execute("select distinct expires_at - at from sequin_pipeline.history").fetchall()
        connection.execute("update sequin_pipeline.history set expires_at = now() - interval '1 second' where record_id = 'old'")
    other = collection(name="other", table="demo.other")

    run_sync(live_stream(other, [record("x", 1, collection_id="demo:other")]), warehouse, run_id="second")

    assert kept == [(timedelta(days=30),)]
    assert entries(warehouse_url) == [("young", 1, "inserted", None)]


def test_a_collection_that_does_not_ask_has_no_entry(warehouse_url: str) -> None:
    run_sync(live_stream(collection(), [record("a", 1), record("a", 2)]), Warehouse(warehouse_url), run_id="first")

    assert entries(warehouse_url) == []
