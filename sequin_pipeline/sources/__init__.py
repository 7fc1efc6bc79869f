"""This room defines what a source of records is: the one seam between the pipeline and whatever delivers records.

Here are the protocol and the values that cross it; each source is a module of its own beside this one. Nothing above this package
knows HTTP, and nothing in it knows Postgres or Dagster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class TimeWindow:
    """Half-open, aware, UTC: start <= record's `inserted_at` < end. `start` None: open to the left."""

    start: datetime | None
    end: datetime


@dataclass(frozen=True)
class ReadRequest:
    """What to read: `collections` are collection ids (`stripe:subscription`), `after` an opaque cursor of the same source (None:
    from the earliest record), `window` a hint for sources that can filter by time, `sync_ids` None for all syncs."""

    collections: frozenset[str]
    after: str | None = None
    window: TimeWindow | None = None
    sync_ids: frozenset[str] | None = None


@dataclass(frozen=True)
class PageCost:
    """What fetching one page took: requests sent, bytes received on the wire, requests beyond the first, seconds spent waiting
    because the source said so (`Retry-After`), and seconds in all."""

    requests: int = 1
    bytes: int = 0
    retries: int = 0
    rate_limit_seconds: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "PageCost") -> "PageCost":
        return PageCost(
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.retries + other.retries,
            self.rate_limit_seconds + other.rate_limit_seconds,
            self.seconds + other.seconds,
        )


NO_COST = PageCost(requests=0)


@dataclass(frozen=True)
class Listed:
    """What a page says of a listing of everything that one sync has: the `ids` of records it holds, of a listing that began at
    `version`. `is_complete`: with the pages before it, nothing that exists has been left out, and the page itself is empty."""

    sync_id: str
    version: int
    ids: tuple[str, ...] = field(default=(), repr=False)
    is_complete: bool = False


@dataclass(frozen=True)
class Page:
    """One answer of a source.

    `records` is the JSON text of an array of records in the envelope of the records API, not looked into: it may hold several
    collections, bad records, or none. Its brackets and strings balance, but a single record may be no valid JSON (NaN, half of a
    surrogate pair, nesting deeper than a decoder goes). `cursor` is the position after it (None: the source gave none; the last
    good cursor stays). `received_at` is the source's own clock when it answered, where it says so (HTTP `Date`), else ours.
    `listed` is there while everything is being listed; `notes` are sentences for whoever reads the run's metadata.
    """

    records: bytes = field(repr=False)
    cursor: str | None
    received_at: datetime
    cost: PageCost = PageCost()
    listed: Listed | None = None
    notes: tuple[str, ...] = ()

    @property
    def completes_a_listing(self) -> bool:
        """Such a page stands alone in its batch: what it says holds once everything before it has been committed."""
        return self.listed is not None and self.listed.is_complete


@dataclass(frozen=True)
class FieldDescription:
    """One field of a collection as the source describes it; `path` is its key in `data`, `type` the source's own word."""

    path: str
    type: str


@dataclass(frozen=True)
class SourceIdentity:
    """Whose positions these cursors are: `base_url` without credentials, query and trailing slash."""

    kind: str
    base_url: str
    stream: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.base_url}" + (f" stream {self.stream!r}" if self.stream else "")


class Source(Protocol):
    """A stream of records that can be read from a cursor on.

    `can_reread` is false for queues: no windows, no backfill. `observes_time` is true where versions are times of observation
    rather than counters: then equal content at a newer version is *unchanged* and the stored version stays.
    """

    identity: SourceIdentity
    can_reread: bool
    observes_time: bool

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Pages in the order of the stream until its end; lazy, one request ahead of nobody. Raises SourceError only.

        Of a queue a generator: a page is a delivery, and when the generator is closed or fails, it gives back those not committed.
        """
        ...

    def committed(self, cursor: str) -> None:
        """Called after the commit that stored everything up to `cursor`; a queue acknowledges here, and only here, perhaps while
        another thread asks for its next page."""
        ...

    def head(self, collection_id: str) -> str | None:
        """The cursor at the end of the stream, where the source can say; None where it cannot."""
        ...

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """The fields of `data`, where the source can say; empty where it cannot."""
        ...

    def collection_ids(self) -> frozenset[str] | None:
        """What the source offers; None where it cannot say."""
        ...
