"""Each shipped collection of GitHub, HubSpot and Salesforce, read by its preset: every column is filled, and what changes arrives."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.registry import open_source
from sequin_pipeline.sources.rest.source import rest_source
from tests.interop import github as github_api
from tests.interop import hubspot as hubspot_api
from tests.interop.github import GitHub, running_github
from tests.interop.hubspot import HubSpot, running_hubspot
from tests.interop.stand_ins import settings_of
from tests.orchestration.files import write
from tests.support.presets import write_shipped
from tests.support.reading import query
from tests.support.salesforce_api import SalesforceApi, serving_salesforce
from tests.support.syncing import sync

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("presets")]
"""One process starts the stand-ins once."""

ROWS = {
    "github": {"issue": 8, "pull_request": 4, "repository": 2, "user": 1, "release": 2, "comment": 10},
    "hubspot": {"contact": 104, "company": 40, "deal": 60},
    "salesforce": {"account": 120, "contact": 120, "opportunity": 120},
}
DELETED = {
    "hubspot/contact": 2,
    "hubspot/deal": 1,
    "salesforce/account": 2,
    "salesforce/contact": 9,
    "salesforce/opportunity": 2,
}
"""Archived, or in the recycle bin, from the start."""


@dataclass(frozen=True)
class Landed:
    """A provider whose collections are read from its stand-in into one database."""

    collections: Mapping[str, Collection]
    environment: Mapping[str, str]
    warehouse_url: str

    def sync(self, name: str) -> SyncOutcome:
        """A run as it comes now: it reads what has changed."""
        collection = self.collection(name)
        return sync(self.warehouse_url, of=collection, source=open_source(collection.source, self.environment))

    def list_again(self, name: str) -> SyncOutcome:
        """A run as it comes a day later: it lists everything, and finds what is gone."""
        collection = self.collection(name)
        assert collection.source.rest is not None
        tomorrow = HttpOptions(now=lambda: datetime.now(UTC) + timedelta(days=1))
        return sync(
            self.warehouse_url, of=collection, source=rest_source(collection.source.rest, self.environment, options=tomorrow)
        )

    def collection(self, name: str) -> Collection:
        return next(one for one in self.collections.values() if one.name == name)

    def rows(self, name: str, *expressions: str, where: str = "true") -> list[tuple[Any, ...]]:
        table = self.collection(name).table
        return query(self.warehouse_url, f"select {', '.join(expressions)} from {table} where {where} order by 1")


@pytest.fixture(scope="session")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    with running_github(tmp_path_factory.mktemp("github")) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def hubspot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubSpot]:
    with running_hubspot(tmp_path_factory.mktemp("hubspot")) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def salesforce() -> Iterator[SalesforceApi]:
    objects: dict[str, list[dict[str, Any]]] = {"Account": [], "Contact": [], "Opportunity": []}
    for change in Population(1).initial():
        provider, _, name = change.collection_id.partition(":")
        rows = objects.get(name.capitalize(), [])
        if provider == "salesforce" and change.data is not None and len(rows) < 120:
            rows.append(json.loads(change.data))
    with serving_salesforce(SalesforceApi(objects)) as api:
        yield api


@pytest.fixture
def landed(request: pytest.FixtureRequest, tmp_path: Path, warehouse_url: str) -> Landed:
    """The provider that the test's parameter `provider` names."""
    return landed_of(request.getfixturevalue("provider"), request, tmp_path, warehouse_url)


def landed_of(provider: str, request: pytest.FixtureRequest, folder: Path, warehouse_url: str) -> Landed:
    stand_in = request.getfixturevalue(provider)
    environment = {
        "github": {"GITHUB_TOKEN": github_api.TOKEN, "GITHUB_REPOSITORIES": ", ".join(github_api.REPOSITORIES)},
        "hubspot": {"HUBSPOT_TOKEN": hubspot_api.TOKEN},
        "salesforce": {"SALESFORCE_CLIENT_ID": "client", "SALESFORCE_CLIENT_SECRET": "the-secret"},
    }[provider]
    collections = load_collections(write_shipped(folder, provider, more=settings_of(provider, stand_in.url)))
    return Landed(collections, environment, warehouse_url)


