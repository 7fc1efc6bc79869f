"""What is read of Stripe: everything, each change, no deletion missed, at one API version, within its limits, in any order."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from sequin_pipeline.catalog import Column, TableName, UnmanagedTable, parse_path
from sequin_pipeline.errors import CursorRefused, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.news import Due, look_for_news
from sequin_pipeline.sources import ReadRequest, TimeWindow
from sequin_pipeline.sources.stripe.objects import LISTABLE
from sequin_pipeline.sources.stripe.source import StripeSource
from tests.sources.stripe.fake import START, FakeStripe, fake_stripe
from tests.sources.stripe.shop import ACCOUNT, KEY
from tests.sources.stripe.syncing import FAST, PATIENT, Runs, stripe_collection

YEAR = 365 * 86_400


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        yield fake


@pytest.fixture
def runs(fake: FakeStripe, warehouse_url: str) -> Runs:
    """With the clock of the fake, so that nothing has to wait for the real one."""
    return Runs(fake.url, warehouse_url, objects=LISTABLE, now=fake.clock)


def fill(fake: FakeStripe, count: int, *, seconds: int = 3 * YEAR) -> None:
    """Customers created evenly over the last so many seconds, and no events of them."""
    for number in range(count):
        fake.put("customer", f"cus_{number:05}", created=START - 1 - number * seconds // count, name=f"customer {number}")


def test_an_initial_load_reads_windows_beside_each_other_and_each_object_once(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 1_500)

    outcome = runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")
    assert (outcome.counts.fetched, outcome.counts.inserted) == (1_500, 1_500)
    assert 15 <= fake.paths_asked().count("/v1/customers") <= 60
    assert fake.most_at_once > 1


def test_many_objects_of_one_second_are_all_read(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 250, seconds=0)

    runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")


def test_a_listing_broken_off_anywhere_goes_on_behind_its_last_batch_and_loses_nothing(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 250, seconds=0)
    for number in range(250):
        fake.put("customer", f"cus_old_{number:05}", created=START - YEAR - number * 3600)

    for last in (1, 2, 1):
        with pytest.raises(SourceUnavailable):
            runs.sync("customer", batch_records=1, last=last)
    stored = len(runs.live("customer"))
    outcome = runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")
    assert outcome.counts == Counts(fetched=500 - stored, inserted=500 - stored, created=500 - stored)


def test_events_broken_off_between_pages_lose_nothing(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("customer")
    fake.now += 60
    for number in range(250):
        fake.put("customer", f"cus_{number:05}", event="customer.created")
    fake.now += 3600

    with pytest.raises(SourceUnavailable):
        runs.sync("customer", batch_records=1, last=1)
    runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")


def test_changes_of_one_second_end_in_the_newest_state_whatever_their_order(fake: FakeStripe, runs: Runs) -> None:
    for name in ("a", "b", "c"):
        fake.put("price", name, active=True)
    runs.sync("price")
    fake.now += 60
    fake.put("price", "a", event="price.updated", active=False)
    fake.put("price", "a", event="price.updated", active=True, nickname="last")
    fake.remove("price", "b", event="price.deleted")
    fake.put("price", "b", event="price.created", active=True, nickname="again")
    fake.put("price", "c", event="price.updated", nickname="short-lived")
    fake.remove("price", "c", event="price.deleted")
    fake.events.reverse()

    runs.sync("price")

    assert runs.live("price") == fake.listed("price")
    assert runs.deleted("price") == {"c"}


def test_a_deletion_that_an_event_tells_of_leaves_the_times_of_the_object(
    fake: FakeStripe, runs: Runs, warehouse_url: str
) -> None:
    fake.put("price", "a", created=START - 60)
    runs.sync("price")
    fake.now += 60
    fake.remove("price", "a", event="price.deleted")

    runs.sync("price")

    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute("select deleted, extract(epoch from upstream_created_at)::int from stripe.price").fetchall()
    assert rows == [(True, START - 60)]


def test_an_event_late_in_the_list_is_not_missed(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("customer")
    fake.now += 60
    fake.put("customer", "cus_1", event="customer.created")
    runs.sync("customer")
    fake.put("customer", "cus_2", event="customer.created")
    fake.now += 60

    runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")


def test_a_deletion_without_an_event_is_found_by_the_next_listing(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 250)
    runs.sync("customer")
    fake.remove("customer", "cus_00007")
    fake.now += 3600
    assert runs.sync("customer").counts.deleted == 0
    fake.now += 24 * 3600

    outcome = runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")
    assert runs.deleted("customer") == {"cus_00007"}
    assert (outcome.counts.deleted, outcome.counts.unchanged, outcome.counts.updated) == (1, 249, 0)
    assert "main: 1 records that are listed no longer" in outcome.notes


def test_what_is_listed_only_while_it_is_open_is_not_taken_for_deleted_when_it_closes(fake: FakeStripe, runs: Runs) -> None:
    fake.put("review", "prv_1", open=True)
    runs.sync("review")
    fake.now += 3600
    closed = fake.put("review", "prv_1", event="review.closed", open=False)
    runs.sync("review")
    fake.remove("review", "prv_1")
    fake.now += 25 * 3600

    runs.sync("review")

    assert (runs.live("review"), runs.deleted("review")) == ({"prv_1": closed}, set())


def test_a_listing_broken_off_marks_nothing_before_it_is_complete_and_everything_then(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 450)
    runs.sync("customer")
    for number in range(0, 450, 3):
        fake.remove("customer", f"cus_{number:05}")
    fake.now += 25 * 3600

    with pytest.raises(SourceUnavailable):
        runs.sync("customer", batch_records=1, last=2)
    marked_before = runs.deleted("customer")
    runs.sync("customer", batch_records=1, accept_deletes=150)

    assert marked_before == set()
    assert runs.live("customer") == fake.listed("customer")
    assert runs.deleted("customer") == {f"cus_{number:05}" for number in range(0, 450, 3)}


def test_a_record_that_cannot_be_stored_is_one_open_reject_however_often_it_is_listed(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 5)
    runs.sync("customer")
    good = fake.listed("customer")["cus_00001"]["name"]
    fake.put("customer", "cus_00001", name="nul \u0000")
    open_rejects = []

    for _ in range(3):
        fake.now += 25 * 3600
        open_rejects.append(runs.sync("customer").open_rejects)
    fake.put("customer", "cus_00001", name=good)
    fake.now += 25 * 3600
    fixed = runs.sync("customer")

    assert open_rejects == [1, 1, 1]
    assert (fixed.open_rejects, fixed.counts.unchanged) == (0, 5)
    assert runs.live("customer") == fake.listed("customer")


def test_a_table_of_an_application_without_columns_for_it_takes_what_is_listed_and_is_not_swept(
    fake: FakeStripe, runs: Runs, warehouse_url: str
) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute(
            "create table customer (id text primary key, name text, seen_at bigint not null, gone boolean not null)"
        )
    table = UnmanagedTable({"id": "id", "name": "name", "updated_idx": "seen_at", "deleted": "gone"}, ("id",))
    columns = (Column("name", parse_path("name"), "text"),)
    of = replace(stripe_collection("customer", columns=columns), table=TableName("public", "customer"), unmanaged=table)
    fill(fake, 3)
    runs.sync("customer", of=of)
    fake.remove("customer", "cus_00002")
    fake.put("customer", "cus_00001", name="renamed")
    fake.now += 25 * 3600

    outcome = runs.sync("customer", of=of)

    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute("select name, seen_at, gone from customer order by name").fetchall()
    listed_at = [START * 10**6, START * 10**6, (START + 25 * 3600) * 10**6]
    assert rows == [
        ("customer 0", listed_at[0], False),
        ("customer 2", listed_at[1], False),
        ("renamed", listed_at[2], False),
    ]
    assert (
        "main: what is listed no longer is not looked for in a table that has no columns for upstream_id, sync_id"
        in outcome.notes
    )


def test_what_was_created_while_everything_is_listed_is_not_taken_for_deleted(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 250)
    runs.sync("customer")
    fake.now += 25 * 3600

    def create(number: int) -> None:
        if number == 1:
            fake.now += 5
            fake.put("customer", "cus_told", event="customer.created")
            fake.put("customer", "cus_untold")
            assert runs.backfill("customer").counts.inserted == 2

    runs.sync("customer", happens=create)

    assert runs.live("customer") == fake.listed("customer")
    assert runs.deleted("customer") == set()


def test_a_cursor_object_that_is_deleted_between_two_pages_costs_a_request_and_loses_nothing(
    fake: FakeStripe, runs: Runs
) -> None:
    fill(fake, 350, seconds=0)

    def delete(number: int) -> None:
        if number == 1:
            fake.now += 1
            fake.remove("customer", "cus_00250", event="customer.deleted")

    outcome = runs.sync("customer", happens=delete)

    assert runs.live("customer") == fake.listed("customer")
    assert outcome.requests < 20


def test_a_list_that_leads_in_a_circle_is_given_up_in_a_sentence(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 250, seconds=0)
    fake.forgets_cursors = True

    with pytest.raises(SourceFault, match="the list began again 6 times"):
        runs.sync("customer")

    assert len(fake.asked) < 20


@pytest.mark.parametrize("reason", ["too old", "gone"])
def test_a_gap_in_the_events_is_said_and_filled_by_a_listing(
    fake: FakeStripe, runs: Runs, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs.relist_hours = 24 * 365
    for name in ("a", "b"):
        fake.put("product", name, event="product.created")
    runs.sync("product")
    fake.put("product", "a", name="changed")
    fake.remove("product", "b")
    fake.now += 31 * 86_400 if reason == "too old" else 3600
    fake.events.clear()

    outcome = runs.sync("product")

    assert runs.live("product") == fake.listed("product")
    assert runs.deleted("product") == {"b"}
    said = {
        "too old": f"events are known up to {datetime.fromtimestamp(START, UTC):%Y-%m-%d %H:%M:%S} UTC only, and Stripe keeps them for "
        "30 days: everything is listed again",
        "gone": "event 'evt_000001', which was seen last, is no longer there: everything is listed again",
    }[reason]
    assert f"main: {said}" in outcome.notes
    assert f"stripe:product of sync 'main': {said}" in caplog.messages


@pytest.mark.parametrize("count", [11, 110, 231])
@pytest.mark.parametrize(("kind", "within"), [("invoice", "lines"), ("subscription", "items")])
def test_lists_within_an_object_are_completed(fake: FakeStripe, runs: Runs, kind: str, within: str, count: int) -> None:
    """Where the rest of a subscription's items is, is an address with parameters of its own."""
    fake.put(kind, "x_1")
    fake.lines["x_1"] = [{"id": f"il_{number}", "object": "line_item", "amount": number} for number in range(count)]

    runs.sync(kind)

    nested = runs.live(kind)["x_1"][within]
    assert (nested["data"], nested["has_more"]) == (fake.lines["x_1"], False)


