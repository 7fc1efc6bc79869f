"""What a person does and sees in the UI, in Chromium. With `--screenshots FOLDER` the pictures of docs/ui.md are kept.

The things that take long are begun by clicking before the first test looks at anything, so that they pass at the same time: a
schedule's next tick (up to a minute) and a backfill (the daemon looks every 30 seconds).
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.system import LEFT_OUT, SKIP_SYSTEM
from tests.ui.browser import NO_CHROMIUM, Viewer, find_chromium, looking, running_browser
from tests.ui.conftest import Surroundings
from tests.ui.running import RunningUi, wait_for

if SKIP_SYSTEM:
    pytest.skip(LEFT_OUT, allow_module_level=True)
if find_chromium() is None and os.environ.get("CI") != "true":
    pytest.skip(NO_CHROMIUM, allow_module_level=True)

pytestmark = [pytest.mark.ui, pytest.mark.usefixtures("schedule_on", "backfill", "sync_with_a_reject")]

STRIPE_SCHEDULE = "a[href$='/schedules/sync_stripe_schedule']"
FIRST_WINDOW, LAST_WINDOW = "2024-03", "2024-08"

REJECTED = {
    "id": "company-without-a-number",
    "collection_id": "hubspot:company",
    "provider": "hubspot",
    "stream_id": "default",
    "sync": {"id": "f6103d7e-a94b-4c25-86f1-2e9b7d40c302", "external_id": None, "metadata": {}},
    "upstream_id": "1",
    "updated_idx": 2**34,
    "deleted": False,
    "inserted_at": "2026-11-01T00:00:00Z",
    "upstream_created_at": None,
    "upstream_updated_at": None,
    "data": {"id": "1", "properties": {"annualrevenue": "a lot"}},
}

LIVE_TICKS = """{
  scheduleOrError(scheduleSelector: {
    repositoryName: "__repository__", repositoryLocationName: "sequin_pipeline", scheduleName: "sync_stripe_schedule"
  }) { ... on Schedule { scheduleState { status ticks(limit: 10) { status runs { status } } } } }
}"""

COMMAND_RUNS = """{ runsOrError(filter: {pipelineName: "sync_salesforce"}) { ... on Runs { results { id } } } }"""

MATERIALIZED = """query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode { assetPartitionStatuses {
    ... on TimePartitionStatuses { ranges { status startKey endKey } }
  } } }
}"""

CHECKS = """query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode { assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { status }
  } } } } }
}"""


# Of the module and not of the session: while Playwright runs, no test behind these in the same process could start an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest) -> Path | None:
    folder: Path | None = request.config.getoption("--screenshots", default=None)
    return folder


@pytest.fixture
def viewer(browser: Browser, ui: RunningUi, pictures: Path | None) -> Iterator[Viewer]:
    with looking(browser, ui.url, pictures) as looked:
        yield looked


@pytest.fixture(scope="module")
def schedule_on(browser: Browser, ui: RunningUi, pictures: Path | None) -> None:
    """Stripe's schedule, switched on by its toggle."""
    with looking(browser, ui.url, pictures) as viewer:
        page = viewer.open("/automation")
        _toggle(page).click()
        expect(_toggle(page).locator("input")).to_be_checked()
        expect(_toggle(page).locator("input")).to_be_enabled()
        viewer.keep_picture("schedules")


@pytest.fixture(scope="module")
def backfill(browser: Browser, ui: RunningUi, pictures: Path | None) -> None:
    """Half a year of two of GitHub's collections, launched from the list of the group."""
    with looking(browser, ui.url, pictures) as viewer:
        page = viewer.open("/locations/sequin_pipeline/asset-groups/github/list")
        for collection in ("repository", "user"):
            page.locator(f"label:has([data-testid='checkbox-github/{collection}'])").click()
        page.get_by_role("button", name="Materialize selected").click()
        dialog = page.get_by_role("dialog")
        windows = dialog.get_by_placeholder(re.compile("^ex: "))
        windows.fill(f"[{FIRST_WINDOW}...{LAST_WINDOW}]")
        windows.press("Enter")
        expect(dialog).to_contain_text("6 partitions")
        viewer.keep_picture("backfill-dialog")
        dialog.get_by_role("button", name="Launch backfill").click()
        expect(dialog).to_have_count(0)


@pytest.fixture(scope="module")
def sync_with_a_reject(browser: Browser, ui: RunningUi, surroundings: Surroundings, pictures: Path | None) -> None:
    """A live run of a collection whose stream holds a record that does not fit, launched for the latest window."""
    sent = httpx2.post(f"{surroundings.sandbox_url}/_sandbox/records", content=json.dumps(REJECTED), trust_env=False)
    assert sent.status_code == 201
    with looking(browser, ui.url, pictures) as viewer:
        page = viewer.open("/assets/hubspot/company?view=overview")
        page.get_by_role("button", name="Materialize…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Latest", exact=True).click()
        dialog.get_by_role("button", name="Launch 1 run").click()
        expect(dialog).to_have_count(0)


