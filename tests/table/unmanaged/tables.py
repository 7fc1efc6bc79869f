"""Tables of made-up applications, and collections that land in them."""

from dataclasses import replace
from uuid import uuid4

from sequin_pipeline.catalog import Collection, Column, KeyColumn, OnDelete, UnmanagedTable
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config

SUBSCRIPTION = """create table app."Subscription" (
    "recordId" text primary key,
    "upstreamId" text not null,
    "updatedIdx" bigint not null,
    "isDeleted" boolean not null default false,
    "Status" text not null,
    "amountCents" bigint,
    plan text not null default 'free'
)"""
"""As an ORM writes it: upper and lower case, a required column of ours, and one of the application's own with a default."""

MAPPING = {
    "id": "recordId",
    "upstream_id": "upstreamId",
    "updated_idx": "updatedIdx",
    "deleted": "isDeleted",
    "status": "Status",
    "amount": "amountCents",
}


def unmanaged(
    mapping: dict[str, str],
    *,
    table: str = "app.Subscription",
    columns: tuple[Column, ...] = COLUMNS,
    key: tuple[KeyColumn, ...] = ("id",),
    on_delete: OnDelete = "mark",
    rounds: bool = False,
) -> Collection:
    """A collection over an unmanaged table, whose declared columns go to those of their own names unless mapped."""
    names = {column.name: column.name for column in columns}
    of = collection(columns=columns, table=table, on_delete=on_delete)
    return replace(of, unmanaged=UnmanagedTable({**names, **mapping}, key, rounds))


def deliver(url: str, of: Collection, *pages: list[dict[str, object]], batch_records: int = 5_000, lanes: int = 1) -> SyncOutcome:
    """One run that reads these pages from the beginning."""
    stream = RecordStream(live_run_config(of, full_refresh=True), ListSource(pages))
    return run_sync(stream, Warehouse(url), run_id=str(uuid4()), batch_records=batch_records, lanes=lanes)