def test_what_is_shown_only_when_it_is_asked_for_is_asked_for_in_lists_and_of_single_objects(
    fake: FakeStripe, runs: Runs
) -> None:
    fake.put("checkout.session", "cs_1", line_items={"object": "list", "data": [{"id": "li_1"}], "has_more": False, "url": "/x"})
    runs.sync("checkout.session")
    listed = runs.live("checkout.session") == fake.listed("checkout.session")
    fake.now += 60
    fake.put("checkout.session", "cs_1", event="checkout.session.completed", status="complete")

    runs.sync("checkout.session")

    assert listed
    assert runs.live("checkout.session") == fake.listed("checkout.session")


def test_prices_are_listed_active_or_not_and_one_that_is_never_listed_is_not_taken_for_deleted(
    fake: FakeStripe, runs: Runs
) -> None:
    for number in range(450):
        created, tiers = START - number * 12 * 86_400, [{"up_to": number}]
        fake.put("price", f"price_{number:03}", created=created, active=number % 2 == 0, tiers=tiers)
    runs.sync("price")
    first = runs.live("price") == fake.listed("price")
    fake.now += 60
    inline = fake.put("price", "price_inline", event="price.created")
    runs.sync("price")
    fake.remove("price", "price_inline")
    fake.now += 25 * 3600

    outcome = runs.sync("price")

    assert first
    assert runs.live("price") == {**fake.listed("price"), "price_inline": inline}
    assert (outcome.counts.unchanged, outcome.counts.updated, runs.deleted("price")) == (450, 0, set())


