"""These values go from whoever makes up the sandbox's objects to whoever serves them.

What an object looks like is decided by a `ChangeSource` (population.py); its position, version and wire form are given to it by
the stream. Nothing here knows HTTP.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class SyncInfo:
    """A sync is one connection to one account of a provider, as `/v1/syncs` describes it.

    `external_id` is the tenant's id in your system. Times are aware and UTC.
    """

    id: str
    name: str
    provider: str
    stream_id: str
    collection_ids: tuple[str, ...]
    external_id: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    status: str = "active"
    health: str = "healthy"
    max_age_days: int | None = None
    sync_frequency: str = "1m"
    initial_backfill_completed_at: datetime | None = None


@dataclass(frozen=True)
class FieldInfo:
    """This value is one field of a collection, as `/v1/collections/{credential_id}` describes it; `accessor` is its key in `data`."""

    id: str
    name: str
    accessor: str
    type: str
    primary_key: bool = False


@dataclass(frozen=True)
class Change:
    """A change says that an object was created, changed or deleted at its provider.

    `data` is the JSON text of the whole object, in UTF-8, sent out as it is; None: a bare tombstone. `changed_at` is when the
    change enters the stream. Times are aware and UTC.
    """

    collection_id: str
    sync: SyncInfo
    upstream_id: str
    deleted: bool
    data: bytes | None
    changed_at: datetime
    upstream_created_at: datetime | None = None
    upstream_updated_at: datetime | None = None


class ChangeSource(Protocol):
    """A change source makes objects up, deterministically.

    Two sources of the same seed give the same changes, byte for byte, when they are asked for the same things in the same order.
    """

    def initial(self) -> Iterator[Change]:
        """Yields what is there before the sandbox starts, ordered by `changed_at`, at fixed dates."""
        ...

    def next_change(self, at: datetime) -> Change:
        """Makes the next change, after `initial`: an update, a deletion with or without its object, or a creation."""
        ...

    def syncs(self) -> tuple[SyncInfo, ...]:
        """Returns every sync that a change may name."""
        ...

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]:
        """Returns the fields of the collection's objects; empty for a collection that it does not know."""
        ...