@pytest.fixture(scope="module")
def command_run(ui: RunningUi) -> str:
    """The id of the run of a `sync` beside the UI."""
    command = [sys.executable, "-m", "sequin_pipeline.cli", "sync", "--collection", "salesforce/account"]
    done = subprocess.run(
        command, cwd=ui.directory, env={**os.environ, **ui.variables}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [run] = ui.ask(COMMAND_RUNS)["runsOrError"]["results"]
    return str(run["id"])


def test_a_failing_check_is_red_and_says_which_records(viewer: Viewer, ui: RunningUi) -> None:
    _wait_for_checks(ui, "hubspot", "company")

    page = viewer.open("/assets/hubspot/company?view=checks&checkDetail=open_rejects")

    expect(page.get_by_text("1 open reject")).to_contain_text("(company-without-a-number: column 'annual_revenue'")
    failed = page.locator("[class*=Tag]").filter(has_text=re.compile("^Failed$"))
    expect(failed).to_be_visible()
    red, green, blue = map(int, re.findall(r"\d+", failed.evaluate("tag => getComputedStyle(tag).color"))[:3])
    assert red > 2 * max(green, blue)
    viewer.keep_picture("failing-check")


def test_a_schedule_switched_on_by_clicking_loads_the_tables(viewer: Viewer, ui: RunningUi, surroundings: Surroundings) -> None:
    wait_for(lambda: "SUCCESS" in _run_statuses(ui), 150, what=lambda: f"the run of a tick; there are {_run_statuses(ui)}")

    page = viewer.open("/locations/sequin_pipeline/schedules/sync_stripe_schedule")

    expect(page.get_by_text("1 run requested").first).to_be_visible()
    viewer.keep_picture("schedule")
    viewer.open("/automation")
    _toggle(page).click()
    expect(_toggle(page).locator("input")).not_to_be_checked()
    with psycopg.connect(surroundings.warehouse_url) as connection:
        rows = {
            table: _count(connection, table) for table in ("subscription", "customer", "invoice", "product", "price", "charge")
        }
        plans = connection.execute("select sum(subscriptions) from stripe.active_subscriptions_per_plan").fetchone()
        active = connection.execute("select count(*) from stripe.subscription where status = 'active' and not deleted").fetchone()
    assert rows == {"subscription": 900, "customer": 900, "invoice": 1440, "product": 90, "price": 180, "charge": 1440}
    assert plans == active


def test_a_backfill_launched_by_clicking_fills_its_windows_and_no_others(
    viewer: Viewer, ui: RunningUi, surroundings: Surroundings
) -> None:
    filled = [{"status": "MATERIALIZED", "startKey": FIRST_WINDOW, "endKey": LAST_WINDOW}]
    for collection in ("repository", "user"):
        wait_for(
            partial(_has_ranges, ui, collection, filled),
            120,
            what=partial(_ranges_told, ui, collection),
        )

    page = viewer.open(f"/assets/github/user?view=partitions&partition={FIRST_WINDOW}")

    expect(page.get_by_text("Materialized (6)")).to_be_visible()
    expect(page.get_by_text("rows_gained")).to_be_visible()
    viewer.keep_picture("backfill-windows")
    for collection in ("repository", "user"):
        with psycopg.connect(surroundings.warehouse_url) as connection:
            rows = connection.execute(f"select id, updated_idx from github.{collection}").fetchall()
        assert dict(rows) == _served(surroundings, f"github:{collection}", "2024-03-01", "2024-09-01")


def test_lineage_leads_from_the_api_through_the_table_to_what_is_built_on_it(viewer: Viewer, ui: RunningUi) -> None:
    _wait_for_checks(ui, "stripe", "subscription")

    page = viewer.open("/assets/stripe/subscription?view=lineage")

    nodes = page.locator("foreignObject").filter(has_text="subscription")
    expect(nodes).to_have_count(3)
    expect(nodes.filter(has_text="subscription_source")).to_contain_text("Observed")
    from_left = nodes.evaluate_all(
        "nodes => nodes.map((node) => [node.getBoundingClientRect().left, node.textContent]).sort((a, b) => a[0] - b[0])"
    )
    source, table, downstream = (text for _, text in from_left)
    assert source.startswith("subscription_source")
    assert "api" in source
    assert table.startswith("subscription")
    assert "Never" not in source + table + downstream
    assert "Postgres" in table
    assert downstream.startswith("active_subscriptions_per_plan")
    viewer.keep_picture("lineage")


def test_the_apis_side_of_a_collection_tells_what_the_last_run_saw(viewer: Viewer, ui: RunningUi) -> None:
    _wait_for_checks(ui, "stripe", "subscription")

    page = viewer.open("/assets/sequin/stripe/subscription_source?view=events")

    for number in ("fetched", "pages", "lag_seconds"):
        expect(page.get_by_text(number, exact=True).first).to_be_visible()


def test_the_run_of_a_command_stands_on_the_timeline_and_shows_no_internal_tag(viewer: Viewer, command_run: str) -> None:
    page = viewer.open("/overview/activity/timeline")

    expect(page.get_by_text("sync_salesforce", exact=True).first).to_be_visible()
    viewer.open(f"/runs/{command_run}")
    page.get_by_role("button", name="View tags and config").click()
    expect(page.get_by_text(re.compile("^sequin_pipeline/mode")).first).to_be_visible()
    for internal in ("sequin_pipeline_lock", "sequin_pipeline_first_load"):
        expect(page.get_by_text(internal)).to_have_count(0)


def test_an_asset_tells_what_it_is_where_it_lies_and_who_owns_it(viewer: Viewer, ui: RunningUi) -> None:
    _wait_for_checks(ui, "stripe", "subscription")

    page = viewer.open("/assets/stripe/subscription?view=overview")

    for text in (
        "One row per Stripe subscription, with its first item; the other items are in items.",
        "upstream_id of the customer who pays",
        "stripe.subscription",
        "billing",
        "Postgres",
        "Stripe",
    ):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_text("900", exact=True).first).to_be_visible()
    link = page.locator("a[href^='vscode:']")
    expect(link).to_have_attribute("href", re.compile(r"/defs/stripe/defs\.yaml:\d+$"))
    viewer.keep_picture("asset")