def test_what_is_on_a_test_clock_is_listed_by_its_clock_and_not_taken_for_deleted(fake: FakeStripe, runs: Runs) -> None:
    for clock in ("clock_1", "clock_2"):
        fake.put("test_helpers.test_clock", clock)
        for number in range(120):
            fake.put("customer", f"cus_{clock}_{number:03}", created=START - number, test_clock=clock)
    fill(fake, 10)
    runs.sync("customer")
    first = runs.live("customer") == fake.listed("customer")
    fake.remove("customer", "cus_clock_1_007")
    fake.now += 25 * 3600

    outcome = runs.sync("customer")

    assert first
    assert runs.live("customer") == fake.listed("customer")
    assert (runs.deleted("customer"), outcome.counts.unchanged) == ({"cus_clock_1_007"}, 249)


def test_what_was_created_on_a_test_clock_of_the_future_is_listed(fake: FakeStripe, runs: Runs) -> None:
    fake.put("test_helpers.test_clock", "clock_1")
    for number in range(120):
        fake.put("customer", f"cus_{number:03}", created=START + YEAR - number, test_clock="clock_1")

    runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")


def test_a_test_clock_that_is_deleted_while_it_is_listed_ends_its_list(fake: FakeStripe, runs: Runs) -> None:
    fake.put("test_helpers.test_clock", "clock_1")
    fill(fake, 350, seconds=0)
    for number in range(350):
        fake.put("customer", f"cus_clocked_{number:03}", created=START, test_clock="clock_1")

    def delete(number: int) -> None:
        if number == 2:
            fake.remove("test_helpers.test_clock", "clock_1")
            for name in [name for name in fake.listed("customer") if "clocked" in name]:
                fake.remove("customer", name, event="customer.deleted")

    runs.sync("customer", happens=delete)

    assert len(runs.live("customer")) == 350
    assert runs.live("customer") == fake.listed("customer")


