"""Where the lineage of an API by declaration starts: at the address that is asked."""

from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.orchestration.catalog_files import folder_tree, load_collections
from sequin_pipeline.orchestration.source_keys import source_key
from tests.orchestration.files import write
from tests.support.presets import write_shipped

SALESFORCE = "SALESFORCE_URL/services/data/v62.0/queryAll"


@pytest.mark.parametrize(
    ("provider", "keys"),
    [
        (
            "hubspot",
            [f"api.hubapi.com/crm/v3/objects/{objects}" for objects in ("contacts", "companies", "deals")],
        ),
        ("salesforce", [f"{SALESFORCE}/{name}" for name in ("account", "contact", "opportunity")]),
        (
            "github",
            [
                "api.github.com/repos/repository/issues",
                "api.github.com/repos/repository/pulls",
                "api.github.com/user/repos",
                "api.github.com/repos/repository/contributors",
                "api.github.com/repos/repository/releases",
                "api.github.com/repos/repository/kind/comments",
            ],
        ),
    ],
)
def test_the_upstream_asset_is_the_address_of_the_list(tmp_path: Path, provider: str, keys: list[str]) -> None:
    collections = load_collections(write_shipped(tmp_path, provider))

    assert [source_key(collection).to_user_string() for collection in collections.values()] == keys


def test_other_sources_keep_the_name_that_they_have(tmp_path: Path) -> None:
    (collection,) = load_collections(write(tmp_path, stripe="  provider: stripe\n  collections: {plan: }\n")).values()

    assert source_key(collection).to_user_string() == "sequin/stripe/plan_source"


def test_the_upstream_asset_of_a_connector_is_its_stream(tmp_path: Path) -> None:
    declared = "  provider: shop\n  source: airbyte\n  connector: {command: [x]}\n"
    declared += "  collections: {order: {read: {stream: eu.orders v2}}, item: }\n"
    collections = load_collections(write(tmp_path, shop=declared)).values()

    keys = [source_key(collection).to_user_string() for collection in collections]

    assert keys == ["airbyte/shop/eu.orders_v2", "airbyte/shop/item"]


def test_two_providers_of_one_address_have_one_upstream_asset(tmp_path: Path) -> None:
    write_shipped(tmp_path, "github")
    write(tmp_path, other="  provider: other\n  source: rest\n  api: {preset: github}\n  collections: {issue: , user: }\n")

    definitions = folder_tree(tmp_path).build_defs()

    upstream = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in definitions.resolve_all_asset_specs()
    }
    assert upstream["github/issue"] == upstream["other/issue"] == {"api.github.com/repos/repository/issues"}
    lineage = definitions.resolve_assets_def(dg.AssetKey(["github", "issue"])).metadata_by_key
    dep = lineage[dg.AssetKey(["github", "issue"])]["dagster/column_lineage"].deps_by_column["title"][0]
    assert (dep.asset_key.to_user_string(), dep.column_name) == ("api.github.com/repos/repository/issues", "$.title")


def test_an_address_with_a_port_is_told_by_a_name_that_dagster_takes(tmp_path: Path) -> None:
    declared = (
        '  provider: shop\n  source: rest\n  api: {base_url: "http://127.0.0.1:4000/v2/"}\n'
        '  collections: {order: {read: {path: "/a b/{x}/orders", each: {x: [e]}, key: [id]}}}\n'
    )
    (collection,) = load_collections(write(tmp_path, shop=declared)).values()

    assert source_key(collection).to_user_string() == "127.0.0.1_4000/v2/a_b/x/orders"
