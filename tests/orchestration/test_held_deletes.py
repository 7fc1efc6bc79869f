"""Deletes that are held, as somebody settles them in Dagster: with the run config or the tag that the red check tells."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import dagster as dg
import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WarehouseResource
from sequin_pipeline.sources import Listed, Page, ReadRequest, Source
from tests.support.builders import ListSource, collection, page_of, record
from tests.support.reading import query

THING = collection(observes_time=True)
OF_WINDOW = {"dagster/asset_partition_range_start": "2024-01", "dagster/asset_partition_range_end": "2024-01"}
LIVE = {"sequin_pipeline/mode": "live"}


@dataclass
class Shop:
    """Is the source and its resource: what is on its pages, each run."""

    pages: list[Page]

    def open(self, collection: Collection) -> Source:
        return _Pages([], pages_given=self.pages)


@dataclass
class _Pages(ListSource):
    pages_given: list[Page] | None = None

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield from self.pages_given or ()


def listing(count: int, version: int) -> list[Page]:
    records = [record(f"r{number:03}", version) for number in range(count)]
    ids = tuple(str(one["id"]) for one in records)
    return [
        replace(page_of(records, f"{version}.1"), listed=Listed("s1", version, ids)),
        replace(page_of([], f"{version}.2"), listed=Listed("s1", version, is_complete=True)),
    ]


def materialize(
    url: str, instance: dg.DagsterInstance, pages: list[Page], *, tags: dict[str, str] | None = None, config: object = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [build_asset(THING)],
        resources={SOURCE: Shop(pages), IO_MANAGER: PostgresMergeIOManager(warehouse=WarehouseResource(url=url))},
        tags={**OF_WINDOW, **LIVE, **(tags or {})},
        run_config=config,
        instance=instance,
    )


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "deletes_within_limit"]
    return found


@pytest.mark.parametrize("how", ["run config", "tag", "tag of a backfill"])
def test_what_the_red_check_tells_to_launch_marks_the_rows_and_turns_it_green(warehouse_url: str, how: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(warehouse_url, instance, listing(130, 10))
        held = materialize(warehouse_url, instance, listing(10, 20))
        red = check_of(held)
        later = check_of(materialize(warehouse_url, instance, [page_of([record("new", 30)], "30")]))
        before = query(warehouse_url, "select count(*) from demo.thing where deleted")
        tags = {"sequin_pipeline/accept_deletes": "120", **({"sequin_pipeline/mode": "backfill"} if "backfill" in how else {})}
        accepted = materialize(
            warehouse_url,
            instance,
            [],
            tags={} if how == "run config" else tags,
            config=red.metadata["run_config"].value if how == "run config" else None,
        )

    assert (held.success, red.passed, red.severity, later.passed) == (True, False, dg.AssetCheckSeverity.ERROR, False)
    assert red.metadata["held_deletes"].value == 120
    assert before == [(0,)]
    assert (accepted.success, check_of(accepted).passed) == (True, True)
    assert query(warehouse_url, "select count(*) filter (where deleted), count(*) from demo.thing") == [(120, 131)]
