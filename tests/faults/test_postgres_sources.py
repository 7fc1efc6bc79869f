"""Postgres goes away under each source: what was read is stored once, and what a queue handed out is acknowledged only then."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sequin_pipeline.errors import WarehouseUnavailable
from sequin_pipeline.postgres.warehouse import ATTEMPTS, Warehouse
from tests.faults.every_place import EACH, OTHERS
from tests.faults.phases import HeldBatch, held_in
from tests.faults.places import Place, deliver_rest
from tests.faults.test_postgres_crashes import kill, restart, terminate
from tests.support.postgres import PostgresServer
from tests.support.racing import wait_for_activity
from tests.support.reading import query
from tests.support.reading import terminate as end_sessions
from tests.support.waits import Waits


@pytest.mark.parametrize("place", OTHERS, indirect=True)
@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        pytest.param(fault, phase, id=f"{name} in {phase}")
        for name, fault in (("backend terminated", terminate), ("backend killed", kill), ("immediate restart", restart))
        for phase in ("ledger", "commit")
    ],
)
def test_batch_of_any_source_that_a_dying_server_interrupts_is_written_once(
    own_server: PostgresServer, place: Place, fault: Callable[[PostgresServer, HeldBatch, int], None], phase: str
) -> None:
    fixed = threading.Event()
    waits = Waits(meanwhile=fixed.wait)

    with held_in(phase, place.landing.url) as held, ThreadPoolExecutor(1) as threads:
        try:
            running = threads.submit(place.sync, warehouse=Warehouse(held.url, sleep=waits))
            fault(own_server, held, held.arrived())
        finally:
            fixed.set()
        outcome = running.result()

    deliver_rest(place)
    place.check(6)
    assert len(waits.seconds) == 1
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.rejected) == (4 + place.again, 3, 1)


@pytest.mark.parametrize("place", EACH, indirect=True)
def test_connection_lost_while_a_source_is_waited_for_is_opened_again(place: Place) -> None:
    """Between two batches, of a page each."""
    waits, [(committed,)] = Waits(), query(place.landing.url, "select count(*) from sequin_pipeline.merges")

    def lose(number: int) -> None:
        if number == 1:
            condition = f"(select count(*) from sequin_pipeline.merges) > {committed} limit 1"
            wait_for_activity(place.landing.url, condition, [])
            end_sessions(place.landing.url, "application_name = 'sequin_pipeline'")

    outcome = place.sync(happens=lose, warehouse=Warehouse(place.landing.url, sleep=waits), batch_records=1)

    deliver_rest(place)
    place.check(6)
    assert len(waits.seconds) >= 1
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.rejected) == (4 + place.again, 3, 1)


@pytest.mark.parametrize("place", EACH, indirect=True)
def test_server_that_stays_away_under_any_source_loses_nothing(own_server: PostgresServer, place: Place) -> None:
    """And of a queue nothing is acknowledged: it comes again, to the next run."""
    waits = Waits()

    with held_in("ledger", place.landing.url) as held, ThreadPoolExecutor(1) as threads:
        running = threads.submit(place.sync, warehouse=Warehouse(held.url, sleep=waits))
        held.arrived()
        own_server.crash()
        with pytest.raises(WarehouseUnavailable):
            running.result()
        own_server.start()
    place.check(2)
    place.sync()

    assert len(waits.seconds) == ATTEMPTS - 1
    deliver_rest(place)
    place.check(6)
