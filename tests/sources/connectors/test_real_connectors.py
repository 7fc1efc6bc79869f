"""Real connectors against an API on loopback: the runner of Airbyte's declarative manifests, and a tap on Meltano's SDK."""

import json
import logging
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequin_pipeline.catalog import Column, SourceDeclaration, parse_path
from sequin_pipeline.errors import SourceError
from sequin_pipeline.reads import Connector, StreamRead, Variable
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.source import ConnectorSource, open_connector
from tests.sources.connectors.child import SECRET, THING, never
from tests.sources.connectors.shop import Shop, running_shop
from tests.support.checkout import CHECKOUT
from tests.support.reading import query, rows
from tests.support.syncing import sync

BIN = CHECKOUT / ".venv-connectors" / "bin"
MANIFEST = Path(__file__).parent / "orders.yaml"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 2, 1, tzinfo=UTC)
ISSUE = replace(THING, columns=(Column("title", parse_path("title"), "text"),))

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not (BIN / "tap-github").exists() and os.environ.get("CONNECTORS_REQUIRED") != "1",
        reason="`make connectors` installs the connectors, which the registry could not serve, or nobody has asked for",
    ),
]


@pytest.fixture
def shop():
    with running_shop() as shop:
        yield shop


@dataclass
class Clock:
    """The source's own, which a test sets. One source serves all runs of a test, so that the catalog is asked for once."""

    at: datetime = START

    def __call__(self) -> datetime:
        return self.at


def declarative(shop: Shop, clock: Clock) -> ConnectorSource:
    """The stream of our manifest, by the runner that Airbyte's CDK installs."""
    connector = Connector(
        (str(BIN / "source-declarative-manifest"),),
        {"url": shop.url, "token": Variable("CHILD_TOKEN")},
        ("--manifest-path", str(MANIFEST)),
        {"thing": StreamRead("orders")},
    )
    return opened("airbyte", connector, clock)


def tap(shop: Shop, clock: Clock) -> ConnectorSource:
    """Without a token, since with one it asks api.github.com for its limits, whatever address it is given."""
    config = {"repositories": ["octo/alpha"], "api_url_base": shop.url, "start_date": "2025-01-01T00:00:00Z"}
    return opened("singer", Connector((str(BIN / "tap-github"),), config, reads={"thing": StreamRead("issues")}), clock)


def opened(kind: str, connector: Connector, clock: Clock) -> ConnectorSource:
    environment = {**os.environ, "CHILD_TOKEN": SECRET, "NO_PROXY": "127.0.0.1"}
    source = open_connector(SourceDeclaration(kind, connector=connector), environment)
    return ConnectorSource(source.feed, source.identity, now=clock)


def amounts(url: str) -> dict[str, object]:
    return dict(rows(url, "upstream_id", "amount", table="demo.thing where not deleted"))


def test_declarative_manifest_is_read_from_its_state_on_and_listed_once_a_day(warehouse_url: str, shop: Shop) -> None:
    for day in range(1, 6):
        shop.put(f"o{day}", day)
    clock = Clock()
    source = declarative(shop, clock)
    first = sync(warehouse_url, of=THING, source=source)
    shop.put("o1", 8, 7)
    clock.at = START + HOUR
    second = sync(warehouse_url, of=THING, source=source)
    del shop.orders["o4"]
    clock.at = START + DAY
    listing = sync(warehouse_url, of=THING, source=source)

    assert (first.counts.inserted, first.counts.fetched, first.notes) == (5, 5, ())
    assert (second.counts.updated, second.counts.unchanged) == (1, 1)
    assert (listing.counts.deleted, amounts(warehouse_url)) == (1, {"o1": 7, "o2": 1, "o3": 1, "o5": 1})
    assert shop.tokens == {f"Bearer {SECRET}"}
    # What the page on sources says of the engine: a null at the top is gone.
    [(data,)] = query(warehouse_url, "select data from demo.thing where upstream_id = 'o3'")
    assert data == {"id": "o3", "updated": "2026-01-03T00:00:00Z", "status": "active", "amount": 1}


def test_state_that_the_cdk_sends_behind_its_failure_is_not_kept(
    warehouse_url: str, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """airbyte-cdk 7.39.1 says INCOMPLETE, and sends a state after it."""
    for day in range(1, 6):
        shop.put(f"o{day}", day)
    shop.fails_at = 1

    source = declarative(shop, Clock())

    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as failure:
        sync(warehouse_url, of=THING, source=source)
    stored = query(warehouse_url, "select cursor from sequin_pipeline.cursors")
    shop.fails_at = None
    sync(warehouse_url, of=THING, source=source)

    assert "404" in str(failure.value)
    assert all("state" not in json.loads(cursor) for (cursor,) in stored if cursor)
    assert amounts(warehouse_url) == {"o1": 1, "o2": 1, "o3": 1, "o4": 1, "o5": 1}
    assert SECRET not in caplog.text + str(failure.value)


def test_declarative_manifest_checks_its_configuration(shop: Shop) -> None:
    shop.put("o1", 1)
    good = declarative(shop, Clock()).feed.protocol
    assert isinstance(good, Airbyte)

    reaches = good.check(never())
    shop.fails_at = 0
    refusal = good.check(never())

    assert reaches is None
    assert refusal is not None
    assert "404" in refusal


def test_tap_is_read_from_its_state_on_and_listed_once_a_day(warehouse_url: str, shop: Shop) -> None:
    for number in (1, 2, 3):
        shop.put_issue(number, number)
    clock = Clock()
    source = tap(shop, clock)
    first = sync(warehouse_url, of=ISSUE, source=source)
    shop.put_issue(1, 9, "changed")
    clock.at = START + HOUR
    second = sync(warehouse_url, of=ISSUE, source=source)
    del shop.issues[3]
    clock.at = START + DAY
    listing = sync(warehouse_url, of=ISSUE, source=source)

    titles = dict(rows(warehouse_url, "upstream_id", "title", table="demo.thing where not deleted"))
    assert (first.counts.inserted, second.counts.updated, listing.counts.deleted) == (3, 1, 1)
    assert titles == {"1": "changed", "2": "title"}
    # What the page on sources says of the engine: a key that the tap's schema lacks is gone.
    [(data,)] = query(warehouse_url, "select data from demo.thing where upstream_id = '2'")
    assert ("ours" in data, data["body"], data["number"]) == (False, None, 2)