def test_what_is_on_a_test_clock_is_not_taken_for_deleted_by_a_key_that_may_not_list_clocks(fake: FakeStripe, runs: Runs) -> None:
    fake.denied[KEY] = {"/v1/test_helpers/test_clocks"}
    fill(fake, 3)
    runs.sync("customer")
    fake.now += 60
    fake.put("customer", "cus_clocked", event="customer.created", test_clock="clock_1")
    runs.sync("customer")
    fake.now += 25 * 3600

    outcome = runs.sync("customer")

    assert (runs.live("customer"), runs.deleted("customer")) == (fake.listed("customer"), set())
    assert (
        "main: the key in STRIPE_API_KEY may not list test clocks, so objects on them are not listed, and no object counts as "
        "deleted for being absent: let the key read them"
    ) in outcome.notes


def test_test_clocks_are_not_asked_for_in_live_mode_nor_needed_where_the_key_may_not_list_them(
    fake: FakeStripe, runs: Runs
) -> None:
    fill(fake, 3)
    fake.denied[KEY] = {"/v1/test_helpers/test_clocks"}
    live = StripeSource({"main": "rk_live_of_the_fake"}, (ACCOUNT,), base_url=fake.url, requests_per_second=FAST, options=PATIENT)

    denied = runs.sync("customer")
    asked_before = fake.paths_asked().count("/v1/test_helpers/test_clocks")
    list(live.pages(ReadRequest(frozenset({"stripe:customer"}))))

    assert denied.counts.inserted == 3
    assert asked_before == fake.paths_asked().count("/v1/test_helpers/test_clocks") == 1


def test_events_are_kept_after_stripe_has_forgotten_them(fake: FakeStripe, runs: Runs) -> None:
    fake.put("customer", "cus_1", event="customer.created")
    runs.sync("event")
    fake.now += 31 * 86_400
    fake.put("customer", "cus_2", event="customer.created")
    both = {event["id"]: event for event in fake.events}
    del fake.events[0]

    runs.sync("event")

    assert len(both) == 2
    assert runs.live("event") == both


@pytest.mark.parametrize("name", sorted(LISTABLE.keys() - {"event"}))
def test_each_class_is_read_without_a_parameter_that_its_list_does_not_take(fake: FakeStripe, name: str) -> None:
    fake.kinds[LISTABLE[name].path] = {"x_1": {"id": "x_1", "object": name, "created": fake.now}}
    source = StripeSource({ACCOUNT.name: KEY}, (ACCOUNT,), base_url=fake.url, requests_per_second=FAST, options=PATIENT)
    request = ReadRequest(frozenset({f"stripe:{name}"}))

    first = list(source.pages(request))
    again = list(source.pages(replace(request, after=first[-1].cursor)))
    window = list(source.pages(replace(request, window=TimeWindow(None, datetime(2100, 1, 1, tzinfo=UTC)))))

    assert [b'"upstream_id":"x_1"' in b"".join(page.records for page in pages) for pages in (first, window)] == [True, True]
    assert again


def test_every_request_names_the_api_version_and_the_account_s_own_is_told_when_it_differs(fake: FakeStripe, runs: Runs) -> None:
    runs.sync("customer")
    fake.now += 60
    fake.api_version = "2017-08-15"
    fake.put("customer", "cus_1", event="customer.created")

    notes = runs.sync("customer").notes

    assert {asked.headers["stripe-version"] for asked in fake.asked} == {"2025-03-31.basil"}
    assert notes == (
        "Stripe API version 2025-03-31.basil",
        "main: the account's own API version is 2017-08-15, and records are read at 2025-03-31.basil",
    )


