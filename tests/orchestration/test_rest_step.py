"""A step that reads an API by declaration, in Dagster: its windows, and what its materialization says of how it was read."""

from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, SourceResource, WarehouseResource
from tests.orchestration.files import write
from tests.support.issues_api import TOKEN, IssuesApi, serving_issues
from tests.support.reading import query

DECLARED = "  provider: github\n  source: rest\n  windows: {every: month, start: 2026-01-01}\n  collections: {issue: }\n"
LIVE = {"sequin_pipeline/mode": "live"}


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving_issues() as api:
        for number in range(1, 60):
            api.put("octo/alpha" if number % 2 else "octo/beta", number)
        monkeypatch.setenv("GITHUB_API_URL", api.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_REPOSITORIES", "octo/alpha,octo/beta")
        (collection,) = load_collections(write(tmp_path, github=DECLARED)).values()
        yield api, build_asset(collection)


def run(asset: dg.AssetsDefinition, url: str, first: str, last: str, **tags: str) -> dict[str, object]:
    """The metadata of the last materialization, as the asset's page shows it."""
    window = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    resources = {SOURCE: SourceResource(), IO_MANAGER: PostgresMergeIOManager(warehouse=WarehouseResource(url=url))}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], resources=resources, tags={**window, **tags}, instance=instance)
        assert result.success
        *_, event = result.asset_materializations_for_node("github__issue")
        return {name: value.value for name, value in event.metadata.items()}


def test_a_partition_reads_its_window_again_and_nothing_else(
    warehouse_url: str, asset: tuple[IssuesApi, dg.AssetsDefinition]
) -> None:
    api, built = asset
    january = run(built, warehouse_url, "2026-01", "2026-01")
    api.asked.clear()

    february = run(built, warehouse_url, "2026-02", "2026-02")

    # From the second of January on, and all of February but its last day, which is the 60th.
    assert (january["inserted"], february["inserted"]) == (30, 28)
    assert query(warehouse_url, "select count(*) from github.issue where upstream_id = '40'") == [(1,)]
    assert {asked.params["since"] for asked in api.asked} == {"2026-01-31T23:59:59Z"}


def test_a_materialization_says_how_much_was_asked_for(warehouse_url: str, asset: tuple[IssuesApi, dg.AssetsDefinition]) -> None:
    _, built = asset

    first = run(built, warehouse_url, "2026-01", "2026-01", **LIVE)

    assert first["notes"] == "changes: 2 partitions, 2 pages"
    assert (first["pages"], first["requests"]) == (3, 2)
