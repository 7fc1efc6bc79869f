"""One live run of a collection, as most tests need it."""

from collections.abc import Sequence
from typing import Any, Literal

from sequin_pipeline.catalog import Collection
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import Source
from tests.support.builders import ListSource, collection, live_run_config


def sync(
    warehouse: str | Warehouse,
    *pages: Sequence[dict[str, object]],
    of: Collection | None = None,
    source: Source | None = None,
    run_id: str = "run",
    full_refresh: bool = False,
    adopt: bool = False,
    others: Literal["keep", "mark"] = "keep",
    accept_deletes: int | None = None,
    **options: Any,
) -> SyncOutcome:
    """Runs to the end of these pages, or of `source`; `options` are those of `run_sync`."""
    run_config = live_run_config(
        of or collection(), full_refresh=full_refresh, adopt=adopt, others=others, accept_deletes=accept_deletes
    )
    stream = RecordStream(run_config, source or ListSource(pages))
    return run_sync(stream, Warehouse(warehouse) if isinstance(warehouse, str) else warehouse, run_id=run_id, **options)
