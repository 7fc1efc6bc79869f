"""Several accounts in one table: each with its own key, tenant columns and place in the cursor, and none in the way of another."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.catalog import Column, SourceAccount, parse_path
from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.sources.stripe.source import StripeSource
from tests.e2e.project import Project
from tests.sources.stripe.fake import FakeStripe, fake_stripe
from tests.sources.stripe.shop import Shop, refuse_live
from tests.sources.stripe.syncing import FAST, PATIENT, Runs, stripe_collection

ACCOUNTS = (
    SourceAccount("eu", "KEY_EU", external_id="tenant-eu", metadata={"region": "eu"}),
    SourceAccount("us", "KEY_US", external_id="tenant-us"),
    SourceAccount("partner", "KEY_EU", connected_account="acct_partner"),
)
KEYS = {"eu": "sk_test_eu", "us": "rk_test_us", "partner": "sk_test_eu"}


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        yield fake


@pytest.fixture
def source(fake: FakeStripe) -> StripeSource:
    return StripeSource(KEYS, ACCOUNTS, base_url=fake.url, requests_per_second=FAST, options=PATIENT)


def customers(url: str, *more: str) -> list[tuple[object, ...]]:
    columns = ", ".join(("sync_id", "internal_id", "upstream_id", *more))
    with psycopg.connect(url) as connection:
        return connection.execute(f"select {columns} from stripe.customer where not deleted order by 1, 3".encode()).fetchall()


def test_each_account_is_a_tenant(fake: FakeStripe, source: StripeSource, warehouse_url: str) -> None:
    fake.put("customer", "cus_1")
    of = stripe_collection("customer", columns=(Column("tenant", parse_path("record.sync.metadata"), "jsonb"),))

    Runs(fake.url, warehouse_url).sync("customer", source=source, of=of)

    assert customers(warehouse_url, "tenant") == [
        ("eu", "tenant-eu", "cus_1", {"region": "eu"}),
        ("partner", None, "cus_1", {}),
        ("us", "tenant-us", "cus_1", {}),
    ]
    asked = {(each.headers["authorization"], each.headers.get("stripe-account")) for each in fake.asked}
    assert asked == {("Bearer sk_test_eu", None), ("Bearer rk_test_us", None), ("Bearer sk_test_eu", "acct_partner")}


def test_an_account_that_cannot_be_read_keeps_the_others_neither_from_it_nor_from_the_sweep(
    fake: FakeStripe, warehouse_url: str
) -> None:
    fake.put("customer", "cus_1")
    fake.put("customer", "cus_2")
    runs = Runs(fake.url, warehouse_url, now=fake.clock)
    source = StripeSource(KEYS, ACCOUNTS, base_url=fake.url, relist_hours=0, requests_per_second=FAST, options=PATIENT)
    runs.sync("customer", source=source)
    fake.refused_keys = {"sk_test_eu"}
    fake.remove("customer", "cus_1")
    fake.now += 3600

    with pytest.raises(SourceRefused, match="of sync 'eu'"):
        runs.sync("customer", source=source)

    assert customers(warehouse_url) == [
        ("eu", "tenant-eu", "cus_1"),
        ("eu", "tenant-eu", "cus_2"),
        ("partner", None, "cus_1"),
        ("partner", None, "cus_2"),
        ("us", "tenant-us", "cus_2"),
    ]


@pytest.mark.parametrize("key", ["sk_live_123", "rk_live_123"])
def test_keys_of_live_mode_are_refused_by_what_these_tests_send_requests_with(tmp_path: Path, key: str) -> None:
    project = Project(tmp_path, "", "", "", variables={"STRIPE_API_KEY": key})

    attempts: list[Callable[[], object]] = [
        lambda: refuse_live(key),
        lambda: Shop("http://127.0.0.1:9", key),
        project.environment,
    ]
    for refuse in attempts:
        with pytest.raises(AssertionError, match="a key of live mode"):
            refuse()


def test_keys_of_whoever_runs_the_tests_reach_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_of_somebody")

    assert "STRIPE_API_KEY" not in Project(tmp_path, "", "", "").environment()
