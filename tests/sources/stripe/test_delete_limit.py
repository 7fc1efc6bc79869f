"""What Stripe does not list any more, and no event told of, beyond the limit: nothing is marked, and everything else goes on."""

from collections.abc import Iterator

import pytest

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.sources.stripe.fake import START, FakeStripe, fake_stripe
from tests.sources.stripe.sandboxed import SandboxShop, sandbox_shop
from tests.sources.stripe.syncing import Runs, untold

DAY_SECONDS = 86_400


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        for number in range(260):
            fake.put("customer", f"cus_{number:05}", created=START - 1 - number * DAY_SECONDS, name=f"customer {number}")
        yield fake


@pytest.fixture
def runs(fake: FakeStripe, warehouse_url: str) -> Runs:
    return Runs(fake.url, warehouse_url, objects=LISTABLE, now=fake.clock)


def lose(fake: FakeStripe, count: int) -> set[str]:
    """So many are in no list any more, and no event has told of it; a day later the next listing is due."""
    lost = set(sorted(fake.listed("customer"))[:count])
    for customer in lost:
        fake.remove("customer", customer)
    fake.now += DAY_SECONDS + 1
    return lost


def test_the_sandbox_loses_most_customers_and_none_is_marked_until_that_is_accepted(warehouse_url: str) -> None:
    with sandbox_shop() as shop:
        runs = Runs(shop.url, warehouse_url, relist_hours=0, objects=untold(LISTABLE), now=shop.clock)
        gone = customers(shop, 120)
        stays = customers(shop, 20)
        runs.sync("customer")
        for customer in gone:
            shop.delete(f"customers/{customer}")
        shop.next_second()
        new = customers(shop, 1)

        held = runs.sync("customer")
        live = set(runs.live("customer"))
        accepted = runs.sync("customer", accept_deletes=120)

        assert [(one.rows, one.live_rows, one.limit) for one in held.held_deletes] == [(120, 141, 100)]
        assert live == {*gone, *stays, *new}
        assert (accepted.counts.deleted, accepted.held_deletes) == (120, ())
        assert (set(runs.live("customer")), runs.deleted("customer")) == ({*stays, *new}, set(gone))


def customers(shop: SandboxShop, count: int) -> list[str]:
    return [str(shop.post("customers", name=f"customer {number}")["id"]) for number in range(count)]


def test_runs_after_it_follow_events_and_accepting_it_lists_nothing_again(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("customer")
    lost = lose(fake, 120)
    held = runs.sync("customer")
    fake.now += 60
    fake.put("customer", "cus_new", event="customer.created", name="new")
    fake.put("customer", "cus_00200", event="customer.updated", name="renamed")
    later = runs.sync("customer")
    live, fake.asked = set(runs.live("customer")), []

    accepted = runs.sync("customer", accept_deletes=120)

    assert [one.rows for one in held.held_deletes] == [120]
    assert (later.counts.inserted, later.counts.updated, later.counts.deleted) == (1, 1, 0)
    assert live == {*fake.listed("customer"), *lost}
    assert "/v1/customers" not in fake.paths_asked()
    assert (accepted.counts.deleted, runs.live("customer"), runs.deleted("customer")) == (120, fake.listed("customer"), lost)


@pytest.mark.parametrize("told_by", ["an event", "a backfill"])
def test_what_is_seen_again_meanwhile_is_not_marked(fake: FakeStripe, runs: Runs, told_by: str) -> None:
    runs.sync("customer")
    before = fake.listed("customer")
    lost = sorted(lose(fake, 120))
    runs.sync("customer")
    back = lost[:30]
    for customer in back:
        fake.put("customer", customer, event="customer.updated" if told_by == "an event" else None, **before[customer])
    fake.deleted_customers.clear()
    fake.now += 60

    seen = runs.sync("customer") if told_by == "an event" else runs.backfill("customer")
    accepted = runs.sync("customer", accept_deletes=120)

    assert (seen.counts.updated, seen.counts.deleted) == (0, 0)
    assert accepted.counts.deleted == 90
    assert runs.live("customer") == fake.listed("customer")


@pytest.mark.parametrize(("times", "page"), [(1, 1), (2, 2)])
def test_deletes_accepted_while_the_next_listing_is_under_way_are_those_that_neither_has_seen(
    fake: FakeStripe, runs: Runs, times: int, page: int
) -> None:
    runs.sync("customer")
    before = fake.listed("customer")
    lost = sorted(lose(fake, 120))
    runs.sync("customer")
    for customer in lost[:60]:
        fake.put("customer", customer, **before[customer])
    fake.now += DAY_SECONDS + 1
    for _ in range(times):
        with pytest.raises(SourceUnavailable):
            runs.sync("customer", batch_records=1, last=page)

    accepted = runs.sync("customer", accept_deletes=120)

    assert accepted.held_deletes == ()
    assert (runs.live("customer"), runs.deleted("customer")) == (fake.listed("customer"), set(lost[60:]))


def test_a_list_that_comes_back_whole_ends_it_without_a_word(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("customer")
    before = fake.listed("customer")
    lose(fake, 120)
    held = runs.sync("customer")
    fake.kinds["/v1/customers"] |= before
    fake.now += DAY_SECONDS + 1

    again = runs.sync("customer")

    assert (len(held.held_deletes), again.held_deletes) == (1, ())
    assert (runs.live("customer"), runs.deleted("customer")) == (before, set())
