"""Against a Stripe that nobody here wrote, and the sandbox's: after each step the tables are what the server itself lists, with
tombstones for the rest."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import ReadRequest, TimeWindow
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.sources.stripe.sandboxed import SandboxShop, sandbox_shop
from tests.sources.stripe.shop import Shop, localstripe
from tests.sources.stripe.syncing import Runs, untold
from tests.support.checkout import CHECKOUT

PATHS = {
    "customer": "customers",
    "product": "products",
    "plan": "plans",
    "subscription": "subscriptions",
    "invoice": "invoices",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Shop]:
    with localstripe() as shop:
        yield shop


@pytest.fixture
def localstripe_shop(server: Shop) -> Shop:
    """Emptied."""
    server._client.delete("/_config/data")
    return server


@pytest.fixture(params=["localstripe", "sandbox"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    if request.param == "localstripe":
        yield request.getfixturevalue("localstripe_shop")
    else:
        with sandbox_shop() as shop:
            yield shop


def listed(shop: Shop, name: str) -> dict[str, object]:
    return dict(shop.listed(PATHS[name], **({"status": "all"} if name == "subscription" else {})))


def kill_once_stored(*arguments: str) -> None:
    """A run in a process of its own, killed between pages when it has stored so many rows: those of sync_process.py."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sources.stripe.sync_process", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == "stripe/customer stands still\n"


def test_tables_are_what_the_server_lists_after_every_step_with_events_and_without(shop: Shop, warehouse_url: str) -> None:
    runs = Runs(shop.url, warehouse_url, relist_hours=0, objects=shop.objects)
    seen: dict[str, set[str]] = {name: set() for name in PATHS}

    def check() -> None:
        shop.next_second()
        for name in PATHS:
            runs.sync(name)
            expected = listed(shop, name)
            seen[name] |= set(expected)
            assert runs.live(name) == expected
            assert runs.deleted(name) == seen[name] - set(expected)

    check()
    product = shop.post("products", name="Tea", type="service")["id"]
    plans = [
        shop.post("plans", id=f"plan-{amount}", product=product, amount=amount, currency="eur", interval="month", nickname="a")[
            "id"
        ]
        for amount in (500, 900)
    ]
    customers = [shop.post("customers", name=f"customer {number}")["id"] for number in range(3)]
    check()
    subscriptions = [shop.subscribe(customer, plans[0]) for customer in customers[:2]]
    check()
    shop.post(f"customers/{customers[2]}", name="renamed")
    shop.post(f"products/{product}", name="Coffee")  # leaves no event
    shop.post(f"plans/{plans[1]}", nickname="b")  # leaves no event
    check()
    shop.delete(f"subscriptions/{subscriptions[0]}")
    shop.delete(f"customers/{customers[2]}")
    shop.delete(f"plans/{plans[1]}")  # leaves no event
    check()
    lonely = shop.post("products", name="Cake", type="service")["id"]
    check()
    shop.delete(f"products/{lonely}")  # leaves no event
    check()
    assert {name: len(runs.deleted(name)) for name in PATHS} == {
        "customer": 1,
        "product": 1,
        "plan": 1,
        "subscription": 0,
        "invoice": 0,
    }


def test_between_listings_events_say_what_was_created_changed_and_deleted(shop: Shop, warehouse_url: str) -> None:
    runs = Runs(shop.url, warehouse_url, objects=shop.objects)
    first, second = (shop.post("customers", name=name)["id"] for name in ("first", "second"))
    runs.sync("customer")
    shop.next_second()
    shop.post(f"customers/{first}", name="changed")
    third = shop.post("customers", name="third")["id"]
    shop.delete(f"customers/{second}")

    outcome = runs.sync("customer")

    assert runs.live("customer") == listed(shop, "customer")
    assert set(runs.live("customer")) == {first, third}
    assert runs.deleted("customer") == {second}
    assert (outcome.counts.inserted, outcome.counts.updated, outcome.counts.deleted) == (1, 1, 1)


def test_a_listing_of_what_has_not_changed_writes_nothing(shop: Shop, warehouse_url: str) -> None:
    runs = Runs(shop.url, warehouse_url, relist_hours=0, objects=shop.objects)
    for number in range(5):
        shop.post("customers", name=f"customer {number}")
    runs.sync("customer")
    shop.next_second()

    counts = runs.sync("customer").counts

    assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)
    assert counts.unchanged >= 5


def test_a_removed_row_comes_back_only_with_its_object(shop: Shop, warehouse_url: str) -> None:
    runs = Runs(shop.url, warehouse_url, relist_hours=0, objects=shop.objects, on_delete="remove")
    product = shop.post("products", name="Tea", type="service")["id"]
    shop.post("plans", id="gold", product=product, amount=500, currency="eur", interval="month")
    runs.sync("plan")
    shop.next_second()
    shop.delete("plans/gold")
    runs.sync("plan")
    assert (runs.live("plan"), runs.deleted("plan")) == ({}, set())
    shop.next_second()
    shop.post("plans", id="gold", product=product, amount=700, currency="eur", interval="month")

    runs.sync("plan")

    assert runs.live("plan") == listed(shop, "plan")


