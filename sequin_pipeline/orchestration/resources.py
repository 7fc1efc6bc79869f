"""These resources are what runs and ticks need from outside: sources of records and the warehouse.

The environment is read when a run or a tick needs it, never while definitions load; a missing variable fails the run, by its name.
Which resources a project gets, and which it may bring itself, is in project_resources.py.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment.settings import WAREHOUSE_URL
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.shards import shards_left
from sequin_pipeline.ledger.status import CompletedRun, completed_runs, cursor_times
from sequin_pipeline.postgres.warehouse import Warehouse, attempt
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.registry import open_source

SOURCE = "sequin_source"
WAREHOUSE = "sequin_warehouse"
IO_MANAGER = "sequin_io_manager"
"""Nobody else's project has resources of these names, so that they can be added to any."""


class SourceResource(dg.ConfigurableResource["SourceResource"]):
    """This resource opens each collection's source; `variables` take precedence over the environment, and must hold no secrets."""

    variables: dict[str, str] = {}  # noqa: RUF012 - a field of the resource, copied for each

    def open(self, collection: Collection) -> Source:
        """Opens a source with connections of its own.

        Raises ConfigurationError for a variable that is missing or cannot be used.
        """
        return open_source(collection.source, {**os.environ, **self.variables})


class WarehouseResource(dg.ConfigurableResource["WarehouseResource"]):
    """This resource is the Postgres database that holds the tables and the ledger.

    `url` is what libpq takes; None stands for the environment's WAREHOUSE_URL.
    """

    url: str | None = None

    def open(self) -> Warehouse:
        """Returns where to connect; nothing is connected yet.

        Raises ConfigurationError where neither the resource nor the environment names a database.
        """
        url = os.environ.get(WAREHOUSE_URL, "").strip() if self.url is None else self.url
        if not url:
            raise ConfigurationError(
                f"{WAREHOUSE_URL} is not set in the environment of this process: set it to postgresql://user:password@host:5432/database, "
                f"or give the project a resource {WAREHOUSE!r} with a url, as in WarehouseResource(url=...)"
            )
        return Warehouse(url)


@dataclass(frozen=True)
class LiveState:
    """This value is what the ledger says of live runs.

    It holds `inserted_at` where each collection's live cursor stands, by label (missing or None: not begun), by label the run that ended
    last, and by label the shards that are left of first loads that are divided.
    """

    cursor_times: Mapping[str, datetime | None]
    completed_runs: Mapping[str, CompletedRun] = field(default_factory=dict)
    shards_left: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def live_state(warehouse: WarehouseResource) -> LiveState:
    """Reads the live state from the ledger, which is made where there is none yet; raises WarehouseError."""
    return read_live_state(warehouse.open())


def read_live_state(warehouse: Warehouse) -> LiveState:
    """Reads the live state as `live_state` does, for whoever has no resource."""

    def read() -> LiveState:
        with warehouse.connect() as connection:
            migrate(connection)
            return LiveState(cursor_times(connection), completed_runs(connection), shards_left(connection))

    return attempt(read, "reading the live cursors")
