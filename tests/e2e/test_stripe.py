"""From a Stripe key to tables: the file and the commands of docs/sources.md, against a server that answers as Stripe does."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sources.registry import missing_variables
from sequin_pipeline.sources.stripe.objects import LISTABLE
from tests.e2e.project import Command, MakeProject, Project, everything_in
from tests.sources.stripe.fake import FakeStripe, fake_stripe
from tests.sources.stripe.shop import KEY
from tests.support.checkout import CHECKOUT

PAGE = (CHECKOUT / "docs" / "sources.md").read_text(encoding="utf-8")
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as fake:
        fake.now = int(time.time())
        yield fake


@pytest.fixture
def project(make_project: MakeProject, fake: FakeStripe) -> Project:
    """The first file of the page, with the key in the environment and no records API at all."""
    _, example = re.split(r"```yaml\n.*\nattributes:\n", PAGE, maxsplit=1)
    project = make_project("").declare(stripe=example.partition("```")[0])
    project.variables.update({"STRIPE_API_KEY": KEY, "STRIPE_API_URL": fake.url, "SEQUIN_API_TOKEN": ""})
    return project


def test_a_key_and_a_file_are_enough_for_tables_and_the_key_is_told_to_nobody(
    project: Project, fake: FakeStripe, command: Command
) -> None:
    for number in range(3):
        fake.put("customer", f"cus_{number}", created=fake.now - number, name=f"customer {number}", email=None)
    fake.put("invoice", "in_1", customer="cus_1", total=1200)
    fake.lines["in_1"] = [{"id": f"il_{number}", "object": "line_item"} for number in range(12)]

    first = command(project, "sync")
    again = command(project, "sync")

    assert (first.status, again.status) == (0, 0), first.stderr + again.stderr
    assert "4 rows written from 4 records." in first.stdout
    assert "Nothing new: nothing was written." in again.stdout
    assert project.query("select upstream_id, name, sync_id from stripe.customer order by 1") == [
        (f"cus_{number}", f"customer {number}", "default") for number in range(3)
    ]
    assert project.query("select total, jsonb_array_length(lines) from stripe.invoice") == [(1200, 12)]
    told = [
        first.stdout,
        first.stderr,
        again.stdout,
        again.stderr,
        *everything_in(project.dagster_url),
        *everything_in(project.warehouse_url),
    ]
    assert not [text for text in told if KEY in text]


def test_the_doctor_tells_what_a_key_reaches_and_what_not_without_the_key(
    project: Project, fake: FakeStripe, command: Command
) -> None:
    every = command(project, "doctor")
    fake.denied[KEY] = {"/v1/invoices"}
    some = command(project, "doctor")

    reached = "stripe: the key in STRIPE_API_KEY reaches account 'acct_1' of sync 'default' in test mode, and there customer, subscription"
    assert (every.status, f"{reached}, invoice, price, balance_transaction" in every.stdout) == (0, True)
    assert (some.status, f"{reached}, price, balance_transaction" in some.stdout) == (1, True)
    assert "stripe: the key in STRIPE_API_KEY does not reach invoice of sync 'default'" in some.stdout
    assert KEY not in every.stdout + every.stderr + some.stdout + some.stderr


def test_deletes_that_are_held_are_told_with_the_command_that_marks_them(
    make_project: MakeProject, fake: FakeStripe, command: Command
) -> None:
    project = make_project("").declare(stripe=LISTED_EACH_TIME)
    project.variables.update({"STRIPE_API_KEY": KEY, "STRIPE_API_URL": fake.url, "SEQUIN_API_TOKEN": ""})
    for number in range(130):
        fake.put("customer", f"cus_{number:03}", created=fake.now - 1 - number)
    command(project, "sync")
    for number in range(120):
        fake.remove("customer", f"cus_{number:03}")

    held = command(project, "sync")
    status, as_json = command(project, "status"), command(project, "status", "stripe/customer", "--json")
    fewer = command(project, "sync", "--collection", "stripe/customer", "--accept-deletes", "119", "--json")
    accepted = command(project, "sync", "--collection", "stripe/customer", "--accept-deletes", "120")

    told = "sync 'default': a complete listing did not have 120 of 130 rows of stripe/customer that are not deleted (92%)"
    assert (held.status, fewer.status, accepted.status) == (3, 3, 0), accepted.stderr
    assert told in held.stderr
    assert "`sequin-pipeline sync --collection stripe/customer --accept-deletes 120`\n" in held.stderr
    assert told in status.stdout
    assert json.loads(as_json.stdout)["collections"][0]["held_deletes"] == 120
    assert "(--accept-deletes 119 is fewer than 120)" in fewer.stderr
    assert [one["rows"] for one in json.loads(fewer.stdout)[0]["held_deletes"]] == [120]
    assert project.query("select count(*) filter (where deleted), count(*) from stripe.customer") == [(120, 130)]
    assert "accept-deletes" not in accepted.stderr


EXPLAINED = {
    "cus_same": "holds it as it is stored (asked for 'cus_same')",
    "cus_changed": "holds it otherwise than it is stored (asked for 'cus_changed')",
    "cus_gone": "does not have it any more (asked for 'cus_gone')",
    "cus_deleted": "does not have it (asked for 'cus_deleted')",
    "cus_back": "holds it, while the row is a tombstone (asked for 'cus_back')",
    "cus_new": "holds it as record 'RECORD', which is not stored (asked for 'cus_new')",
    "cus_bad": "holds it, and it is rejected: column 'credit' (path $.credit, bigint) found the string 'none', where",
    "cus_nobody": "does not have it (asked for 'cus_nobody')",
}


def test_explain_asks_stripe_for_the_one_object_and_reads_no_list(
    make_project: MakeProject, fake: FakeStripe, command: Command
) -> None:
    project = make_project("").declare(stripe=WITH_CREDIT)
    project.variables.update({"STRIPE_API_KEY": KEY, "STRIPE_API_URL": fake.url, "SEQUIN_API_TOKEN": ""})
    for name in ("same", "changed", "gone", "deleted", "back", "bad"):
        fake.put("customer", f"cus_{name}", name=name, credit=1, rate=1.50, created=fake.now - 10)
    command(project, "sync")
    fake.remove("customer", "cus_deleted")
    fake.remove("customer", "cus_back")
    command(project, "sync")
    fake.remove("customer", "cus_gone")
    for name, credit in (("changed", 2), ("new", 1), ("back", 1), ("bad", "none")):
        fake.put("customer", f"cus_{name}", name=name, credit=credit, rate=1.50, created=fake.now - 10)
    fake.deleted_customers.discard("cus_back")
    fake.asked.clear()

    told = {customer: command(project, "explain", "stripe/customer", customer) for customer in EXPLAINED}

    for customer, expected in EXPLAINED.items():
        (said,) = [line for line in told[customer].stdout.splitlines() if line.startswith("source ")]
        assert re.sub(r"'[0-9a-f-]{36}'", "'RECORD'", said).removeprefix("source      ").startswith(expected)
    assert {customer: one.status for customer, one in told.items() if one.status} == {"cus_nobody": 1}
    assert set(fake.paths_asked()) == {f"/v1/customers/{customer}" for customer in EXPLAINED}


WITH_CREDIT = """
  provider: stripe
  source: stripe
  relist_hours: 0
  collections: {customer: {columns: {credit: {path: credit, type: bigint}}}}
