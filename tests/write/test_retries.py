"""What passes by itself is tried again, and what was tried again is counted once."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
import pytest

from sequin_pipeline.errors import WarehouseError, WarehouseUnavailable
from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.postgres.warehouse import ATTEMPTS, LONGEST_WAIT_SECONDS, Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record
from tests.support.children import with_children
from tests.support.postgres import PostgresServer
from tests.support.proxy import commit_losing_proxy
from tests.support.racing import holding, wait_for_activity, wait_until_blocked
from tests.support.reading import execute, ids_and_versions, merges, query, row_count
from tests.support.reading import terminate as end_sessions
from tests.support.syncing import sync
from tests.support.waits import Waits
from tests.support.ways import going

FIRST = [record("a", 1), record("b", 1)]
SECOND = [record("a", 2), record("c", 1)]


def second_batch_landed_once(url: str) -> bool:
    return (
        ids_and_versions(url) == [("a", 2, False), ("b", 1, False), ("c", 1, False)]
        and merges(url, "run") == [{"fetched": 2, "inserted": 1, "updated": 1, "created": 1}]
        and row_count(url) == 3
        and query(url, "select cursor from sequin_pipeline.cursors") == [("2",)]
    )


@pytest.mark.parametrize("options", ["", "-c statement_timeout=20", "-c lock_timeout=10"])
def test_a_lock_that_another_session_holds_too_long_is_waited_for_again(warehouse_url: str, options: str) -> None:
    """For as long as we say, whatever the session's own limits are."""
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    with holding(warehouse_url, "select from demo.thing where id = 'a' for update") as holder:
        waits = Waits(meanwhile=holder.rollback)
        url = psycopg.conninfo.make_conninfo(warehouse_url, options=options)

        sync(Warehouse(url, sleep=waits, lock_timeout_seconds=0.05), FIRST, SECOND, batch_records=1)

    assert len(waits.seconds) == 1
    assert second_batch_landed_once(warehouse_url)


def test_a_lock_that_is_never_let_go_ends_the_run_with_nothing_written_and_the_next_run_goes_on(warehouse_url: str) -> None:
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    waits = Waits()
    with holding(warehouse_url, "select from demo.thing where id = 'a' for update"):
        with pytest.raises(WarehouseUnavailable) as caught:
            sync(Warehouse(warehouse_url, lock_timeout_seconds=0.02, sleep=waits), FIRST, SECOND, batch_records=1)
        rows = ids_and_versions(warehouse_url)

    sync(Warehouse(warehouse_url), FIRST, SECOND, batch_records=1)

    assert caught.value.is_retryable
    assert str(caught.value) == (
        "while writing a batch of 'demo/thing' to table 'demo.thing', Postgres said 'canceling statement due to lock timeout' "
        "(SQLSTATE 55P03); this may be temporary: run again."
    )
    assert len(waits.seconds) == ATTEMPTS - 1
    assert all(0 <= seconds <= LONGEST_WAIT_SECONDS for seconds in waits.seconds)
    assert rows == [("a", 1, False), ("b", 1, False)]
    assert second_batch_landed_once(warehouse_url)


def test_a_deadlock_with_a_foreign_writer_is_tried_again(warehouse_url: str) -> None:
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    with (
        psycopg.connect(warehouse_url, options="-c deadlock_timeout=60s") as foreign,
        ThreadPoolExecutor(2) as threads,
    ):
        foreign.execute("update demo.thing set status = 'foreign' where id = 'b'")
        waits = Waits(meanwhile=lambda: blocked.result())
        batch = [record("a", 2), record("b", 2), record("c", 1)]
        running = threads.submit(sync, Warehouse(warehouse_url, sleep=waits), FIRST, batch)
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = %s", ["Lock"])
        blocked = threads.submit(_update_and_commit, foreign)
        outcome = running.result()

    assert len(waits.seconds) == 1
    assert outcome.counts.updated == 2
    assert query(warehouse_url, "select id, updated_idx, status from demo.thing order by id") == [
        ("a", 2, "active"),
        ("b", 2, "active"),
        ("c", 1, "active"),
    ]
    assert merges(warehouse_url, "run") == [{"fetched": 3, "inserted": 1, "updated": 2, "created": 1}]


def _update_and_commit(foreign: psycopg.Connection[tuple[object, ...]]) -> None:
    foreign.execute("update demo.thing set status = 'foreign' where id = 'a'")
    foreign.commit()


@dataclass
class InterruptingSource(ListSource):
    """Tells the test when a batch has been committed."""

    after_commit: Callable[[], object] = lambda: None

    def committed(self, cursor: str) -> None:
        super().committed(cursor)
        self.after_commit()