def test_numbers_of_runs_are_plotted_over_windows(viewer: Viewer, ui: RunningUi) -> None:
    _wait_for_checks(ui, "stripe", "subscription")

    page = viewer.open("/assets/stripe/subscription?view=overview")
    page.get_by_role("button", name="Plots").click()

    for number in ("inserted", "bytes", "total_seconds"):
        expect(page.get_by_text(number, exact=True)).to_have_count(1)
    page.get_by_text("inserted", exact=True).scroll_into_view_if_needed()
    expect(page.locator("canvas").first).to_be_visible()
    viewer.keep_picture("plots")


def _toggle(page: Page) -> Locator:
    return page.locator(STRIPE_SCHEDULE).locator("xpath=following-sibling::div").locator("label")


def _run_statuses(ui: RunningUi) -> list[str]:
    ticks = ui.ask(LIVE_TICKS)["scheduleOrError"]["scheduleState"]["ticks"]
    return [run["status"] for tick in ticks for run in tick["runs"]]


def _has_ranges(ui: RunningUi, name: str, wanted: list[dict[str, str]]) -> bool:
    return _ranges(ui, "github", name) == wanted


def _ranges_told(ui: RunningUi, name: str) -> str:
    return f"windows of {name}; there are {_ranges(ui, 'github', name)}"


def _ranges(ui: RunningUi, provider: str, name: str) -> list[dict[str, str]]:
    ranges: list[dict[str, str]] = ui.ask(MATERIALIZED, path=[provider, name])["assetNodeOrError"]["assetPartitionStatuses"][
        "ranges"
    ]
    return ranges


def _wait_for_checks(ui: RunningUi, provider: str, name: str) -> None:
    """Those that the asset's own step yields are all there once one of them is."""

    def status() -> str | None:
        checks = ui.ask(CHECKS, path=[provider, name])["assetNodeOrError"]["assetChecksOrError"]["checks"]
        (execution,) = (check["executionForLatestMaterialization"] for check in checks if check["name"] == "open_rejects")
        return execution["status"] if execution else None

    wait_for(lambda: status() in ("SUCCEEDED", "FAILED"), 150, what=lambda: f"the check open_rejects, which is {status()}")


def _count(connection: "psycopg.Connection[tuple[int]]", table: str) -> int:
    row = connection.execute(f"select count(*) from stripe.{table}").fetchone()
    assert row is not None
    return row[0]


def _served(surroundings: Surroundings, collection_id: str, start: str, end: str) -> dict[str, int]:
    """Versions by id of the records that the sandbox serves with start <= inserted_at < end."""
    query: dict[str, str | int] = {"collection_id": collection_id, "limit": 1000}
    records = httpx2.get(f"{surroundings.sandbox_url}/v1/records", params=query, trust_env=False).json()["records"]
    return {record["id"]: record["updated_idx"] for record in records if start <= record["inserted_at"] < end}
