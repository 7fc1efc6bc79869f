"""Builders of records, pages and collections for the tests of this folder."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from sequin_pipeline.catalog import Collection, Column, ColumnType, Windows, default_table, parse_path
from sequin_pipeline.normalize.normalizer import NormalizedPages, Normalizer

RECORD = {
    "id": "rec_1",
    "collection_id": "stripe:subscription",
    "provider": "stripe",
    "stream_id": "main",
    "sync": {"id": "sync_1", "external_id": "tenant_1", "metadata": {"plan": "pro"}},
    "upstream_id": "sub_1",
    "updated_idx": 2745327036,
    "deleted": False,
    "inserted_at": "2024-03-01T12:00:00.123456Z",
    "upstream_created_at": "2024-01-01T00:00:00Z",
    "upstream_updated_at": None,
    "data": {"customer": "cus_1"},
}


def record(**overrides: Any) -> dict[str, Any]:
    """The record of the contract's current form, with other members; `...` leaves a member out."""
    return {name: value for name, value in (RECORD | overrides).items() if value is not ...}


def column(name: str, path: str, type_: ColumnType = "text", **options: Any) -> Column:
    return Column(name, parse_path(path), type_, **options)


def collection(*columns: Column) -> Collection:
    return Collection(
        "stripe",
        "subscription",
        default_table("stripe", "subscription"),
        Windows("month", datetime(2024, 1, 1, tzinfo=UTC)),
        columns,
    )


def page(*records: Any) -> bytes:
    """A page as a source sends it; bytes are taken as the text of a record."""
    return b"[" + b",".join(text(each) for each in records) + b"]"


def text(each: Any) -> bytes:
    return each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode()


def with_value(value: bytes, **overrides: Any) -> bytes:
    """A record whose object is `{"v": <value>}`, the value being JSON text."""
    return text(record(data="@", **overrides)).replace(b'"@"', b'{"v": ' + value + b"}")


def normalize(*records: Any, columns: tuple[Column, ...] = (), nulls_unfit: bool = False) -> NormalizedPages:
    return Normalizer(collection(*columns), nulls_unfit=nulls_unfit)(page(*records))


def rows(normalized: NormalizedPages, *names: str) -> list[tuple[Any, ...]]:
    """The frame's rows as Python values, None for null."""
    columns = pa.Table.from_pandas(normalized.frame[list(names)], preserve_index=False).columns
    return list(zip(*(column.to_pylist() for column in columns), strict=True))