def terminate(url: str, condition: str = "true") -> int:
    return end_sessions(url, f"application_name = 'sequin_pipeline' and {condition}")


def test_a_connection_lost_after_a_batch_is_opened_anew(warehouse_url: str) -> None:
    """When the run learns of the first commit, the second batch is on its way or committed, too: either is found out and fixed."""
    terminated: list[int] = []
    waits = Waits()
    source = InterruptingSource(
        [FIRST, SECOND], after_commit=lambda: None if terminated else terminated.append(terminate(warehouse_url))
    )

    sync(Warehouse(warehouse_url, sleep=waits), source=source, batch_records=1)

    assert terminated == [1]
    assert len(waits.seconds) == 1
    assert merges(warehouse_url) == [
        {"fetched": 2, "inserted": 2, "created": 2},
        {"fetched": 2, "inserted": 1, "updated": 1, "created": 1},
    ]


def test_a_connection_lost_within_a_batch_leaves_nothing_of_it_and_the_batch_is_written_again(warehouse_url: str) -> None:
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    with holding(warehouse_url, "select from demo.thing where id = 'a' for update") as holder, ThreadPoolExecutor(1) as threads:
        waits = Waits(meanwhile=holder.rollback)
        running = threads.submit(sync, Warehouse(warehouse_url, sleep=waits), FIRST, SECOND)
        pids = wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = %s", ["Lock"])
        wait_until_blocked(warehouse_url, pids, by="transactionid")
        terminated = terminate(warehouse_url)
        running.result()

    assert (terminated, len(waits.seconds)) == (1, 1)
    assert second_batch_landed_once(warehouse_url)


def test_a_database_whose_transactions_are_serializable_by_default_makes_no_difference(warehouse_url: str) -> None:
    [(database,)] = query(warehouse_url, "select current_database()")
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    execute(warehouse_url, f"alter database {database} set default_transaction_isolation = 'serializable'")
    waits = Waits()
    with psycopg.connect(warehouse_url) as foreign, ThreadPoolExecutor(1) as threads:
        foreign.execute("update demo.thing set status = 'foreign' where id = 'a'")
        running = threads.submit(sync, Warehouse(warehouse_url, sleep=waits), FIRST, SECOND)
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = %s", ["Lock"])
        foreign.commit()
        running.result()

    assert waits.seconds == []
    assert second_batch_landed_once(warehouse_url)


def test_a_server_that_only_reads_is_an_error_that_says_so(warehouse_url: str) -> None:
    [(database,)] = query(warehouse_url, "select current_database()")
    execute(warehouse_url, f"alter database {database} set default_transaction_read_only = on")
    waits = Waits()

    with pytest.raises(WarehouseError, match=r"read-only transaction.*point WAREHOUSE_URL at the primary server"):
        sync(Warehouse(warehouse_url, sleep=waits), FIRST, batch_records=1)

    assert waits.seconds == []


def test_a_server_that_cannot_be_reached_is_tried_again_and_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waits = Waits()
    url = f"postgresql://someone:secret@127.0.0.1:{port}/somewhere"

    with pytest.raises(WarehouseUnavailable, match=f"while connecting to someone@127.0.0.1:{port}/somewhere") as caught:
        sync(Warehouse(url, sleep=waits), FIRST, batch_records=1)

    assert len(waits.seconds) == ATTEMPTS - 1
    assert "secret" not in str(caught.value)


@dataclass
class ArmingSource(ListSource):
    """Tells the test when reading begins: everything before it has been prepared."""

    at_start: Callable[[], object] = lambda: None

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        self.at_start()
        yield from super().pages(request)


