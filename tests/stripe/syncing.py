"""Runs of collections of Stripe without Dagster, and what they left in the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from sequin_pipeline.catalog import Collection, Column, OnDelete, TableName, Windows, parse_path
from sequin_pipeline.outcome import SyncOutcome
from sequin_pipeline.sources.http import HttpOptions
from sequin_pipeline.sources.retries import RetryPolicy
from sequin_pipeline.sources.stripe import StripeSource
from sequin_pipeline.sources.stripe_objects import LISTABLE, Listable
from sequin_pipeline.stream import RecordStream
from sequin_pipeline.sync import run_sync
from sequin_pipeline.warehouse import Warehouse
from tests.builders import live_plan
from tests.stripe.shop import ACCOUNT, KEY

FAST = 10_000.0
"""Requests a second: loopback is nobody's account."""

LOCALSTRIPE = {name: replace(listable, filters_created=False, filters_events=False) for name, listable in LISTABLE.items()}
"""localstripe knows no bounds for `created` in its lists, nor patterns of events."""

PATIENT = HttpOptions(retry=RetryPolicy(budget_seconds=20.0, first_wait_seconds=0.01, longest_wait_seconds=0.05))


def stripe_collection(name: str, *, on_delete: OnDelete = "mark", columns: tuple[Column, ...] | None = None) -> Collection:
    return Collection(
        provider="stripe",
        name=name,
        table=TableName("stripe", name.replace(".", "_")),
        windows=Windows("month", datetime(2024, 1, 1, tzinfo=UTC)),
        columns=columns if columns is not None else (Column("object", parse_path("object"), "text"),),
        on_delete=on_delete,
        observes_time=True,
    )


@dataclass
class Runs:
    """Live runs over one account into one database; a listing at every run where `relist_hours` is 0."""

    api_url: str
    warehouse_url: str
    relist_hours: int = 24
    objects: Mapping[str, Listable] = field(default_factory=lambda: LOCALSTRIPE)
    on_delete: OnDelete = "mark"
    number: int = 0

    def source(self, **overrides: Any) -> StripeSource:
        options: dict[str, Any] = {
            "base_url": self.api_url,
            "relist_hours": self.relist_hours,
            "objects": self.objects,
            "requests_per_second": FAST,
            "options": PATIENT,
        }
        return StripeSource({ACCOUNT.name: KEY}, (ACCOUNT,), **{**options, **overrides})

    def sync(self, name: str, *, full_refresh: bool = False, batch_records: int = 5_000, **overrides: Any) -> SyncOutcome:
        self.number += 1
        of = stripe_collection(name, on_delete=self.on_delete)
        stream = RecordStream(live_plan(of, full_refresh=full_refresh), self.source(**overrides))
        return run_sync(stream, Warehouse(self.warehouse_url), run_id=f"run {self.number}", batch_records=batch_records)

    def live(self, name: str) -> dict[str, Any]:
        """The objects of the rows that are not deleted, by the object's id."""
        return self._rows(name, "not deleted")

    def deleted(self, name: str) -> set[str]:
        """The ids of the objects whose rows are marked."""
        return set(self._rows(name, "deleted"))

    def _rows(self, name: str, condition: str) -> dict[str, Any]:
        table = stripe_collection(name).table
        with psycopg.connect(self.warehouse_url) as connection:
            rows = connection.execute(
                f"select upstream_id, data from {table} where sync_id = 'main' and internal_id = 'tenant-1' and {condition}"
            ).fetchall()
        return dict(rows)