NAMES = [(provider, name) for provider, names in ROWS.items() for name in names]


@pytest.mark.parametrize(("provider", "name"), NAMES, ids=[f"{provider}/{name}" for provider, name in NAMES])
def test_a_shipped_collection_lands_with_a_value_in_every_column(provider: str, name: str, landed: Landed) -> None:
    first = landed.sync(name)
    again = landed.sync(name)

    assert (first.counts.rejected, first.counts.inserted + first.counts.deleted) == (0, ROWS[provider][name])
    assert first.counts.deleted == DELETED.get(f"{provider}/{name}", 0)
    assert again.counts.inserted + again.counts.updated + again.counts.deleted + again.counts.rejected == 0
    columns = [column.name for column in landed.collections[f"{provider}/{name}"].columns]
    [filled] = landed.rows(name, *(f"count({column})" for column in columns))
    assert [column for column, count in zip(columns, filled, strict=True) if not count] == []


def test_edits_and_deletions_on_github_arrive(
    request: pytest.FixtureRequest, github: GitHub, tmp_path: Path, warehouse_url: str
) -> None:
    landed = landed_of("github", request, tmp_path, warehouse_url)
    issue = github.call("POST", "/repos/octocat/beta/issues", {"title": "to be edited"})
    comment = github.call("POST", f"/repos/octocat/beta/issues/{issue['number']}/comments", {"body": "to be deleted"})
    landed.sync("issue")
    landed.sync("comment")

    github.call("PATCH", f"/repos/octocat/beta/issues/{issue['number']}", {"title": "edited"})
    github.call("DELETE", f"/repos/octocat/beta/issues/comments/{comment['id']}")
    edited, unseen, swept = landed.sync("issue"), landed.sync("comment"), landed.list_again("comment")

    assert (edited.counts.updated, edited.counts.inserted) == (1, 0)
    assert landed.rows("issue", "title", where=f"github_id = {issue['id']}") == [("edited",)]
    assert (unseen.counts.deleted, swept.counts.deleted) == (0, 1)
    assert landed.rows("comment", "upstream_id", where="deleted") == [(comment["node_id"],)]


def test_only_pull_requests_that_have_changed_are_asked_for_one_by_one(
    request: pytest.FixtureRequest, github: GitHub, tmp_path: Path, warehouse_url: str
) -> None:
    landed = landed_of("github", request, tmp_path, warehouse_url)
    landed.sync("pull_request")
    (number,) = (pull["number"] for pull in github.call("GET", "/repos/octocat/alpha/pulls?state=open"))
    github.call("PATCH", f"/repos/octocat/alpha/pulls/{number}", {"title": "Another title"})
    github.requests()

    changed = landed.sync("pull_request")

    assert changed.counts.updated == 1
    assert f"GET /repos/octocat/alpha/pulls/{number}" in github.requests()
    assert landed.rows("pull_request", "title", "changed_files is not null", where="title like 'Another%'") == [
        ("Another title", True)
    ]


@pytest.mark.parametrize(
    ("name", "properties", "column", "keeps"),
    [
        ("contact", {"jobtitle": "Chair"}, "job_title", "associations is not null"),
        ("company", {"city": "Turku"}, "city", "domain is not null"),
        ("deal", {"amount": "12.50"}, "amount::text", "company_id is not null and contact_id is not null"),
    ],
)
def test_edits_and_archived_objects_of_hubspot_arrive(
    request: pytest.FixtureRequest,
    hubspot: HubSpot,
    tmp_path: Path,
    warehouse_url: str,
    name: str,
    properties: dict[str, str],
    column: str,
    keeps: str,
) -> None:
    landed = landed_of("hubspot", request, tmp_path, warehouse_url)
    landed.sync(name)
    changed_id = hubspot.change(name, **properties)
    archived_id = hubspot.archive(name)
    hubspot.requests()

    edited = landed.sync(name)
    asked = hubspot.requests()
    listed = landed.list_again(name)

    assert edited.counts.updated == 1
    assert asked[0] == f"POST /{hubspot_api.OBJECTS[name]}/search"
    assert landed.rows(name, column, keeps, where=f"upstream_id = '{changed_id}'") == [(*properties.values(), True)]
    assert (edited.counts.deleted, listed.counts.deleted) == (0, 1)
    assert landed.rows(name, "deleted", where=f"upstream_id = '{archived_id}'") == [(True,)]


