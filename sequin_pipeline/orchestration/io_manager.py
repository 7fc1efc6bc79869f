"""This IO manager stands between Dagster and the merge: streams and frames become tables, what happened becomes metadata.

Errors of the write become Dagster failures here. It can be used on its own in any Dagster project.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import psycopg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment.lost_after import lost_after_seconds
from sequin_pipeline.errors import ConfigurationError, PipelineError, TableRefused
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.ledger.waiting import Waiting, read_waiting
from sequin_pipeline.orchestration.dagster_errors import failing
from sequin_pipeline.orchestration.resources import WarehouseResource
from sequin_pipeline.orchestration.run_metadata import (
    count_metadata,
    frame_metadata,
    run_metadata,
    window_metadata,
    window_observations,
)
from sequin_pipeline.orchestration.table_names import TablePlace, plain, table_place
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.first_load import read_collection
from sequin_pipeline.runs.frame_run import FrameOutcome, ReadNames, read_frame, write_frame
from sequin_pipeline.runs.life import showing_life
from sequin_pipeline.runs.outcome import Progress, SyncOutcome
from sequin_pipeline.runs.queue_run import DrainLimits, DrainOutcome, drain
from sequin_pipeline.sources import Source, TimeWindow
from sequin_pipeline.table.frame_owner import FrameOwner

logger = logging.getLogger("sequin_pipeline.io_manager")
progress_logger = logging.getLogger("sequin_pipeline.progress")

KEY = "sequin_pipeline/key"
VERSION = "sequin_pipeline/version"
TAKES_OVER = "sequin_pipeline/takes_over"
LIVE_ONLY = "sequin_pipeline/live_only"
COLUMN_NAMES = "sequin_pipeline/column_names"
COLUMNS = "columns"

LOG_SECONDS = 10.0
"""Dagster's own log gets a line about a run's progress this often; every line there is a row in its storage."""


class PostgresMergeIOManager(dg.ConfigurableIOManager):
    """This IO manager merges what assets return into Postgres tables named for their keys, and loads them again as DataFrames.

    It takes a RecordStream, or a DataFrame of an asset with the metadata `sequin_pipeline/key` (a column or a list of columns) and
    optionally `sequin_pipeline/version` (an integer column; without it each frame is newest). Rows that a frame does not hold are
    left alone. A table belongs to the first asset that writes it; `sequin_pipeline/takes_over` names the asset whose place another
    takes. An input may name `columns` in its metadata, and `sequin_pipeline/live_only: true` to leave out tombstones; the input of a
    partition holds the rows whose `record_inserted_at` lies in its window. docs/io-manager.md has all of it.
    """

    warehouse: dg.ResourceDependency[WarehouseResource]
    ledger_schema: str = DEFAULT_SCHEMA

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Writes the output, and adds what happened to the materialization."""
        with failing():
            if isinstance(obj, RecordStream):
                _add_sync_metadata(context, obj, self.sync(obj, run_id=context.run_id, log=context.log))
            elif isinstance(obj, pd.DataFrame):
                context.add_output_metadata(frame_metadata(self._write_frame(context, obj)))
            else:
                raise TableRefused(
                    f"asset {context.asset_key.to_user_string()!r} returned a {type(obj).__name__}, and this IO manager writes "
                    "a RecordStream or a pandas DataFrame: return one of them, or give the asset another IO manager"
                )

    def sync(self, stream: RecordStream, *, run_id: str, log: logging.Logger) -> SyncOutcome:
        """Writes a stream without an output, for a step whose run is not to count as a materialization; raises PipelineError."""
        with self.showing_life(run_id):
            return read_collection(
                stream, self.warehouse.open(), run_id=run_id, schema=self.ledger_schema, report=_Reporter(log, stream.run_config)
            )

    def drain(
        self,
        source: Source,
        collections: Sequence[Collection],
        *,
        run_id: str,
        limits: DrainLimits,
        adopt: bool,
        log: logging.Logger,
    ) -> DrainOutcome:
        """Writes what a queue delivers, for all of its collections in one step; raises PipelineError."""
        with self.showing_life(run_id):
            return drain(
                source,
                collections,
                self.warehouse.open(),
                run_id=run_id,
                schema=self.ledger_schema,
                limits=limits,
                adopt=adopt,
                report=_Reporter(log),
            )

    @contextmanager
    def showing_life(self, run_id: str) -> Iterator[None]:
        """Shows that this process is at work on the run; without a warehouse to write to, whoever needs it says so."""
        try:
            warehouse, limit = self.warehouse.open(), lost_after_seconds(os.environ)
        except ConfigurationError:
            yield
            return
        with showing_life(warehouse, run_id, schema=self.ledger_schema, lost_after_seconds=limit):
            yield

    def waiting(self, collection: Collection) -> Waiting | None:
        """Reads what waits for the collection's table in the ledger; None where it cannot be read, which is logged."""
        ledger = Ledger(str(collection.table), collection.label, self.ledger_schema)
        try:
            with self.warehouse.open().connect() as connection:
                return read_waiting(connection, ledger)
        except (PipelineError, psycopg.Error) as error:
            logger.warning("what waits for %s cannot be read: %s", collection.label, error)
            return None

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Loads the upstream asset's table as a typed DataFrame."""
        metadata = context.definition_metadata
        with failing():
            place = _upstream_place(context)
            return read_frame(
                self.warehouse.open(),
                place.table,
                columns=metadata.get(COLUMNS),
                live_only=bool(metadata.get(LIVE_ONLY)),
                window=_asked_window(context),
                names=_read_names(context),
                database=place.database,
            )

    def _write_frame(self, context: dg.OutputContext, frame: pd.DataFrame) -> FrameOutcome:
        metadata = context.definition_metadata
        key = plain(metadata.get(KEY))
        name = context.asset_key.to_user_string()
        if not key or not isinstance(key, str | Sequence):
            raise TableRefused(
                f"asset {name!r} returned a DataFrame without saying which columns identify a row: give it the metadata "
                f'"{KEY}", as in metadata={{"{KEY}": ["id"]}}'
            )
        version, takes_over = plain(metadata.get(VERSION)), plain(metadata.get(TAKES_OVER))
        place = table_place(context.asset_key, metadata)
        context.add_output_metadata({"dagster/table_name": str(place.table)})
        return write_frame(
            self.warehouse.open(),
            place.table,
            frame,
            key=(key,) if isinstance(key, str) else tuple(key),
            version=str(version) if version else None,
            run_id=context.run_id,
            window_key=context.partition_key if context.has_partition_key else "",
            schema=self.ledger_schema,
            owner=FrameOwner(name, str(takes_over) if takes_over else None),
            database=place.database,
        )