@pytest.mark.parametrize("mode", ["live", "backfill"])
def test_a_commit_whose_answer_is_lost_is_done_and_counted_once(
    warehouse_url: str, postgres_server: PostgresServer, mode: str
) -> None:
    waits = Waits()
    bad = record("bad", 1, data={"amount": "no number"})
    with commit_losing_proxy(postgres_server.socket_directory / ".s.PGSQL.5432") as proxy:
        url = psycopg.conninfo.make_conninfo(warehouse_url, host="127.0.0.1", port=proxy.port, sslmode="disable")
        source = ArmingSource([[*FIRST, bad], SECOND], at_start=proxy.arm)
        run_config = live_run_config(collection())
        if mode == "backfill":
            run_config = RunConfig(collection(), "backfill", None, partition_keys=("2024-01",), window_starts=(EPOCH,))

        outcome = run_sync(RecordStream(run_config, source), Warehouse(url, sleep=waits), run_id="run", batch_records=1)

    assert (proxy.lost, len(waits.seconds)) == (1, 1)
    assert ids_and_versions(warehouse_url) == [("a", 2, False), ("b", 1, False), ("c", 1, False)]
    assert merges(warehouse_url) == [
        {"fetched": 3, "inserted": 2, "rejected": 1, "created": 2},
        {"fetched": 2, "inserted": 1, "updated": 1, "created": 1},
    ]
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.updated, outcome.counts.rejected) == (5, 3, 1, 1)
    assert outcome.rows == row_count(warehouse_url) == 3
    assert query(warehouse_url, "select seen from sequin_pipeline.rejects") == [(1,)]
    assert query(warehouse_url, "select cursor from sequin_pipeline.cursors") == ([("2",)] if mode == "live" else [])
    assert source.commits == ["1", "2"]


def test_elements_of_a_commit_whose_answer_is_lost_are_counted_once(warehouse_url: str, postgres_server: PostgresServer) -> None:
    waits, of = Waits(), with_children(collection(columns=()))
    data = {"lines": {"data": [{"id": "a", "taxes": [{"rate": 1}, {"rate": 2}]}, {"id": "b"}]}, "labels": {"x": "y"}}
    fewer = {"lines": {"data": [{"id": "a", "taxes": [{"rate": 3}]}, {"id": "b"}]}}
    sync(warehouse_url, [record("r", 1, data=data)], of=of)
    with commit_losing_proxy(postgres_server.socket_directory / ".s.PGSQL.5432") as proxy:
        url = psycopg.conninfo.make_conninfo(warehouse_url, host="127.0.0.1", port=proxy.port, sslmode="disable")
        source = ArmingSource([[], [record("r", 2, data=fewer)], [record("s", 1, data=data)]], at_start=proxy.arm)

        outcome = sync(Warehouse(url, sleep=waits), of=of, source=source, batch_records=1)

    assert (proxy.lost, len(waits.seconds)) == (1, 1)
    assert outcome.children == {
        "demo.thing_line": ChildCounts(inserted=2, updated=1, unchanged=1),
        "demo.thing_line_tax": ChildCounts(inserted=2, updated=1, removed=1),
        "demo.thing_label": ChildCounts(inserted=1, removed=1),
    }
    assert outcome.child_rows == {"demo.thing_line": 4, "demo.thing_line_tax": 3, "demo.thing_label": 1}


@pytest.mark.parametrize("mode", ["live", "backfill"])
@pytest.mark.parametrize(
    ("way", "second", "expected"),
    [
        pytest.param("staged", SECOND, {"fetched": 2, "inserted": 1, "updated": 1, "created": 1}, id="merged"),
        pytest.param("asked first", SECOND[1:], {"fetched": 1, "inserted": 1, "created": 1}, id="copied"),
    ],
)
def test_a_commit_that_is_still_on_its_way_when_the_batch_is_tried_again_is_waited_for(
    warehouse_url: str,
    postgres_server: PostgresServer,
    mode: str,
    way: str,
    second: list[dict[str, object]],
    expected: dict[str, int],
) -> None:
    sync(Warehouse(warehouse_url), FIRST, run_id="before", batch_records=1)
    waits = Waits()
    with (
        commit_losing_proxy(postgres_server.socket_directory / ".s.PGSQL.5432") as proxy,
        ThreadPoolExecutor(1) as threads,
        going(way),
    ):
        proxy.delivers.clear()
        url = psycopg.conninfo.make_conninfo(warehouse_url, host="127.0.0.1", port=proxy.port, sslmode="disable")
        source = ArmingSource([FIRST, second] if mode == "live" else [second], at_start=proxy.arm)
        run_config = live_run_config(collection())
        if mode == "backfill":
            run_config = RunConfig(collection(), "backfill", None, partition_keys=("2024-01",), window_starts=(EPOCH,))
        running = threads.submit(run_sync, RecordStream(run_config, source), Warehouse(url, sleep=waits), run_id="run")
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event = %s", ["transactionid"])
        proxy.delivers.set()
        outcome = running.result()

    assert (proxy.lost, len(waits.seconds)) == (1, 1)
    assert ids_and_versions(warehouse_url) == [("a", expected.get("updated", 0) + 1, False), ("b", 1, False), ("c", 1, False)]
    assert merges(warehouse_url, "run") == [expected]
    assert (outcome.counts.inserted, outcome.counts.updated, outcome.rows) == (1, expected.get("updated", 0), 3)
