"""Postgres goes away under a connector: what it has sent is stored once, and no state is kept before the rows in front of it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sequin_pipeline.errors import WarehouseUnavailable
from sequin_pipeline.postgres.warehouse import ATTEMPTS, Warehouse
from sequin_pipeline.reads import StreamRead
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.feed import ConnectorFeed
from sequin_pipeline.sources.connectors.source import ConnectorSource
from tests.faults.connector_world import OBSERVED, SMALL
from tests.faults.landing import Landing
from tests.faults.phases import held_in
from tests.faults.places import Happens
from tests.sources.connectors.child import START, Step, installed, thing
from tests.support.between import Between, nothing
from tests.support.postgres import PostgresServer
from tests.support.racing import wait_for_activity
from tests.support.reading import query, terminate
from tests.support.waits import Waits

SENT = [thing(name, second) for second, name in enumerate("abcdef", 1)]


def sending(folder: Path, happens: Happens = nothing) -> Between:
    """A connector that sends six objects, with a state behind each second one; they come two by two."""
    read: list[Step] = []
    for number, one in enumerate(SENT, 1):
        read.append(["records", "thing", one])
        if number % 2 == 0:
            read.append(["state", "thing", {"version": one["updated"]}, 2])
    feed = ConnectorFeed(
        Airbyte(installed(folder, {"read": [*read, ["status", "thing", "COMPLETE"]]}, limits=SMALL)),
        {"thing": StreamRead("thing")},
        page_records=2,
    )
    return Between(ConnectorSource(feed, SourceIdentity("airbyte", "child"), now=lambda: START), happens)


def stored(url: str) -> list[tuple[object, ...]]:
    return query(url, "select upstream_id, amount from demo.thing order by 1")


WHOLE = [(name, 1) for name in "abcdef"]


def test_connection_lost_while_a_connector_is_waited_for_is_opened_again(warehouse_url: str, tmp_path: Path) -> None:
    waits, landing = Waits(), Landing(warehouse_url, of=OBSERVED)

    def lose(number: int) -> None:
        if number == 1:
            wait_for_activity(landing.url, "(select count(*) from sequin_pipeline.merges) > 0 limit 1", [])
            terminate(landing.url, "application_name = 'sequin_pipeline'")

    outcome = landing.sync(sending(tmp_path, lose), warehouse=Warehouse(landing.url, sleep=waits), batch_records=1)

    assert stored(landing.url) == WHOLE
    assert len(waits.seconds) >= 1
    assert (outcome.counts.fetched, outcome.counts.inserted) == (6, 6)


def test_server_that_stays_away_under_a_connector_loses_nothing(own_server: PostgresServer, tmp_path: Path) -> None:
    waits, landing = Waits(), Landing(own_server.url(own_server.make_database()), of=OBSERVED)
    landing.sync(sending(tmp_path))
    (tmp_path / "later").mkdir()
    later = sending(tmp_path / "later")

    with held_in("ledger", landing.url) as held, ThreadPoolExecutor(1) as threads:
        running = threads.submit(landing.sync, later, warehouse=Warehouse(held.url, sleep=waits))
        held.arrived()
        own_server.crash()
        with pytest.raises(WarehouseUnavailable):
            running.result()
        own_server.start()
    again = landing.sync(sending(tmp_path))

    assert len(waits.seconds) == ATTEMPTS - 1
    assert stored(landing.url) == WHOLE
    assert (again.counts.inserted, again.counts.unchanged) == (0, 6)
