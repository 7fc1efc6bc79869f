"""What a listing did not see is marked in an unmanaged table as in any other, by the table's own names."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Listed, Page, ReadRequest
from tests.support.builders import ListSource, live_run_config, page_of, record
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import unmanaged

UUIDS = tuple(f"00000000-0000-0000-0000-00000000000{number}" for number in range(3))
MAPPING = {
    "id": "recordId",
    "upstream_id": "upstreamId",
    "sync_id": "syncId",
    "updated_idx": "updatedIdx",
    "deleted": "isDeleted",
    "upstream_created_at": "createdAt",
}


@dataclass
class ListingSource(ListSource):
    """Lists all that is there in one page, and says so."""

    version: int = 0

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        (records,) = self.page_records
        ids = tuple(str(one["id"]) for one in records)
        yield replace(page_of(records, f"{self.version}.1"), listed=Listed("s1", self.version, ids))
        yield replace(page_of([], f"{self.version}.2"), listed=Listed("s1", self.version, is_complete=True))


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_rows_that_a_listing_does_not_see_are_deleted(app_url: str, on_delete: str) -> None:
    execute(
        app_url,
        'create table app."Listed" ("recordId" uuid primary key, "upstreamId" text not null, "syncId" text, "updatedIdx" bigint,'
        ' "isDeleted" boolean, "createdAt" timestamp not null, status text not null, amount bigint)',
    )
    removes = on_delete == "remove"
    mapping = {ours: theirs for ours, theirs in MAPPING.items() if not (removes and ours == "deleted")}
    of = replace(unmanaged(mapping, table="app.Listed", on_delete="remove" if removes else "mark"), observes_time=True)
    created = "2026-01-01T12:00:00.000000+00:00"
    first, second, third = (record(each, 10, upstream_created_at=created) for each in UUIDS)

    for version, seen in ((10, [first, second, third]), (20, [first, {**third, "updated_idx": 20}])):
        run_sync(
            RecordStream(live_run_config(of), ListingSource([seen], version=version)),
            Warehouse(app_url),
            run_id=f"listing {version}",
        )

    rows = query(
        app_url,
        'select "recordId"::text, "updatedIdx", coalesce("isDeleted", false), "createdAt"::text, status from app."Listed" order by 1',
    )
    live = [(each, 10, False, "2026-01-01 12:00:00", "active") for each in (UUIDS[0], UUIDS[2])]
    gone = [] if removes else [(UUIDS[1], 20, True, "2026-01-01 12:00:00", "active")]
    assert sorted(rows, key=str) == sorted([*live, *gone], key=str)
