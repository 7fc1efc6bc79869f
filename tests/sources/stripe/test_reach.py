"""What the doctor says of Stripe's keys: which account each reaches, what of it, and what the key's rights leave out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sequin_pipeline.environment.settings import read_settings
from sequin_pipeline.operate.doctor.accounts import accounts
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.orchestration.catalog_files import load_collections
from tests.orchestration.files import write
from tests.sources.stripe.fake import FakeStripe, fake_stripe

DECLARED = """\
  provider: stripe
  source: stripe
  syncs:
    - {name: eu, key: KEY_EU}
    - {name: partner, key: KEY_EU, account: acct_partner}
    - {name: us, key: KEY_US}
  collections: {customer: {}, invoice: {}, balance_transaction: {}}
"""
FIX = "let the key read them and Events, in Stripe's dashboard under Developers, API keys; or do not declare them"
EU, US = "sk_test_eu_7Qsecret", "rk_test_us_7Qsecret"


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        yield fake


def findings(folder: Path, fake: FakeStripe, **variables: str) -> list[Finding]:
    urls = {"WAREHOUSE_URL": "postgresql://h/w", "DAGSTER_POSTGRES_URL": "postgresql://h/d", "DAGSTER_HOME": str(folder)}
    environment = {"STRIPE_API_URL": fake.url, "KEY_EU": EU, "KEY_US": US, **urls, **variables}
    settings = read_settings(environment, folder, embedded_home=None, reads_records_api=False)
    return list(accounts(Patient(settings, environment, load_collections(write(folder, stripe=DECLARED)), None)))


def test_each_key_is_told_with_the_account_and_the_collections_that_it_reaches(tmp_path: Path, fake: FakeStripe) -> None:
    reach = "and there customer, invoice, balance_transaction"

    found = findings(tmp_path, fake)

    assert found == [
        Finding("keys", "ok", f"stripe: the key in KEY_EU reaches account 'acct_1' of sync 'eu' in test mode, {reach}"),
        Finding(
            "keys", "ok", f"stripe: the key in KEY_EU reaches account 'acct_partner' of sync 'partner' in test mode, {reach}"
        ),
        Finding("keys", "ok", f"stripe: the key in KEY_US reaches account 'acct_1' of sync 'us' in test mode, {reach}"),
    ]
    assert {asked.query for asked in fake.asked if asked.path == "/v1/customers"} == {(("limit", "1"),)}


def test_what_the_rights_of_a_key_leave_out_is_named_also_where_only_events_are_missing(tmp_path: Path, fake: FakeStripe) -> None:
    fake.denied[US] = {"/v1/account", "/v1/events"}
    fake.denied[EU] = {"/v1/invoices"}

    *_, us_reached, us_refused = found = findings(tmp_path, fake)

    assert (us_reached.level, us_reached.said) == (
        "ok",
        "stripe: the key in KEY_US reaches an account that it may not name of sync 'us' in test mode, and there balance_transaction",
    )
    assert (us_refused.level, us_refused.fix) == ("problem", FIX)
    assert us_refused.said.startswith(
        "stripe: the key in KEY_US does not reach customer, invoice of sync 'us': reading the events of"
    )
    assert found[1].said.startswith(
        "stripe: the key in KEY_EU does not reach invoice of sync 'eu': listing stripe:invoice of sync 'eu'"
    )


def test_a_key_that_is_not_taken_keeps_nobody_from_looking_at_the_others_and_is_not_shown(
    tmp_path: Path, fake: FakeStripe
) -> None:
    fake.refused_keys = {EU}

    eu, partner, us = findings(tmp_path, fake)

    assert [one.level for one in (eu, partner, us)] == ["problem", "problem", "ok"]
    assert eu.said.startswith("stripe: the key in KEY_EU of sync 'eu' reaches nothing: listing stripe:customer of sync 'eu'")
    assert EU not in eu.said + partner.said + us.said


def test_the_account_s_own_api_version_is_told_where_it_differs(tmp_path: Path, fake: FakeStripe) -> None:
    fake.api_version = "2017-08-15"
    fake.put("customer", "cus_1", event="customer.created")

    first, *_ = findings(tmp_path, fake)

    assert first.said.endswith("; its own API version is 2017-08-15, and records are read at 2025-03-31.basil")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"KEY_US": ""}, "stripe is read from stripe, which needs KEY_US"),
        ({"KEY_US": "pk_test_1"}, "stripe: KEY_US does not hold a secret or restricted key of Stripe"),
        ({"KEY_US": "rk_live_1"}, "stripe: some of the keys for Stripe are of test mode and some of live mode"),
    ],
    ids=["missing", "publishable", "both modes"],
)
def test_a_key_that_cannot_be_used_is_told_before_anything_is_asked(
    tmp_path: Path, fake: FakeStripe, variables: dict[str, str], said: str
) -> None:
    (finding,) = findings(tmp_path, fake, **variables)

    assert (finding.level, finding.said.startswith(said)) == ("problem", True)
    assert fake.asked == []
