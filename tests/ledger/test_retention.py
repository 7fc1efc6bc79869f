"""The ledger does not grow for ever, and what it forgets is missed by nobody, also while other runs go on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import TimeWindow
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record
from tests.support.racing import holding, wait_for_activity
from tests.support.reading import execute, ids_and_versions, merges, query, row_count
from tests.support.syncing import sync

AGES = (
    "update sequin_pipeline.merges set committed_at = now() - interval '{age}' where run_id = '{run}'",
    "update sequin_pipeline.runs set heartbeat_at = now() - interval '{age}' where run_id = '{run}'",
    "update sequin_pipeline.rejects set resolved_at = now() - interval '{age}' where run_id = '{run}' and resolved_at is not null",
)


def grow_old(url: str, run_id: str, age: str) -> None:
    execute(url, *(statement.format(age=age, run=run_id) for statement in AGES))


def bad(record_id: str, version: int) -> dict[str, object]:
    return record(record_id, version, data={"amount": "no number"})


def kept(url: str) -> dict[str, list[object]]:
    """Runs of which merges and heartbeats are there, and the records of rejects."""
    return {
        "merges": [run for (run,) in query(url, "select distinct run_id from sequin_pipeline.merges order by 1")],
        "runs": [run for (run,) in query(url, "select distinct run_id from sequin_pipeline.runs order by 1")],
        "rejects": [found for (found,) in query(url, "select record_id from sequin_pipeline.rejects order by 1")],
    }


def test_a_run_forgets_what_is_older_than_ninety_days_and_nothing_that_is_still_of_use(warehouse_url: str) -> None:
    pages = [[record("a", 1), bad("open", 1), bad("settled", 1), bad("discarded", 1)], [record("settled", 2)]]
    sync(warehouse_url, *pages, run_id="old", batch_records=1)
    execute(
        warehouse_url,
        "update sequin_pipeline.rejects set resolved_at = now(), resolution = 'discarded' where record_id = 'discarded'",
    )
    pages.append([record("b", 1), bad("settled lately", 1)])
    sync(warehouse_url, *pages, run_id="recent", batch_records=1)
    pages.append([record("settled lately", 2)])
    sync(warehouse_url, *pages, run_id="settles", batch_records=1)
    grow_old(warehouse_url, "old", "91 days")
    grow_old(warehouse_url, "recent", "89 days")

    pages.append([record("a", 3)])
    sync(warehouse_url, *pages, run_id="new", batch_records=1)

    assert kept(warehouse_url) == {
        "merges": ["new", "recent", "settles"],
        "runs": ["new", "recent", "settles"],
        "rejects": ["discarded", "open", "settled lately"],
    }
    assert query(warehouse_url, "select cursor from sequin_pipeline.cursors") == [("5",)]
    assert row_count(warehouse_url) == 4
    assert ids_and_versions(warehouse_url) == [
        ("a", 3, False),
        ("b", 1, False),
        ("settled", 2, False),
        ("settled lately", 2, False),
    ]


def test_a_run_forgets_while_another_one_is_in_the_middle_of_a_batch(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)], run_id="old", batch_records=1)
    grow_old(warehouse_url, "old", "91 days")
    run_config = RunConfig(collection(), "backfill", None, partition_keys=("2024-01",), window_starts=(EPOCH,))
    backfill = RecordStream(run_config, ListSource([[record("a", 2), record("b", 1)]]))
    with ThreadPoolExecutor(1) as threads:
        with holding(warehouse_url, "select from demo.thing where id = 'a' for update"):
            running = threads.submit(run_sync, backfill, Warehouse(warehouse_url), run_id="backfill")
            wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = %s", ["Lock"])

            sync(warehouse_url, [record("a", 1)], [record("c", 1)], run_id="live", batch_records=1)

            forgotten = kept(warehouse_url)["merges"]
        running.result()

    assert forgotten == ["live"]
    assert merges(warehouse_url, "backfill") == [{"fetched": 2, "inserted": 1, "updated": 1, "created": 1}]
    assert ids_and_versions(warehouse_url) == [("a", 2, False), ("b", 1, False), ("c", 1, False)]
    assert row_count(warehouse_url) == 3


def test_old_positions_are_thinned_to_one_an_hour_and_a_backfill_starts_from_what_is_left(warehouse_url: str) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    old, recent = now - timedelta(days=100), now - timedelta(days=10)
    times = [day + timedelta(minutes=minute) for day in (old, recent) for minute in (0, 20, 40, 60, 80, 240)]
    pages = [[record(f"r{number}", 1, inserted_at=time.isoformat())] for number, time in enumerate(times)]

    sync(warehouse_url, *pages, run_id="live", batch_records=1)

    left = query(warehouse_url, "select cursor::int from sequin_pipeline.positions order by stream_time")
    assert left == [(1,), (4,), (6,), (7,), (8,), (9,), (10,), (11,), (12,)]
    window = TimeWindow(old + timedelta(minutes=235), old + timedelta(minutes=250))
    source = ListSource(pages)
    run_config = RunConfig(collection(), "backfill", window, partition_keys=("2024-01",), window_starts=(EPOCH,))
    run_sync(RecordStream(run_config, source), Warehouse(warehouse_url), run_id="backfill")
    assert source.requests[0].after == "4"
    assert merges(warehouse_url, "backfill")[-1] == {"fetched": 1, "unchanged": 1}


def test_objects_keyed_by_ids_do_not_fill_the_table_of_fields(warehouse_url: str) -> None:
    def keyed(run: int) -> list[dict[str, object]]:
        return [record(f"r{run}", 1, data={"status": "x", **{f"id-{run}-{number}": number for number in range(600)}})]

    sync(warehouse_url, keyed(0), run_id="first", batch_records=1)
    sync(warehouse_url, keyed(0), keyed(1), run_id="second", batch_records=1)
    pages = [keyed(0), keyed(1), keyed(2)]
    stream = RecordStream(live_run_config(collection()), ListSource(pages))
    outcome = run_sync(stream, Warehouse(warehouse_url), run_id="third")

    assert query(warehouse_url, "select count(*)::int from sequin_pipeline.fields") == [(1000,)]
    assert outcome.drift.new == ()
