"""This module tells the tables of assets that return frames as models, by the metadata that the assets declare.

A frame has its columns only once it is made: an asset that does not declare them (`dagster/column_schema`) is named, and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import dagster as dg

from sequin_pipeline.catalog import ColumnType
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable
from sequin_pipeline.orchestration.definitions import build_sync_definitions
from sequin_pipeline.orchestration.io_manager import KEY
from sequin_pipeline.orchestration.table_names import plain, table_place

COLUMN_SCHEMA = "dagster/column_schema"
"""This is Dagster's own key: a TableSchema, whose types are here those of Postgres."""


@dataclass(frozen=True)
class FrameModels:
    """This value holds the tables by asset, and the assets whose metadata does not tell their columns."""

    tables: Mapping[str, ModelTable]
    untold: Sequence[str]


def frame_models(environment: Mapping[str, str]) -> FrameModels:
    """Returns the tables of every asset that says by which key its frame is merged; raises ConfigurationError for a wrong schema."""
    tables, untold = {}, []
    for spec in build_sync_definitions(environment).resolve_all_asset_specs():
        key = plain(spec.metadata.get(KEY))
        if not key:
            continue
        name, schema = spec.key.to_user_string(), plain(spec.metadata.get(COLUMN_SCHEMA))
        if not isinstance(schema, dg.TableSchema):
            untold.append(name)
            continue
        keys = (key,) if isinstance(key, str) else tuple(map(str, key)) if isinstance(key, Sequence) else ()
        columns = tuple(_column(name, column, is_key=column.name in keys) for column in schema.columns)
        tables[name] = ModelTable(table_place(spec.key, spec.metadata).table, columns, description="")
    return FrameModels(tables, untold)


def _column(asset: str, column: dg.TableColumn, *, is_key: bool) -> ModelColumn:
    if column.type not in get_args(ColumnType):
        raise ConfigurationError(
            f"asset {asset!r} declares column {column.name!r} of type {column.type!r} in {COLUMN_SCHEMA}: write one of "
            f"{', '.join(get_args(ColumnType))}"
        )
    return ModelColumn(column.name, column.type, not is_key, is_key, "", holds_nulls=column.type == "text[]")
