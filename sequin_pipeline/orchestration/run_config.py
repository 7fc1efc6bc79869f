"""This module reads what a Dagster run asks of a collection, as the run config that the stream reads by.

Options come as Dagster's run config or as run tags, so that every launcher can pass them; the rule that tells live from backfill is
windows.run_mode.
"""

from typing import get_args

import dagster as dg
from pydantic import Field

from sequin_pipeline.catalog import Collection, Queue
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.census import Others
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.runs.queue_run import DrainLimits
from sequin_pipeline.windows import BACKFILL_TAG, MODE_TAG, KeyRange, asked_window, run_mode, start_of

SYNC_ID_TAG = "sequin_pipeline/sync_id"
FULL_REFRESH_TAG = "sequin_pipeline/full_refresh"
ADOPT_TAG = "sequin_pipeline/adopt"
OTHERS_TAG = "sequin_pipeline/others"
ACCEPT_DELETES_TAG = "sequin_pipeline/accept_deletes"
SHARD_TAG = "sequin_pipeline/shard"
"""Of a first load that is divided, the run reads the shard of this number."""


class CollectionConfig(dg.Config):
    """This config is what a run may be told beyond its windows."""

    sync_id: str | None = Field(default=None, description="read this sync only: a backfill that does not complete its windows")
    full_refresh: bool = Field(
        default=False, description="read the stream from its earliest record; a live run then continues from there"
    )
    adopt: bool = Field(default=False, description="take over a table that was filled from another URL or stream")
    others: str = Field(
        default="keep",
        description="with adopt or full_refresh, what becomes of rows that the source does not have: keep, or mark as deleted",
    )
    accept_deletes: int | None = Field(
        default=None, ge=1, description="mark up to so many rows of each sync as deleted that a listing does not have any more"
    )


def read_run_config(context: dg.AssetExecutionContext, config: CollectionConfig, collection: Collection) -> RunConfig:
    """Returns the run config of the run that `context` belongs to; raises ConfigurationError for tags with unknown values."""
    tags = context.run.tags
    sync_id = config.sync_id or tags.get(SYNC_ID_TAG)
    full_refresh = config.full_refresh or _claims(tags.get(FULL_REFRESH_TAG), FULL_REFRESH_TAG)
    asked = KeyRange(context.partition_key_range.start, context.partition_key_range.end)
    keys = tuple(context.partition_keys)
    record = context.instance.get_run_record_by_id(context.run.run_id)
    if record is None:
        raise ConfigurationError(f"run {context.run.run_id} of {collection.label!r} is not in Dagster's run storage")
    mode = run_mode(
        collection.windows,
        asked,
        tags=tags,
        created_at=record.create_timestamp,
        is_restricted=sync_id is not None,
    )
    return RunConfig(
        collection=collection,
        mode=mode,
        window=asked_window(collection.windows, asked),
        partition_keys=keys,
        window_starts=tuple(start_of(collection.windows, key) for key in keys),
        sync_id=sync_id,
        full_refresh=full_refresh,
        adopt=config.adopt or _claims(tags.get(ADOPT_TAG), ADOPT_TAG),
        others=_others(tags.get(OTHERS_TAG, config.others)),
        accept_deletes=config.accept_deletes or _count(tags.get(ACCEPT_DELETES_TAG), ACCEPT_DELETES_TAG, "a number of rows"),
        only_shard=_count(tags.get(SHARD_TAG), SHARD_TAG, "the number of a shard"),
    )


class QueueConfig(dg.Config):
    """This config is what a run of a queue may be told."""

    max_records: int | None = Field(default=None, description="end after the delivery that reaches so many; else as declared")
    max_seconds: float | None = Field(default=None, description="end after the delivery that reaches this time; else as declared")
    adopt: bool = Field(default=False, description="take over tables that were filled from another URL or stream")


def read_limits(context: dg.AssetExecutionContext, config: QueueConfig, queue: Queue) -> DrainLimits:
    """Returns when the run of a queue that `context` belongs to ends.

    Raises ConfigurationError for a run that asks to read something again: what was acknowledged is gone from a queue.
    """
    tags = context.run.tags
    asks = [tag for tag in (BACKFILL_TAG, SYNC_ID_TAG) if tag in tags]
    asks += [tag for tag, answer in ((MODE_TAG, "backfill"), (FULL_REFRESH_TAG, "true")) if tags.get(tag) == answer]
    if asks:
        raise ConfigurationError(refuse_reread(queue.consumer) + f" (the run has the tag {asks[0]})")
    return DrainLimits(
        config.max_records if config.max_records is not None else queue.max_records,
        config.max_seconds if config.max_seconds is not None else queue.max_seconds,
    )


def adopts(context: dg.AssetExecutionContext, config: QueueConfig) -> bool:
    """Says whether the run takes over tables, by its config or by the tag that commands set."""
    return config.adopt or _claims(context.run.tags.get(ADOPT_TAG), ADOPT_TAG)


def refuse_reread(consumer: str) -> str:
    """Returns the message for whoever asks a queue for windows, one sync, or everything from the beginning."""
    return (
        f"consumer {consumer!r} is a queue, which cannot be read again: it has no windows, no backfill and no full refresh. Run it as it "
        "is, and have the other side send again what is missing"
    )


def _others(word: str) -> Others:
    for known in get_args(Others):
        if word == known:
            others: Others = known
            return others
    raise ConfigurationError(f"others is {word!r}: expected {' or '.join(map(repr, get_args(Others)))}")


def _claims(value: str | None, tag: str) -> bool:
    if value not in (None, "true", "false"):
        raise ConfigurationError(f"run tag {tag} is {value!r}: expected 'true' or 'false'")
    return value == "true"


def _count(value: str | None, tag: str, expected: str) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ConfigurationError(f"run tag {tag} is {value!r}: expected {expected}, 1 or more")
    return int(value)
