"""Builders for tests: records, collections and plans with overrides, and a source that is a list of pages."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from sequin_pipeline.catalog import Collection, Column, OnDelete, TableName, Windows, parse_path
from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

COLUMNS = (
    Column("status", parse_path("status"), "text"),
    Column("amount", parse_path("amount"), "bigint"),
)


def collection(
    *,
    columns: tuple[Column, ...] = COLUMNS,
    on_delete: OnDelete = "mark",
    table: str = "demo.thing",
    name: str = "thing",
    observes_time: bool = False,
) -> Collection:
    schema, table_name = table.split(".")
    return Collection(
        provider="demo",
        name=name,
        table=TableName(schema, table_name),
        windows=Windows("month", EPOCH),
        columns=columns,
        on_delete=on_delete,
        observes_time=observes_time,
    )


def record(record_id: str = "r1", version: int = 1, **overrides: object) -> dict[str, object]:
    """A record in the envelope; `data=None` and `deleted=True` make a bare tombstone."""
    return {
        "id": record_id,
        "collection_id": "demo:thing",
        "provider": "demo",
        "stream_id": "default",
        "sync": {"id": "s1", "external_id": "tenant-1", "metadata": {}},
        "upstream_id": f"up_{record_id}",
        "updated_idx": version,
        "deleted": False,
        "inserted_at": (EPOCH + timedelta(minutes=version % 2**20)).isoformat(),
        "upstream_created_at": None,
        "upstream_updated_at": None,
        "data": {"status": "active", "amount": version},
    } | overrides


def page_of(records: Sequence[dict[str, object]], cursor: str | None, *, received_at: datetime | None = None) -> Page:
    return Page(json.dumps(records).encode(), cursor, received_at or datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class ListSource:
    """A stream given as pages; a cursor is the number of pages before it. Remembers what it was asked and what was committed.

    `breaks_at`: the number of pages after which the source cannot be reached any more.
    """

    page_records: Sequence[Sequence[dict[str, object]]]
    identity: SourceIdentity = field(default_factory=lambda: SourceIdentity("list", "http://demo"))
    can_reread: bool = True
    observes_time: bool = False
    requests: list[ReadRequest] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    breaks_at: int | None = None

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        self.requests.append(request)
        for index in range(int(request.after or 0), len(self.page_records)):
            if index == self.breaks_at:
                raise SourceUnavailable("the source of this test broke off")
            yield page_of(self.page_records[index], str(index + 1))

    def committed(self, cursor: str) -> None:
        self.commits.append(cursor)

    def head(self, collection_id: str) -> str | None:
        return None

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        return None


def live_run_config(
    of: Collection,
    *,
    full_refresh: bool = False,
    adopt: bool = False,
    others: Literal["keep", "mark"] = "keep",
    accept_deletes: int | None = None,
) -> RunConfig:
    starts = tuple(datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 13))
    return RunConfig(
        collection=of,
        mode="live",
        window=None,
        partition_keys=tuple(f"{start:%Y-%m}" for start in starts),
        window_starts=starts,
        full_refresh=full_refresh,
        adopt=adopt,
        others=others,
        accept_deletes=accept_deletes,
    )


def live_stream(of: Collection, *pages: Sequence[dict[str, object]]) -> RecordStream:
    return RecordStream(live_run_config(of), ListSource(pages))
