"""What happens in the stream: a change by its number alone, so that the server and whoever checks the tables agree without talking."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

MIX = 0x9E3779B97F4A7C15
OBJECTS_PER_SYNC = 200
DELETED_EVERY = 23


@dataclass(frozen=True)
class Scale:
    """How many collections there are, each delivered by how many syncs, and how many changes a second."""

    collections: int
    syncs: int
    rate: float


@dataclass(frozen=True)
class Change:
    """One version of a record; a greater number is newer."""

    number: int
    collection: str
    sync_id: str
    record_id: str
    is_deleted: bool

    @property
    def version(self) -> int:
        return self.number + 1


def change(number: int, scale: Scale) -> Change:
    """The change with this number, from 0."""
    mixed = (number * MIX & 0xFFFF_FFFF_FFFF_FFFF) >> 32
    collection = mixed % scale.collections
    sync = mixed // scale.collections % scale.syncs
    item = mixed // (scale.collections * scale.syncs) % OBJECTS_PER_SYNC
    return Change(
        number, f"c{collection:02}", f"sync-{sync:02}", f"c{collection:02}-{sync:02}-{item:04}", number % DELETED_EVERY == 0
    )


def line(of: Change, began_at: datetime, scale: Scale) -> bytes:
    """The record as the API sends it, about 0.7 kB; it entered the stream when its turn came."""
    entered_at = began_at + timedelta(seconds=of.number / scale.rate)
    return json.dumps(
        {
            "id": of.record_id,
            "collection_id": f"load:{of.collection}",
            "provider": "load",
            "stream_id": "default",
            "sync": {"id": of.sync_id, "external_id": f"tenant of {of.sync_id}", "metadata": {}},
            "upstream_id": f"up_{of.record_id}",
            "updated_idx": of.version,
            "deleted": of.is_deleted,
            "inserted_at": entered_at.isoformat(),
            "upstream_created_at": None,
            "upstream_updated_at": entered_at.isoformat(),
            "data": {"number": of.number, "status": "gone" if of.is_deleted else "active", "notes": f"{of.number:08}" * 40},
        }
    ).encode()