def test_too_many_requests_slow_the_reading_down_and_lose_nothing(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 800)
    fake.faults.replace(f"status:429,at={number}" for number in (2, 3, 5, 8, 9))

    outcome = runs.sync("customer")

    assert runs.live("customer") == fake.listed("customer")
    assert outcome.retries == 5


def test_objects_that_no_event_tells_of_are_read_as_they_are_created(fake: FakeStripe, runs: Runs) -> None:
    fake.put("balance_transaction", "txn_1", amount=1)
    runs.sync("balance_transaction")
    fake.now += 3600
    fake.put("balance_transaction", "txn_2", amount=2)

    outcome = runs.sync("balance_transaction")

    assert runs.live("balance_transaction") == fake.listed("balance_transaction")
    assert (outcome.counts.inserted, outcome.counts.fetched - outcome.counts.unchanged) == (1, 1)
    assert "/v1/events" not in fake.paths_asked()


def test_a_run_that_finds_nothing_new_leaves_the_cursor(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 5)
    first = runs.sync("customer")
    fake.now += 60

    second = runs.sync("customer")

    assert (second.cursor, second.counts.fetched, second.pages) == (first.cursor, 0, 1)


def test_a_window_is_what_was_created_in_it_as_it_is_now(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 40, seconds=40 * 3600)
    window = TimeWindow(datetime.fromtimestamp(START - 20 * 3600, UTC), datetime.fromtimestamp(START - 10 * 3600, UTC))
    request = ReadRequest(frozenset({"stripe:customer"}), after="whatever", window=window)

    pages = list(runs.source().pages(request))

    found = [name for page in pages for name in fake.listed("customer") if f'"upstream_id":"{name}"'.encode() in page.records]
    assert sorted(found) == [f"cus_{number:05}" for number in range(10, 20)]
    assert [page.cursor for page in pages] == [None]
    bounds = (("created[gte]", str(START - 20 * 3600)), ("created[lt]", str(START - 10 * 3600)))
    assert fake.asked[-1].query == (("limit", "100"), *bounds)


def test_a_key_of_another_account_is_refused_before_its_objects_replace_the_others(fake: FakeStripe, runs: Runs) -> None:
    fill(fake, 3)
    runs.sync("customer")
    fake.account = "acct_2"
    fake.kinds.clear()
    fake.now += 25 * 3600

    with pytest.raises(
        SourceRefused, match="has been filled from account 'acct_1', but its key in STRIPE_API_KEY now belongs to 'acct_2'"
    ):
        runs.sync("customer")

    assert runs.deleted("customer") == set()


def test_a_cursor_of_another_source_is_refused(runs: Runs) -> None:
    with pytest.raises(CursorRefused, match="the stored cursor 'Nw==' is not one of source 'stripe'"):
        list(runs.source().pages(ReadRequest(frozenset({"stripe:customer"}), after="Nw==")))


def test_the_key_stands_nowhere(fake: FakeStripe, runs: Runs, warehouse_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    fake.faults.replace(["status:429,at=1"])
    fill(fake, 3)
    outcome = runs.sync("customer")
    fake.refused_keys = {KEY}

    with pytest.raises(SourceRefused) as refused:
        runs.sync("customer")

    assert "Invalid API Key provided" in str(refused.value)
    told = [str(refused.value), repr(outcome), repr(runs.source()), repr(ACCOUNT), *caplog.messages, *runs.dump()]
    assert not [text for text in told if KEY in text]


def test_a_tick_finds_what_has_happened_and_knows_when_everything_is_to_be_listed(
    fake: FakeStripe, runs: Runs, warehouse_url: str
) -> None:
    def due() -> str | None:
        ledger = Ledger("stripe.customer", "stripe/customer")
        with Session(Warehouse(warehouse_url)) as session:
            found = look_for_news(session, stripe_collection("customer"), ledger, lambda collection: runs.source())
        return found.why if isinstance(found, Due) else None

    fake.put("customer", "cus_1", created=START - 5)
    runs.sync("customer")
    fake.now += 60
    quiet = due()
    fake.put("customer", "cus_1", event="customer.updated", name="other")
    changed = due()
    runs.sync("customer")
    # Within the overlap, in which events come again.
    known = due()
    fake.now += 86_400
    fake.asked.clear()
    relisted = due()

    assert (quiet, known) == (None, None)
    assert changed == "there are new records"
    assert (relisted, fake.asked) == ("everything is to be listed", [])
