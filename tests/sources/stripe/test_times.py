"""The time of creation, by which objects belong to windows: which field tells it, and what happens where none does."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.sources.stripe.fake import START, TIMELESS, FakeStripe, fake_stripe
from tests.sources.stripe.syncing import Runs, stripe_collection
from tests.support.builders import live_run_config

HOUR = 3600
NOW = datetime.fromtimestamp(START, UTC)


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        yield fake


@pytest.fixture
def runs(fake: FakeStripe, warehouse_url: str) -> Runs:
    return Runs(fake.url, warehouse_url, objects=LISTABLE, now=fake.clock)


def read_window(runs: Runs, name: str, start: datetime | None, end: datetime) -> SyncOutcome:
    run_config = replace(live_run_config(stripe_collection(name)), mode="backfill", window=TimeWindow(start, end))
    return run_sync(RecordStream(run_config, runs.source()), Warehouse(runs.warehouse_url), run_id=f"{start} to {end}")


def times(runs: Runs, name: str) -> list[tuple[object, ...]]:
    """By object: its id, whether it is deleted, and its hours before START: of its entry into the stream, of its creation."""
    hours = "extract(epoch from to_timestamp(%s) - {})::float / 3600"
    with psycopg.connect(runs.warehouse_url) as connection:
        return connection.execute(
            f"select upstream_id, deleted, {hours.format('record_inserted_at')}, {hours.format('upstream_created_at')}"
            f" from {stripe_collection(name).table} order by 1",
            (START, START),
        ).fetchall()


@pytest.mark.parametrize("name", ["invoiceitem", "customer", "balance_transaction"])
def test_a_window_holds_what_its_class_says_was_created_in_it(fake: FakeStripe, runs: Runs, name: str) -> None:
    for hours in (1, 10, 19, 20, 30):
        fake.put(name, f"x_{hours:02}", created=START - hours * HOUR)

    read_window(runs, name, NOW - timedelta(hours=20), NOW - timedelta(hours=10))
    within = times(runs, name)
    runs.sync(name)

    assert within == [("x_19", False, 19, 19), ("x_20", False, 20, 20)]
    assert times(runs, name) == [(f"x_{hours:02}", False, hours, hours) for hours in (1, 10, 19, 20, 30)]


def test_events_of_invoice_items_tell_when_these_were_created(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("invoiceitem")
    fake.now += HOUR
    fake.put("invoiceitem", "ii_1", event="invoiceitem.created", created=START - HOUR)
    fake.put("invoiceitem", "ii_2", event="invoiceitem.created", created=START - 2 * HOUR)
    fake.remove("invoiceitem", "ii_2", event="invoiceitem.deleted")

    runs.sync("invoiceitem")

    assert times(runs, "invoiceitem") == [("ii_1", False, -1, 1), ("ii_2", True, -1, 2)]


def test_an_object_that_leaves_its_time_out_belongs_to_each_window_in_which_it_is_listed(fake: FakeStripe, runs: Runs) -> None:
    """Stripe's library has `created` of an account as optional."""
    fake.put("account", "acct_told", created=START - HOUR)
    fake.put("account", "acct_untold", created=None)
    del fake.kinds["/v1/accounts"]["acct_untold"]["created"]

    read_window(runs, "account", None, NOW)
    before = times(runs, "account")
    read_window(runs, "account", None, NOW + timedelta(hours=5))

    assert before == [("acct_told", False, 1, 1)]
    assert times(runs, "account") == [("acct_told", False, 1, 1), ("acct_untold", False, 0, None)]


@pytest.mark.parametrize("name", sorted(TIMELESS))
def test_a_window_of_the_past_is_refused_where_nothing_tells_what_it_holds(fake: FakeStripe, runs: Runs, name: str) -> None:
    fake.put(name, "x_1")

    with pytest.raises(SourceRefused) as caught:
        read_window(runs, name, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))

    assert str(caught.value) == (
        f"stripe:{name} has no time of creation, so that nobody can say which objects belong in a window that ended at "
        "2026-02-01 00:00 UTC: sync it without windows, or ask for a window that reaches to the present, which holds all of them"
    )
    assert fake.asked == []
    assert times(runs, name) == []


@pytest.mark.parametrize("name", ["payment_link", "tax_code", "terminal.reader"])
def test_a_window_that_reaches_to_the_present_holds_all_that_tells_no_time(fake: FakeStripe, runs: Runs, name: str) -> None:
    fake.put(name, "x_1")
    fake.put(name, "x_2")

    read_window(runs, name, NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    window = times(runs, name)
    fake.now += HOUR
    runs.sync(name)

    assert window == [("x_1", False, 0, None), ("x_2", False, 0, None)]
    assert times(runs, name) == window
