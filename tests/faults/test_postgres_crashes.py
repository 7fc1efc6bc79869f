"""The server, or one of its processes, ends in the middle of a batch: the batch is written once, by this run or by the next."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import WarehouseUnavailable
from sequin_pipeline.postgres.warehouse import ATTEMPTS, Warehouse
from tests.faults.faulty_api import things
from tests.faults.landing import KEPT, THING, Landing, assert_says
from tests.faults.phases import PHASES, HeldBatch, held_in
from tests.support.builders import ListSource
from tests.support.fold import Record
from tests.support.postgres import PostgresServer
from tests.support.reading import are_gone, query
from tests.support.waits import Waits

JSON = replace(THING, data_type="json")
FIRST, SECOND = things(1, 2), [*things(3, 4), {**things(1, 1)[0], "updated_idx": 9, "marker": "y"}]


def with_lists(records: Sequence[Record]) -> list[Record]:
    """The same with elements for child tables: r1 gets another list with its second version."""
    lists = [
        {"data": [{"id": "a", "amount": int(str(one["updated_idx"]))}, {"id": f"of {one['updated_idx']}"}]} for one in records
    ]
    return [{**one, "data": {"status": "active", "amount": 1, "lines": found}} for one, found in zip(records, lists, strict=True)]


def batches(of: Collection) -> tuple[list[Record], list[Record]]:
    """Two batches for it."""
    return (with_lists(FIRST), with_lists(SECOND)) if of.children else (FIRST, SECOND)


@pytest.fixture
def landing(make_own_database: Callable[[], str], request: pytest.FixtureRequest) -> Landing:
    """A table that holds the first batch, of the collection that a test names."""
    of = getattr(request, "param", THING)
    landing = Landing(make_own_database(), of)
    first, _ = batches(of)
    landing.sync(ListSource([first]))
    landing.deliver(*first)
    return landing


def terminate(server: PostgresServer, held: HeldBatch, pid: int) -> None:
    # It ends at once, but for one that waits to commit: dropping its temporary tables has to be committed too.
    query(held.url, "select pg_terminate_backend(%s)", pid)
    are_gone(held.url, [pid], within_seconds=0.3)
    held.let_go()


def kill(server: PostgresServer, held: HeldBatch, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    held.wait_for_crash()
    server.wait_until_ready()
    held.let_go()


def restart(server: PostgresServer, held: HeldBatch, pid: int) -> None:
    server.crash()
    server.start()
    held.let_go()


FAULTS = {"backend terminated": terminate, "backend killed": kill, "immediate restart": restart}


@pytest.mark.parametrize(
    ("fault", "phase", "landing"),
    [
        *(pytest.param(fault, phase, THING, id=f"{name} in {phase}") for name, fault in FAULTS.items() for phase in PHASES),
        *(pytest.param(terminate, phase, JSON, id=f"backend terminated in {phase}, data as json") for phase in PHASES),
        *(pytest.param(terminate, phase, KEPT, id=f"backend terminated in {phase}, children and history") for phase in PHASES),
    ],
    indirect=["landing"],
)
def test_batch_that_a_dying_server_interrupts_is_written_once(
    own_server: PostgresServer, landing: Landing, fault: Callable[[PostgresServer, HeldBatch, int], None], phase: str
) -> None:
    first, second = batches(landing.of)
    fixed = threading.Event()
    waits = Waits(meanwhile=fixed.wait)
    with held_in(phase, landing.url) as held, ThreadPoolExecutor(1) as threads:
        try:
            warehouse = Warehouse(held.url, sleep=waits)
            running = threads.submit(landing.sync, ListSource([first, second]), warehouse=warehouse)

            fault(own_server, held, held.arrived())
        finally:
            fixed.set()
        outcome = running.result()

    landing.deliver(*second)
    landing.check(cursor="2")
    assert len(waits.seconds) == 1
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.updated, outcome.rows) == (3, 2, 1, 4)
    if landing.of == JSON:
        texts = query(landing.url, "select data::text from demo.thing order by id")
        assert texts == [(f'{{"status": "active", "amount": {number}}}',) for number in (1, 2, 3, 4)]


def test_server_that_stays_away_ends_the_run_and_the_next_one_goes_on(own_server: PostgresServer, landing: Landing) -> None:
    waits = Waits()
    with held_in("merge", landing.url) as held, ThreadPoolExecutor(1) as threads:
        warehouse = Warehouse(held.url, sleep=waits)
        running = threads.submit(landing.sync, ListSource([FIRST, SECOND]), warehouse=warehouse)
        held.arrived()
        own_server.crash()
        with pytest.raises(WarehouseUnavailable) as caught:
            running.result()
        own_server.start()

    landing.check(cursor="1")
    landing.sync(ListSource([FIRST, SECOND]))

    assert_says(
        str(caught.value),
        r"while connecting to postgres@\S+/test_\d+, Postgres said 'connection (failed|is bad): .*'; this may be temporary: run again\.",
    )
    assert len(waits.seconds) == ATTEMPTS - 1
    landing.deliver(*SECOND)
    landing.check(cursor="2")