class _Reporter:
    """This reporter tells how far a run has come: always to the logger's listeners, now and then in Dagster's log."""

    def __init__(self, log: logging.Logger, run_config: RunConfig | None = None) -> None:
        self._log = log
        self._run_config = run_config
        self._last_logged = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        progress_logger.debug("%s", progress, extra={"progress": progress})
        if time.monotonic() - self._last_logged < LOG_SECONDS:
            return
        self._last_logged = time.monotonic()
        self._log.info(progress_line(progress, self._run_config, now=datetime.now(UTC)))


def progress_line(progress: Progress, run_config: RunConfig | None, *, now: datetime) -> str:
    """Returns pages, records, speed, and how much of the asked windows' time lies behind the last commit.

    What is to come has no known length.
    """
    rate = progress.records / progress.seconds if progress.seconds else 0.0
    line = f"{progress.label}: {progress.pages} pages, {progress.records} records, {rate:,.0f} records/s"
    if progress.stream_time is None or run_config is None or run_config.window is None or not run_config.window_starts:
        return line
    start, end = run_config.window_starts[0], min(run_config.window.end, now)
    share = (progress.stream_time - start) / (end - start) if end > start else 1.0
    return (
        f"{line}, at {progress.stream_time:%Y-%m-%d %H:%M:%S} of the stream, {max(0.0, min(1.0, share)):.0%} of the way from "
        f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
    )


def _upstream_place(context: dg.InputContext) -> TablePlace:
    upstream = context.upstream_output
    return table_place(context.asset_key, upstream.definition_metadata if upstream else {})


def _read_names(context: dg.InputContext) -> ReadNames:
    """Returns the names by which to read: a table that belongs to an application has its own."""
    upstream = context.upstream_output
    mapped = upstream.definition_metadata.get(COLUMN_NAMES) if upstream else None
    return ReadNames(mapped.get("deleted"), mapped.get("record_inserted_at")) if isinstance(mapped, dict) else ReadNames()


def _asked_window(context: dg.InputContext) -> TimeWindow | None:
    """Returns the window, or None for the whole table: an upstream without partitions, or all of them at once."""
    if not context.has_asset_partitions:
        return None
    partitions = context.asset_partitions_def
    keys = context.asset_partition_keys
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition) or len(keys) == partitions.get_num_partitions():
        return None
    asked = context.asset_partitions_time_window
    return TimeWindow(None if keys[0] == partitions.get_first_partition_key() else asked.start, asked.end)


def _add_sync_metadata(context: dg.OutputContext, stream: RecordStream, outcome: SyncOutcome) -> None:
    """Adds to each window what belongs to it, and to the output of an asset without windows what holds for the run."""
    if not stream.run_config.partition_keys:
        context.add_output_metadata({**count_metadata(outcome.counts), **run_metadata(outcome)})
        return
    if stream.run_config.has_many_windows:
        for observation in window_observations(context.asset_key, outcome):
            context.log_event(observation)
    for key, metadata in window_metadata(stream.run_config, outcome).items():
        context.step_context.add_asset_metadata(metadata=metadata, asset_key=context.asset_key, partition_key=key)
