"""The cast table: how a JSON value becomes a value of a column's type, or a reason why it does not.

One row per type: what the frame holds, what staging holds, how staging becomes the target's type. The casts themselves are exact:
a value is never changed, truncated, rounded or nulled in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sequin_pipeline.catalog import ColumnType


@dataclass(frozen=True)
class Storage:
    """How a type travels: `arrow` in the frame (as pandas ArrowDtype), `staging` as the type of the staging column, `cast` as the
    type that a surviving row's value is cast to (None: staging already has the target's type)."""

    arrow: pa.DataType
    staging: str
    cast: str | None = None


STORAGE: Mapping[ColumnType, Storage] = {
    "text": Storage(pa.string(), "text"),
    "boolean": Storage(pa.bool_(), "boolean"),
    "integer": Storage(pa.int32(), "integer"),
    "bigint": Storage(pa.int64(), "bigint"),
    "numeric": Storage(pa.string(), "text", "numeric"),
    "double precision": Storage(pa.float64(), "double precision"),
    "date": Storage(pa.date32(), "date"),
    "timestamptz": Storage(pa.timestamp("us", "UTC"), "timestamptz"),
    "uuid": Storage(pa.string(), "text", "uuid"),
    "text[]": Storage(pa.list_(pa.string()), "text", "text[]"),
    "jsonb": Storage(pa.string(), "text", "jsonb"),
}
