"""Runs of collections of Stripe without Dagster, and what they left in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from sequin_pipeline.catalog import Collection, Column, OnDelete, TableName, Windows, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import Progress, SyncOutcome
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.stripe.objects import Listable
from sequin_pipeline.sources.stripe.source import StripeSource
from tests.sources.stripe.shop import ACCOUNT, KEY, LOCALSTRIPE
from tests.support.between import Between, nothing
from tests.support.builders import live_run_config

FAST = 10_000.0
"""Requests a second: loopback is nobody's account."""


def untold(objects: Mapping[str, Listable]) -> Mapping[str, Listable]:
    """As if no event told of customers, so that what a listing leaves out does not come otherwise."""
    return {**objects, "customer": replace(objects["customer"], events=())}


PLAIN = {"price": Listable("price", "/v1/prices", events=("price.*",))}
"""Listed as a whole, in one list, as most classes are."""

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
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    number: int = 0

    def source(self, **overrides: Any) -> StripeSource:
        options: dict[str, Any] = {
            "base_url": self.api_url,
            "relist_hours": self.relist_hours,
            "objects": self.objects,
            "requests_per_second": FAST,
            "options": replace(PATIENT, now=self.now),
        }
        return StripeSource({ACCOUNT.name: KEY}, (ACCOUNT,), **{**options, **overrides})

    def sync(
        self,
        name: str,
        *,
        batch_records: int = 5_000,
        happens: Callable[[int], None] = nothing,
        last: int | None = None,
        source: StripeSource | None = None,
        of: Collection | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
        accept_deletes: int | None = None,
    ) -> SyncOutcome:
        """One run; `happens` and `last` are those of Between."""
        self.number += 1
        of = of or stripe_collection(name, on_delete=self.on_delete)
        stream = RecordStream(live_run_config(of, accept_deletes=accept_deletes), Between(source or self.source(), happens, last))
        return run_sync(
            stream, Warehouse(self.warehouse_url), run_id=f"run {self.number}", batch_records=batch_records, report=report
        )

    def backfill(self, name: str) -> SyncOutcome:
        """All windows read again, beside whoever else is at work."""
        self.number += 1
        of = stripe_collection(name, on_delete=self.on_delete)
        window = TimeWindow(None, datetime(2100, 1, 1, tzinfo=UTC))
        stream = RecordStream(replace(live_run_config(of), mode="backfill", window=window), self.source())
        return run_sync(stream, Warehouse(self.warehouse_url), run_id=f"run {self.number}")

    def live(self, name: str) -> dict[str, Any]:
        """The objects of the rows that are not deleted, by the object's id."""
        return self._rows(name, "not deleted")

    def deleted(self, name: str) -> set[str]:
        """The ids of the objects whose rows are marked."""
        return set(self._rows(name, "deleted"))

    def dump(self) -> list[str]:
        """Every row of the table and of the ledger, as text."""
        with psycopg.connect(self.warehouse_url) as connection:
            tables = connection.execute(
                "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('stripe', 'sequin_pipeline')"
            ).fetchall()
            return [row[0] for (table,) in tables for row in connection.execute(f"select t::text from {table} t")]

    def _rows(self, name: str, condition: str) -> dict[str, Any]:
        table = stripe_collection(name).table
        with psycopg.connect(self.warehouse_url) as connection:
            rows = connection.execute(
                f"select upstream_id, data from {table} where sync_id = 'main' and internal_id = 'tenant-1' and {condition}"
            ).fetchall()
        return dict(rows)