"""
LISTED_EACH_TIME = """
  provider: stripe
  source: stripe
  relist_hours: 0
  collections: {customer: {}}
"""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param([], "--accept-deletes needs --collection, and no --provider", id="no collection"),
        pytest.param(["--provider", "stripe"], "--accept-deletes needs --collection, and no --provider", id="a provider"),
        pytest.param(
            ["--collection", "crm/person"],
            "--accept-deletes is of no use for crm/person: source 'sequin' tells of each deletion",
            id="a source that lists nothing",
        ),
    ],
)
def test_accepting_deletes_nobody_can_have_looked_at_is_refused(
    make_project: MakeProject, fake: FakeStripe, command: Command, options: list[str], told: str
) -> None:
    project = make_project(fake.url).declare(crm="\n  provider: crm\n  collections: {person: {}}\n", stripe=LISTED_EACH_TIME)
    project.variables.update({"STRIPE_API_KEY": KEY, "STRIPE_API_URL": fake.url})

    refused = command(project, "sync", "--accept-deletes", "5", *options)

    assert (refused.status, told in refused.stderr, fake.asked) == (2, True, [])


def test_a_missing_key_is_named_before_anything_is_asked(project: Project, fake: FakeStripe, command: Command) -> None:
    del project.variables["STRIPE_API_KEY"]

    refused = command(project, "sync")

    assert refused.status == 2
    assert (
        "provider 'stripe' is read from source 'stripe', which needs STRIPE_API_KEY: set it in the environment or in .env"
        in refused.stderr
    )
    assert fake.asked == []


OF_README = README.partition("stripe/defs.yaml <<'END'\n")[2].partition("END\n")[0]


def test_the_trial_of_the_readme_fills_tables_without_an_account(make_project: MakeProject, command: Command) -> None:
    """Its file is synced from `sandbox --stripe` in a process of its own, with what that prints in place of a key."""
    project = make_project("")
    (project.folder / "defs" / "stripe").mkdir(parents=True, exist_ok=True)
    (project.folder / "defs" / "stripe" / "defs.yaml").write_text(OF_README, encoding="utf-8")
    project.variables.update({"SEQUIN_COLLECTIONS": str(project.folder / "defs"), "SEQUIN_API_TOKEN": ""})
    program = [sys.executable, "-m", "sequin_pipeline.cli", "sandbox", "--stripe", "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            assert sandbox.stdout is not None
            head, printed = sandbox.stdout.readline(), sandbox.stdout.readline()
            exported = re.fullmatch(r"  export STRIPE_API_URL=(http://127\.0\.0\.1:\d+) STRIPE_API_KEY=(\S+)\n", printed)
            assert exported, head + printed
            project.variables.update({"STRIPE_API_URL": exported[1], "STRIPE_API_KEY": exported[2]})
            first, again = command(project, "sync"), command(project, "sync")
        finally:
            sandbox.kill()

    assert (first.status, again.status) == (0, 0), first.stderr + again.stderr
    assert "Nothing new: nothing was written." in again.stdout
    counts = project.query(
        "select (select count(email) from stripe.customer), (select count(*) from stripe.subscription where status is not null),"
        " (select count(*) from stripe.invoice)"
    )
    assert all(count > 100 for count in counts[0]), counts


def test_the_file_of_the_readme_is_one_that_is_read_with_its_key_alone(tmp_path: Path) -> None:
    (tmp_path / "stripe").mkdir()
    (tmp_path / "stripe" / "defs.yaml").write_text(OF_README, encoding="utf-8")

    collections = load_collections({"SEQUIN_COLLECTIONS": str(tmp_path)})

    assert list(collections) == ["stripe/customer", "stripe/subscription", "stripe/invoice"]
    assert {missing_variables(collection.source, {}) for collection in collections.values()} == {("STRIPE_API_KEY",)}
    assert "\nexport SEQUIN_COLLECTIONS=~/collections STRIPE_API_KEY=" in README


def test_the_page_names_every_class_of_objects_that_can_be_declared() -> None:
    named = re.findall(r"`([a-z_.]+)`", PAGE.partition("What can be declared:")[2].partition("What is listed only")[0])

    assert named == sorted(LISTABLE)
