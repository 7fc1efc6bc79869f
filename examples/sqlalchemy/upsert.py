"""Writes the records on standard input, one JSON object a line, each unless the row has a newer version already."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

from database import engine
from models import Subscription
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import Insert, insert


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def envelope_of(record: dict[str, Any]) -> dict[str, Any]:
    """What every record says, a bare tombstone too."""
    return {
        "upstream_id": record["upstream_id"],
        "internal_id": record["sync"]["external_id"],
        "sync_id": record["sync"]["id"],
        "updated_idx": record["updated_idx"],
        "deleted": record["deleted"],
        "upstream_created_at": moment(record["upstream_created_at"]),
        "upstream_updated_at": moment(record["upstream_updated_at"]),
    }


def object_of(record: dict[str, Any]) -> dict[str, Any]:
    """What only the provider's object says."""
    data = record["data"] or {}
    item = next(iter(data.get("items", {}).get("data", [])), {})
    period_end = data.get("current_period_end")
    return {
        "customer_id": data.get("customer"),
        "status": data.get("status"),
        "plan_id": item.get("price", {}).get("id"),
        "quantity": item.get("quantity"),
        "current_period_end": None if period_end is None else datetime.fromtimestamp(period_end, UTC),
        "metadata": data.get("metadata"),
    }


def upsert(record: dict[str, Any]) -> Insert:
    envelope, written = envelope_of(record), object_of(record)
    is_bare_tombstone = record["deleted"] and not record["data"]
    table = Subscription.__table__
    statement = insert(table).values({"id": record["id"], **envelope, **written})
    return statement.on_conflict_do_update(
        index_elements=["id"],
        set_={**envelope, **({} if is_bare_tombstone else written), "updated_at": func.now()},
        where=table.c.updated_idx <= statement.excluded.updated_idx,
    )


for line in filter(str.strip, sys.stdin):
    with engine.begin() as connection:
        connection.execute(upsert(json.loads(line)))
