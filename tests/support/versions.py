"""What a history table must hold, in plain Python: the promise of write/history_table.py, written down a second time.

Knows nothing of SQL, batches or the order of deliveries: every version that came, once, in the order of its time, then of its version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.support.fold import is_bare

NEVER_TOLD = datetime(1970, 1, 1, tzinfo=UTC)

Version = tuple[object, ...]
"""id, version, deleted, since when it holds, until when, status, data."""


VERSIONS = "select id, updated_idx, deleted, valid_from, valid_to, status, data from {} order by id, valid_from, updated_idx"


@dataclass
class VersionsFold:
    """The versions that were delivered, by id and version: the content that came last. `since`: what had ended by then is not kept."""

    since: datetime | None = None
    versions: dict[tuple[str, int], Mapping[str, object]] = field(default_factory=dict)

    def deliver(self, record: Mapping[str, object]) -> None:
        self.versions[str(record["id"]), int(str(record["updated_idx"]))] = record

    def rows(self) -> list[Version]:
        """The rows in the order of id, time and version."""
        found: list[Version] = []
        placed = sorted((key[0], holds_from(record), key[1], record) for key, record in self.versions.items())
        for place, (record_id, start, version, record) in enumerate(placed):
            followers = placed[place + 1 : place + 2]
            end = followers[0][1] if followers and followers[0][0] == record_id else None
            if self.since is not None and end is not None and end <= self.since:
                continue
            data = record.get("data") or None
            status = data.get("status") if isinstance(data, dict) else None
            found.append((record_id, version, record["deleted"], start, end, status, data))
        return found


def holds_from(record: Mapping[str, object]) -> datetime:
    """Since when a version holds: the provider's time, else when it entered the stream; the later one for a bare tombstone."""
    told, entered = (_time(record.get(name)) for name in ("upstream_updated_at", "inserted_at"))
    if is_bare(record):
        return max((each for each in (told, entered) if each is not None), default=NEVER_TOLD)
    return told or entered or NEVER_TOLD


def _time(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
