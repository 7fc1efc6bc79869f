"""What runs and ticks need from outside: the records API and the warehouse.

The environment is read when a run or a tick needs it, never while definitions load; a variable that is missing fails the run, by
its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from sequin_pipeline.ledger import HEARTBEAT_SECONDS, beating_runs, cursor_times
from sequin_pipeline.ledger_schema import migrate
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.warehouse import Warehouse, attempt

SOURCE = "source"
WAREHOUSE = "warehouse"
IO_MANAGER = "io_manager"

LIFE_SIGN = timedelta(seconds=60 * HEARTBEAT_SECONDS)
"""Ten minutes: as long as one page may be asked for again. A run that was silent for longer is taken for dead."""


class SequinSourceResource(dg.ConfigurableResource["SequinSourceResource"]):
    """The page API at `base_url`, read with the bearer token of the environment, if there is one: the sandbox needs none."""

    base_url: str
    token_variable: str = "SEQUIN_API_TOKEN"  # noqa: S105 - the name of a variable, not a token

    def open(self) -> Source:
        """A source with connections of its own. Raises ConfigurationError for an address or token that cannot be used."""
        return SequinSource(self.base_url, dg.EnvVar(self.token_variable).get_value())


class WarehouseResource(dg.ConfigurableResource["WarehouseResource"]):
    """The Postgres database that holds the tables and the ledger; `url` is what libpq takes."""

    url: str

    def open(self) -> Warehouse:
        """Where to connect; nothing is connected yet."""
        return Warehouse(self.url)


@dataclass(frozen=True)
class LiveState:
    """What the ledger says of live runs: `inserted_at` where each collection's live cursor stands, by label (missing or None: not
    begun), and which runs have shown life within LIFE_SIGN."""

    cursor_times: Mapping[str, datetime | None]
    beating_runs: frozenset[str] = frozenset()


def live_state(warehouse: WarehouseResource) -> LiveState:
    """Reads the ledger, which is made where there is none yet. Raises WarehouseError."""

    def read() -> LiveState:
        with warehouse.open().connect() as connection:
            migrate(connection)
            return LiveState(cursor_times(connection), beating_runs(connection, LIFE_SIGN))

    return attempt(read, "reading the live cursors")
