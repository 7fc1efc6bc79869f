"""Several accounts in one table: each with its own key, tenant columns and place in the cursor, and none in the way of another."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from sequin_pipeline.catalog import Account
from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.sources.stripe import StripeSource
from tests.stripe.fake import FakeStripe, fake_stripe
from tests.stripe.shop import refuse_live
from tests.stripe.syncing import FAST, PATIENT, Runs

ACCOUNTS = (
    Account("eu", "KEY_EU", external_id="tenant-eu", metadata={"region": "eu"}),
    Account("us", "KEY_US", external_id="tenant-us"),
    Account("partner", "KEY_EU", connected_account="acct_partner"),
)
KEYS = {"eu": "sk_test_eu", "us": "rk_test_us", "partner": "sk_test_eu"}


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        yield fake


@pytest.fixture
def source(fake: FakeStripe) -> StripeSource:
    return StripeSource(KEYS, ACCOUNTS, base_url=fake.url, requests_per_second=FAST, options=PATIENT)


def rows(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select sync_id, internal_id, upstream_id from stripe.customer where not deleted order by 1, 3"
        ).fetchall()


def test_each_account_is_a_tenant(fake: FakeStripe, source: StripeSource, warehouse_url: str) -> None:
    fake.put("customer", "cus_1")

    Runs(fake.url, warehouse_url).sync("customer", source=source)

    assert rows(warehouse_url) == [("eu", "tenant-eu", "cus_1"), ("partner", None, "cus_1"), ("us", "tenant-us", "cus_1")]
    asked = {(each.headers["authorization"], each.headers.get("stripe-account")) for each in fake.asked}
    assert asked == {("Bearer sk_test_eu", None), ("Bearer rk_test_us", None), ("Bearer sk_test_eu", "acct_partner")}


def test_an_account_that_cannot_be_read_keeps_the_others_neither_from_it_nor_from_the_sweep(
    fake: FakeStripe, warehouse_url: str
) -> None:
    fake.put("customer", "cus_1")
    fake.put("customer", "cus_2")
    runs = Runs(fake.url, warehouse_url, now=lambda: datetime.fromtimestamp(fake.now, UTC))
    source = StripeSource(KEYS, ACCOUNTS, base_url=fake.url, relist_hours=0, requests_per_second=FAST, options=PATIENT)
    runs.sync("customer", source=source)
    fake.refused_keys = {"sk_test_eu"}
    fake.remove("customer", "cus_1")
    fake.now += 3600

    with pytest.raises(SourceRefused, match="of sync 'eu'"):
        runs.sync("customer", source=source)

    assert rows(warehouse_url) == [
        ("eu", "tenant-eu", "cus_1"),
        ("eu", "tenant-eu", "cus_2"),
        ("partner", None, "cus_1"),
        ("partner", None, "cus_2"),
        ("us", "tenant-us", "cus_2"),
    ]


def test_keys_of_live_mode_are_refused_by_these_tests() -> None:
    with pytest.raises(AssertionError, match="a key of live mode"):
        refuse_live("sk_live_123")
