"""This module says where the table of an asset is, by the asset's metadata and key."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from sequin_pipeline.catalog import MAX_IDENTIFIER_BYTES, TableName, cut_identifier
from sequin_pipeline.errors import TableRefused

TABLE_NAMES = ("dagster/table_name", "dagster/relation_identifier")
"""These keys are Dagster's own, and the older one that it still takes for it."""

SCHEMA = "schema"


@dataclass(frozen=True)
class TablePlace:
    """This value is a table, and the database that the metadata says it is in; None means whichever the warehouse is."""

    table: TableName
    database: str | None = None


def table_place(asset_key: dg.AssetKey, metadata: Mapping[str, object]) -> TablePlace:
    """Returns the table that the asset's metadata declares, else the one that its key names.

    It is declared as `database.schema.table`, `schema.table` or `table`; otherwise it is the key's last part, in the schema that the
    metadata, or the part before it, names. Names from the key that Postgres would cut are cut here, with a hash that tells them apart.
    Raises TableRefused for a declared name that cannot be used.
    """
    *prefix, last = asset_key.path
    said = plain(metadata.get(SCHEMA))
    schema = _checked(asset_key, SCHEMA, str(said)) if said else cut_identifier(prefix[-1]) if prefix else "public"
    for name in TABLE_NAMES:
        declared = plain(metadata.get(name))
        if declared is not None:
            return _declared(asset_key, name, str(declared), schema)
    return TablePlace(TableName(schema, cut_identifier(last)))


def plain(value: object) -> object:
    """Returns the value within Dagster's wrapper of metadata, where there is one."""
    return value.value if isinstance(value, dg.MetadataValue) else value


def _declared(asset_key: dg.AssetKey, name: str, declared: str, schema: str) -> TablePlace:
    parts = declared.split(".")
    if len(parts) > 3 or not all(parts) or '"' in declared:
        raise TableRefused(
            f"asset {asset_key.to_user_string()!r} says {name} {declared!r}: expected database.schema.table, schema.table or table, each "
            "part as Postgres has it, without quotes"
        )
    for part in parts:
        _checked(asset_key, name, part)
    *database, schema, table = parts if len(parts) > 1 else [schema, *parts]
    return TablePlace(TableName(schema, table), database[0] if database else None)


def _checked(asset_key: dg.AssetKey, name: str, part: str) -> str:
    size = len(part.encode(errors="surrogatepass"))
    if size > MAX_IDENTIFIER_BYTES:
        raise TableRefused(
            f"asset {asset_key.to_user_string()!r} says {name} with {part!r}, which is {size} bytes long and Postgres would cut to "
            f"{MAX_IDENTIFIER_BYTES}: name it shorter"
        )
    return part
