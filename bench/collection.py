"""The collection that every contestant writes, and the plan that the pipeline reads it by."""

from dataclasses import replace
from datetime import UTC, datetime

from bench.records import YEAR
from sequin_pipeline.catalog import Collection, Column, DataType, TableName, Windows, parse_path
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.table.target import Target, collection_target

TABLE = "subscription"

COLUMNS = (
    Column("stripe_customer_id", parse_path("customer"), "text"),
    Column("plan_id", parse_path("items.data[0].price.id"), "text"),
    Column("quantity", parse_path("items.data[0].quantity"), "integer"),
    Column("status", parse_path("status"), "text", is_required=True),
    Column("current_period_end", parse_path("current_period_end"), "timestamptz", time_format="epoch_seconds"),
    Column("metadata", parse_path("metadata"), "jsonb"),
)

COLLECTION = Collection(
    provider="stripe",
    name="subscription",
    table=TableName("pipeline", TABLE),
    windows=Windows("month", datetime(YEAR, 1, 1, tzinfo=UTC)),
    columns=COLUMNS,
)


def collection_in(schema: str, *, data_type: DataType = "jsonb") -> Collection:
    """The collection, landing in a contestant's own schema."""
    return replace(COLLECTION, table=TableName(schema, TABLE), data_type=data_type)


def target_in(schema: str, *, data_type: DataType = "jsonb") -> Target:
    """Its table there."""
    return collection_target(collection_in(schema, data_type=data_type))


def live_run_config(collection: Collection = COLLECTION, *, full_refresh: bool) -> RunConfig:
    """A live run over the months of the year in which the records entered the stream."""
    starts = tuple(datetime(YEAR, month, 1, tzinfo=UTC) for month in range(1, 13))
    return RunConfig(
        collection=collection,
        mode="live",
        window=None,
        partition_keys=tuple(f"{start:%Y-%m}" for start in starts),
        window_starts=starts,
        full_refresh=full_refresh,
    )