def test_many_objects_of_one_second_are_all_read_though_every_run_is_broken_off(shop: Shop, warehouse_url: str) -> None:
    runs = Runs(shop.url, warehouse_url, objects=shop.objects)
    runs.sync("customer")
    with shop.standing_clock():
        for number in range(250):
            shop.post("customers", name=f"customer {number}")

    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            runs.sync("customer", batch_records=1, last=1)
    runs.sync("customer", batch_records=1)

    assert len({each["created"] for each in shop.listed("customers").values()}) == 1
    assert runs.live("customer") == listed(shop, "customer")


@pytest.mark.parametrize("told", [(), ("untold",)], ids=["told by events", "listed"])
def test_many_objects_of_one_second_are_all_read_though_the_process_is_killed_between_pages(
    shop: Shop, warehouse_url: str, told: tuple[str, ...]
) -> None:
    runs = Runs(shop.url, warehouse_url, objects=untold(shop.objects) if told else shop.objects)
    if not told:
        runs.sync("customer")
    for number in range(350):
        shop.post("customers", name=f"customer {number}")

    options = (*told, *(("whole",) if isinstance(shop, SandboxShop) else ()))
    kill_once_stored(shop.url, warehouse_url, "1", *options)
    stored = len(runs.live("customer"))
    kill_once_stored(shop.url, warehouse_url, "101", *options)
    outcome = runs.sync("customer")

    assert 0 < stored < 350
    assert runs.live("customer") == listed(shop, "customer")
    assert (len(runs.live("customer")), outcome.counts.deleted) == (350, 0)


def test_a_list_that_silently_begins_again_ends_in_a_bounded_number_of_requests(
    localstripe_shop: Shop, warehouse_url: str
) -> None:
    """localstripe answers with its first page when the object that the next one is to follow has been deleted."""
    shop = localstripe_shop
    runs = Runs(shop.url, warehouse_url, objects=shop.objects)
    ids = [shop.post("customers", name=f"customer {number}")["id"] for number in range(250)]

    def delete(number: int) -> None:
        if number == 1:
            shop.delete(f"customers/{ids[99]}")

    outcome = runs.sync("customer", happens=delete, source=runs.source(relist_hours=24))

    assert runs.live("customer") == listed(shop, "customer")
    assert runs.deleted("customer") == {ids[99]}
    assert outcome.counts.duplicate + outcome.counts.unchanged >= 99
    asked_for_lists = outcome.pages
    assert asked_for_lists < 20


@pytest.mark.parametrize(
    "fault",
    [
        "status:429,first=3",
        "status:429,at=3,retry-after=1",
        "status:503,every=4",
        "cut:50,every=4",
        "json-cut,every=4",
        "empty-page,at=4",
        "reset-before,every=4",
    ],
)
def test_what_goes_wrong_at_the_sandbox_is_asked_for_again_and_loses_nothing(fault: str, warehouse_url: str) -> None:
    with sandbox_shop() as shop:
        for number in range(120):
            shop.post("customers", created=shop.clock.second - number * 86_400)
        runs = Runs(shop.url, warehouse_url, objects=shop.objects)
        shop.ask_for_faults(fault)
        listed_under_faults = runs.sync("customer")
        shop.ask_for_faults()
        shop.next_second()
        for number in range(5):
            shop.post(f"customers/customer_{number + 1:05}", name="changed")
        shop.ask_for_faults(fault)
        runs.sync("customer")
        shop.ask_for_faults()

        assert runs.live("customer") == listed(shop, "customer")
        assert (len(runs.live("customer")), runs.deleted("customer")) == (120, set())
        assert listed_under_faults.retries > 0


@pytest.mark.parametrize(
    ("name", "time"),
    [("customer", "created"), ("invoiceitem", "date"), ("balance_transaction", "created")],
    ids=lambda text: text,
)
def test_a_window_at_the_sandbox_holds_what_was_created_in_it(name: str, time: str) -> None:
    with sandbox_shop() as shop:
        now = shop.clock.second
        for hours in (1, 10, 19, 20, 30):
            shop.post(LISTABLE[name].path.removeprefix("/v1/"), id=f"x_{hours}", **{time: now - hours * 3600})
        window = TimeWindow(datetime.fromtimestamp(now - 20 * 3600, UTC), datetime.fromtimestamp(now - 10 * 3600, UTC))
        request = ReadRequest(frozenset({f"stripe:{name}"}), window=window)
        pages = list(Runs(shop.url, "", objects=shop.objects).source().pages(request))

    found = {record["upstream_id"] for page in pages for record in json.loads(page.records)}
    assert found == {"x_19", "x_20"}
