"""The made-up accounts of the sandbox, read as Stripe: everything that is there, and what then happens by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sequin_pipeline.sandbox.feeds import GeneratedFeed
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.records import ChangeSource
from sequin_pipeline.sandbox.server import running_app
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stripe.app import build_stripe_app
from sequin_pipeline.sandbox.stripe.books import Books
from sequin_pipeline.sandbox.stripe.clock import Clock
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.sandbox.builders import FiveCustomers
from tests.sources.stripe.sandboxed import HOUR_SECONDS, HandClock, SandboxShop
from tests.sources.stripe.shop import KEY
from tests.sources.stripe.syncing import Runs

CHANGES_A_SECOND = 10.0

CLASSES = (
    "product",
    "price",
    "customer",
    "subscription",
    "invoice",
    "invoiceitem",
    "charge",
    "payment_intent",
    "balance_transaction",
)
LARGEST = "6f0d1c52-41c6-4d0e-9a0b-2d6c1be0a101"
"""The sync whose account is the first one."""


@contextmanager
def living(source: ChangeSource, *, rate: float, state: Path | None = None) -> Iterator[SandboxShop]:
    hand = HandClock(int(datetime.now(UTC).timestamp()) - HOUR_SECONDS)
    clock = Clock(hand)
    books = Books(clock)
    journal = Journal(1, state)
    feed = GeneratedFeed(source, journal, rate=rate, clock=hand, follower=books.take)
    books.name_accounts(feed.syncs())
    with running_app(build_stripe_app(feed, books, Settings(token=KEY), clock), sends_date=False) as url:
        shop = SandboxShop(url, hand)
        try:
            yield shop
        finally:
            shop.close()
            journal.close()


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(1)


@pytest.fixture(scope="module")
def shop(population: Population) -> Iterator[SandboxShop]:
    """With changes for as long as a test sets its clock forward."""
    with living(population, rate=CHANGES_A_SECOND) as shop:
        yield shop


def existing(population: Population, name: str) -> set[str]:
    """The ids that the records API of the same seed begins with."""
    return {
        change.upstream_id
        for change in population.initial()
        if (change.sync.id, change.collection_id, change.deleted) == (LARGEST, f"stripe:{name}", False)
    }


def listed(shop: SandboxShop, name: str) -> dict[str, object]:
    """As a run stores it: active or not, canceled or not, and lists within objects whole."""
    listable = LISTABLE[name]
    found: dict[str, dict[str, object]] = {}
    for variant in listable.variants or ((),):
        found |= shop.listed(listable.path.removeprefix("/v1/"), **dict((*listable.params, *([variant] if variant else []))))
    for made in found.values():
        lines = made.get("lines")
        if isinstance(lines, dict) and lines["has_more"]:
            lines |= {"data": shop.get(f"invoices/{made['id']}/lines", limit=100)["data"], "has_more": False}
    return dict(found)


@pytest.mark.slow
def test_tables_are_what_the_made_up_account_holds_and_follow_what_happens_there(
    shop: SandboxShop, population: Population, warehouse_url: str
) -> None:
    runs = Runs(shop.url, warehouse_url, objects=shop.objects, now=shop.clock)
    before = {name: listed(shop, name) for name in CLASSES}
    for name in CLASSES:
        runs.sync(name)
    stored = {name: runs.live(name) for name in CLASSES}
    shop.clock.second += 60
    changed = {name: runs.sync(name).counts for name in CLASSES}
    after = {name: listed(shop, name) for name in CLASSES}

    assert stored == before
    assert all(before[name].keys() == existing(population, name) for name in ("product", "price", "customer", "invoice"))
    assert {name: runs.live(name) for name in CLASSES} == after
    assert {name: runs.deleted(name) for name in CLASSES} == {name: before[name].keys() - after[name].keys() for name in CLASSES}
    assert all(changed[name].inserted and changed[name].updated for name in ("customer", "subscription", "invoice", "charge"))
    assert changed["customer"].deleted > 0
    assert any(len(lines["data"]) > 10 for each in stored["invoice"].values() if (lines := each["lines"]))


def test_events_are_the_same_after_a_restart_and_go_on(tmp_path: Path) -> None:
    state = tmp_path / "state.json"

    with living(FiveCustomers(), rate=1, state=state) as shop:
        shop.clock.second += 7
        first = shop.listed("events")
    with living(FiveCustomers(), rate=1, state=state) as shop:
        again = shop.listed("events")
        shop.clock.second += 3
        later = shop.listed("events")

    assert len(first) == 7
    assert first == again
    assert len(later) == 10
    assert first.items() <= later.items()
