"""These resources are what runs and ticks need from outside: sources of records and the warehouse.

The environment is read when a run or a tick needs it, never while definitions load; a missing variable fails the run, by its name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.ledger import HEARTBEAT_SECONDS
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.status import beating_runs, cursor_times
from sequin_pipeline.postgres.warehouse import Warehouse, attempt
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.registry import open_source

SOURCE = "source"
WAREHOUSE = "warehouse"
IO_MANAGER = "io_manager"

LIFE_SIGN = timedelta(seconds=60 * HEARTBEAT_SECONDS)
"""A run that was silent for longer than these ten minutes is taken for dead: one page may be retried for as long."""


class SourceResource(dg.ConfigurableResource["SourceResource"]):
    """This resource opens each collection's source; `variables` take precedence over the environment, and must hold no secrets."""

    variables: dict[str, str] = {}  # noqa: RUF012 - a field of the resource, copied for each

    def open(self, collection: Collection) -> Source:
        """Opens a source with connections of its own.

        Raises ConfigurationError for a variable that is missing or cannot be used.
        """
        return open_source(collection.source, {**os.environ, **self.variables})


class WarehouseResource(dg.ConfigurableResource["WarehouseResource"]):
    """This resource is the Postgres database that holds the tables and the ledger; `url` is what libpq takes."""

    url: str

    def open(self) -> Warehouse:
        """Returns where to connect; nothing is connected yet."""
        return Warehouse(self.url)


@dataclass(frozen=True)
class LiveState:
    """This value is what the ledger says of live runs.

    It holds `inserted_at` where each collection's live cursor stands, by label (missing or None: not begun), and which runs have shown
    life within LIFE_SIGN.
    """

    cursor_times: Mapping[str, datetime | None]
    beating_runs: frozenset[str] = frozenset()


def live_state(warehouse: WarehouseResource) -> LiveState:
    """Reads the live state from the ledger, which is made where there is none yet; raises WarehouseError."""

    def read() -> LiveState:
        with warehouse.open().connect() as connection:
            migrate(connection)
            return LiveState(cursor_times(connection), beating_runs(connection, LIFE_SIGN))

    return attempt(read, "reading the live cursors")
