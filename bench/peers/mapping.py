"""From a record to a row, by hand: what users of a tool that only loads rows write for every collection."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COLUMNS = (
    "id",
    "upstream_id",
    "internal_id",
    "sync_id",
    "updated_idx",
    "deleted",
    "record_inserted_at",
    "upstream_created_at",
    "upstream_updated_at",
    "stripe_customer_id",
    "plan_id",
    "quantity",
    "status",
    "current_period_end",
    "metadata",
    "data",
)
JSON_COLUMNS = ("metadata", "data")
TIME_COLUMNS = ("record_inserted_at", "upstream_created_at", "upstream_updated_at", "current_period_end")


def pages(files: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Rows of one page after the other; JSON as Python objects, times as datetimes."""
    for file in files:
        yield [row(record) for record in json.loads(Path(file).read_bytes())]


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    data = record["data"]
    item = data["items"]["data"][0]
    return {
        "id": record["id"],
        "upstream_id": record["upstream_id"],
        "internal_id": record["sync"]["external_id"],
        "sync_id": record["sync"]["id"],
        "updated_idx": record["updated_idx"],
        "deleted": record["deleted"],
        "record_inserted_at": datetime.fromisoformat(record["inserted_at"]),
        "upstream_created_at": datetime.fromisoformat(record["upstream_created_at"]),
        "upstream_updated_at": datetime.fromisoformat(record["upstream_updated_at"]),
        "stripe_customer_id": data["customer"],
        "plan_id": item["price"]["id"],
        "quantity": item["quantity"],
        "status": data["status"],
        "current_period_end": datetime.fromtimestamp(data["current_period_end"], UTC),
        "metadata": data["metadata"],
        "data": data,
    }


def with_json_text(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with their JSON as text."""
    return [{**each, **{name: json.dumps(each[name]) for name in JSON_COLUMNS}} for each in rows]


def upsert_clause(guard: str = "<=") -> str:
    """The guarded update of the records API's own guides."""
    assignments = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
    return f"on conflict (id) do update set {assignments}, updated_at = now() where subscription.updated_idx {guard} excluded.updated_idx"


def newer_clause() -> str:
    """The same for whoever does not want known rows to be written again."""
    return upsert_clause("<")
