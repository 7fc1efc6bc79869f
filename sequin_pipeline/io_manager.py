"""Dagster on one side, the merge on the other: streams and frames become tables, what happened becomes metadata.

The one place where errors of the write become Dagster failures. Usable on its own in any Dagster project.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg
import pandas as pd

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.failures import failing
from sequin_pipeline.frames import FrameOutcome, read_frame, write_frame
from sequin_pipeline.ledger import Counts
from sequin_pipeline.ledger_schema import DEFAULT_SCHEMA
from sequin_pipeline.resources import WarehouseResource
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.stream import RecordStream
from sequin_pipeline.sync import Progress, SyncOutcome, run_sync

progress_logger = logging.getLogger("sequin_pipeline.progress")

KEY = "sequin_pipeline/key"
VERSION = "sequin_pipeline/version"
LIVE_ONLY = "sequin_pipeline/live_only"
COLUMNS = "columns"

LOG_SECONDS = 10.0
"""Between two lines about a run's progress in Dagster's own log; every line there is a row in its storage."""


class PostgresMergeIOManager(dg.ConfigurableIOManager):
    """Merges what assets return into Postgres tables named for their keys, and loads them again as DataFrames.

    Takes a RecordStream, or a DataFrame of an asset with the metadata `sequin_pipeline/key` (a column or a list of columns) and
    optionally `sequin_pipeline/version` (an integer column; without it each delivery is newest). Rows that a frame does not hold are
    left alone. An input may name `columns` in its metadata, and `sequin_pipeline/live_only: true` to leave out tombstones; the input
    of a partition holds the rows whose `record_inserted_at` lies in its window.
    """

    warehouse: dg.ResourceDependency[WarehouseResource]
    ledger_schema: str = DEFAULT_SCHEMA

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Writes, and adds what happened to the materialization."""
        with failing():
            if isinstance(obj, RecordStream):
                outcome = run_sync(
                    obj, self.warehouse.open(), run_id=context.run_id, schema=self.ledger_schema, report=_Reporter(context)
                )
                _add_sync_metadata(context, obj, outcome)
            elif isinstance(obj, pd.DataFrame):
                context.add_output_metadata(_frame_metadata(self._write_frame(context, obj)))
            else:
                raise TableRefused(
                    f"asset {context.asset_key.to_user_string()!r} returned a {type(obj).__name__}, and this IO manager writes "
                    "a RecordStream or a pandas DataFrame: return one of them, or give the asset another IO manager"
                )

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The upstream asset's table as a typed DataFrame."""
        metadata = context.definition_metadata
        with failing():
            return read_frame(
                self.warehouse.open(),
                _upstream_table(context),
                columns=metadata.get(COLUMNS),
                live_only=bool(metadata.get(LIVE_ONLY)),
                window=_asked_window(context),
            )

    def _write_frame(self, context: dg.OutputContext, frame: pd.DataFrame) -> FrameOutcome:
        metadata = context.definition_metadata
        key = metadata.get(KEY)
        name = context.asset_key.to_user_string()
        if not key:
            raise TableRefused(
                f"asset {name!r} returned a DataFrame without saying which columns identify a row: give it the metadata "
                f'"{KEY}", as in metadata={{"{KEY}": ["id"]}}'
            )
        version = metadata.get(VERSION)
        return write_frame(
            self.warehouse.open(),
            _table(context.asset_key, metadata),
            frame,
            key=(key,) if isinstance(key, str) else tuple(key),
            version=str(version) if version else None,
            run_id=context.run_id,
            window_key=context.partition_key if context.has_partition_key else "",
            schema=self.ledger_schema,
        )


class _Reporter:
    """Tells how far a run has come: every time to whoever listens to the logger, now and then in Dagster's log."""

    def __init__(self, context: dg.OutputContext) -> None:
        self._log = context.log
        self._last_logged = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        progress_logger.debug("%s", progress, extra={"progress": progress})
        if time.monotonic() - self._last_logged < LOG_SECONDS:
            return
        self._last_logged = time.monotonic()
        rate = progress.records / progress.seconds if progress.seconds else 0.0
        place = f", at {progress.stream_time:%Y-%m-%d %H:%M:%S} of the stream" if progress.stream_time else ""
        self._log.info(f"{progress.label}: {progress.pages} pages, {progress.records} records, {rate:,.0f} records/s{place}")


def _table(asset_key: dg.AssetKey, metadata: Mapping[str, object]) -> TableName:
    """`dagster/table_name` where it is declared; else the key's last part, in the schema that metadata or the key's prefix names."""
    declared = metadata.get("dagster/table_name")
    if isinstance(declared, str) and declared.count(".") == 1:
        return TableName(*declared.split("."))
    *prefix, name = asset_key.path
    schema = metadata.get("schema")
    return TableName(str(schema) if schema else prefix[-1] if prefix else "public", name)


def _upstream_table(context: dg.InputContext) -> TableName:
    upstream = context.upstream_output
    return _table(context.asset_key, upstream.definition_metadata if upstream else {})


def _asked_window(context: dg.InputContext) -> TimeWindow | None:
    """None for the whole table: an upstream without partitions, or all of them at once."""
    if not context.has_asset_partitions:
        return None
    partitions = context.asset_partitions_def
    keys = context.asset_partition_keys
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition) or len(keys) == partitions.get_num_partitions():
        return None
    asked = context.asset_partitions_time_window
    return TimeWindow(None if keys[0] == partitions.get_first_partition_key() else asked.start, asked.end)


def _add_sync_metadata(context: dg.OutputContext, stream: RecordStream, outcome: SyncOutcome) -> None:
    """What holds for the run goes to the output; counts go to the window that they belong to."""
    context.add_output_metadata(_run_metadata(outcome))
    for key in stream.plan.partition_keys:
        counts = outcome.counts_by_window.get(key, Counts())
        context.step_context.add_asset_metadata(
            metadata={**_count_metadata(counts), **({"sync_id": stream.plan.sync_id} if stream.plan.sync_id else {})},
            asset_key=context.asset_key,
            partition_key=key,
        )


def _count_metadata(counts: Counts) -> dict[str, int]:
    return {**asdict(counts), "dagster/partition_row_count": counts.created - counts.removed}


def _run_metadata(outcome: SyncOutcome) -> dict[str, dg.MetadataValue]:
    numbers: dict[str, int | float] = {
        "dagster/row_count": outcome.rows,
        "pages": outcome.pages,
        "requests": outcome.requests,
        "bytes": outcome.bytes,
        "wal_bytes": outcome.wal_bytes,
        "retries": outcome.retries,
        "rate_limit_seconds": outcome.rate_limit_seconds,
        "lag_seconds": outcome.lag_seconds,
        "outside": outcome.outside,
        "swept": outcome.swept,
        "refilled": outcome.refilled,
        "open_rejects": outcome.open_rejects,
        **{f"{stage}_seconds": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
    }
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))
        for name, value in numbers.items()
    }
    return metadata | {"cursor": dg.MetadataValue.text(outcome.cursor or "none")}


def _frame_metadata(outcome: FrameOutcome) -> dict[str, int]:
    return {**asdict(outcome.counts), "dagster/row_count": outcome.rows}