@pytest.mark.parametrize("name", ["contact", "company", "deal"])
def test_without_columns_the_whole_object_of_hubspot_lands_and_stays_whole(
    hubspot: HubSpot, tmp_path: Path, warehouse_url: str, name: str
) -> None:
    declared = f"  provider: hubspot\n  source: rest\n{settings_of('hubspot', hubspot.url)}  collections: {{{name}: }}\n"
    landed = Landed(load_collections(write(tmp_path, hubspot=declared)), {"HUBSPOT_TOKEN": hubspot_api.TOKEN}, warehouse_url)
    landed.sync(name)
    changed_id = hubspot.change(name, note_of_ours="changed")

    landed.sync(name)

    keys = "(select count(*) from jsonb_object_keys(data->'properties'))"
    [(fewest, changed)] = landed.rows(name, f"min({keys})", f"max({keys}) filter (where upstream_id = '{changed_id}')")
    assert 20 < fewest <= changed


def test_edits_and_deleted_rows_of_salesforce_arrive(
    request: pytest.FixtureRequest, salesforce: SalesforceApi, tmp_path: Path, warehouse_url: str
) -> None:
    landed = landed_of("salesforce", request, tmp_path, warehouse_url)
    landed.sync("account")
    edited, deleted = [row for row in salesforce.objects["Account"] if not row["IsDeleted"]][:2]
    salesforce.change("Account", edited, Name="Another name")
    salesforce.change("Account", deleted, IsDeleted=True)

    outcome = landed.sync("account")

    assert (outcome.counts.updated, outcome.counts.deleted) == (1, 1)
    assert landed.rows("account", "name", where=f"upstream_id = '{edited['Id']}'") == [("Another name",)]
    assert landed.rows("account", "is_deleted", where=f"upstream_id = '{deleted['Id']}' and deleted") == [(True,)]


@contextmanager
def without(rows: list[dict[str, Any]], key: str) -> Iterator[None]:
    """The rows without that field, as in an organisation that has it not."""
    kept = [row.pop(key) for row in rows]
    try:
        yield
    finally:
        for row, value in zip(rows, kept, strict=True):
            row[key] = value


def test_a_field_that_an_organisation_has_not_leaves_its_column_null(
    request: pytest.FixtureRequest, salesforce: SalesforceApi, tmp_path: Path, warehouse_url: str
) -> None:
    landed = landed_of("salesforce", request, tmp_path, warehouse_url)

    with without(salesforce.objects["Opportunity"], "CurrencyIsoCode"):
        outcome = landed.sync("opportunity")

    assert (outcome.counts.inserted + outcome.counts.deleted, outcome.counts.rejected) == (120, 0)
    assert landed.rows("opportunity", "count(currency)", "count(amount) > 0") == [(0, True)]


def test_no_token_is_in_the_database(request: pytest.FixtureRequest, tmp_path: Path, warehouse_url: str) -> None:
    for provider in ROWS:
        landed_of(provider, request, tmp_path / provider, warehouse_url).sync(next(iter(ROWS[provider])))

    tables = query(
        warehouse_url, "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname !~ '^(pg_|information)'"
    )
    texts = [str(query(warehouse_url, f"select t::text from {table} t")) for (table,) in tables]
    assert [text for text in texts for secret in (github_api.TOKEN, hubspot_api.TOKEN, "the-secret") if secret in text] == []
