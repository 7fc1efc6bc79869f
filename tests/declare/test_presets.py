"""What the shipped presets say; that each collection lands so is tested against servers of these APIs in tests/interop."""

from pathlib import Path

import pytest

from sequin_pipeline.declare.preset_files import FOLDER, presets
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.reads import RestApi, Variable
from tests.support.presets import PRESETS, write_shipped

MOST_LINES = 65
"""A preset is read as a whole before it is believed."""


def shipped_api(folder: Path, provider: str) -> RestApi:
    api = next(iter(load_collections(write_shipped(folder, provider)).values())).source.rest
    assert api is not None
    return api


def test_the_presets_are_these() -> None:
    assert tuple(presets()) == PRESETS


@pytest.mark.parametrize("provider", PRESETS)
def test_a_preset_reads_every_shipped_collection_and_is_short(provider: str, tmp_path: Path) -> None:
    api = shipped_api(tmp_path, provider)

    assert list(api.reads) == list(presets()[provider].collections)
    assert len((FOLDER / f"{provider}.yaml").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    ("provider", "variables"),
    [
        ("github", {"GITHUB_TOKEN"}),
        ("hubspot", {"HUBSPOT_TOKEN"}),
        ("salesforce", {"SALESFORCE_CLIENT_ID", "SALESFORCE_CLIENT_SECRET"}),
    ],
)
def test_a_preset_takes_its_credential_from_the_usual_variable(provider: str, variables: set[str], tmp_path: Path) -> None:
    auth = shipped_api(tmp_path, provider).auth or {}

    assert {setting.name for setting in auth.values() if isinstance(setting, Variable)} == variables


def test_hubspot_is_asked_for_the_properties_that_the_columns_name(tmp_path: Path) -> None:
    read = shipped_api(tmp_path, "hubspot").reads["deal"]

    assert str(read.params["properties"]).split(",") == [
        *("dealname", "dealstage", "pipeline", "dealtype", "amount", "amount_in_home_currency", "deal_currency_code", "hs_acv"),
        *("hs_mrr", "hs_deal_stage_probability", "hs_is_closed", "hs_is_closed_won", "days_to_close", "closedate"),
        *("notes_last_contacted", "createdate", "hs_lastmodifieddate"),
    ]
    assert read.changes is not None
    assert read.changes.json is not None
    assert read.changes.json["properties"] == str(read.params["properties"]).split(",")


def test_comments_on_issues_and_on_lines_have_keys_that_cannot_be_the_same(tmp_path: Path) -> None:
    read = shipped_api(tmp_path, "github").reads["comment"]

    assert (read.key, read.each["kind"]) == ((("node_id",),), ("issues", "pulls"))
