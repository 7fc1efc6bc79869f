"""This room defines what a source of records is: the one seam between the pipeline and whatever delivers records.

Here are the protocol and the values that cross it; each source is a module or a package beside this one. Nothing above speaks HTTP to
a source, and nothing here knows Postgres or Dagster.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class TimeWindow:
    """A time window is half-open, aware and in UTC: start <= the record's `inserted_at` < end; `start` None means open to the
    left."""

    start: datetime | None
    end: datetime


@dataclass(frozen=True)
class ReadRequest:
    """A request says what to read from a source.

    `collections` are collection ids (`stripe:subscription`), `after` is an opaque cursor of the same source (None: from the
    earliest record), `window` is a hint for sources that can filter by time, and `sync_ids` None means all syncs. `stop` is set once
    nobody wants the pages any longer: a source that waits for something without end looks at it.
    """

    collections: frozenset[str]
    after: str | None = None
    window: TimeWindow | None = None
    sync_ids: frozenset[str] | None = None
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


@dataclass(frozen=True)
class PageCost:
    """This value counts what fetching one page took.

    Requests sent, bytes received on the wire, requests beyond the first, seconds spent waiting because the source said so
    (`Retry-After`), and seconds in all.
    """

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
    """This value says which records a page of a full listing of one sync holds.

    `ids` are those records, `version` is the one at which the listing began. `is_complete`: with the pages before it nothing that
    exists has been left out, and the page itself is empty.
    """

    sync_id: str
    version: int
    ids: tuple[str, ...] = field(default=(), repr=False)
    is_complete: bool = False


@dataclass(frozen=True)
class Page:
    """A page is one answer of a source.

    `records` is the JSON text of an array of records in the envelope of the records API, not looked into: it may hold several
    collections, bad records, or none. Its brackets and strings balance, but a single record may be no valid JSON (NaN, half of a
    surrogate pair, nesting deeper than a decoder goes). `cursor` is the position after it (None: the source gave none; the last
    good cursor stays). `received_at` is the source's own clock when it answered, where it says so (HTTP `Date`), else ours.
    `listed` is there while everything is being listed; `notes` are sentences for whoever reads the run's metadata.
    `tells_all_values`: the source never leaves values of an object out, so that nothing of an older version completes it. `ends_early`:
    behind this last page of the read there is more, which the source leaves to the next run.
    """

    records: bytes = field(repr=False)
    cursor: str | None
    received_at: datetime
    cost: PageCost = PageCost()
    listed: Listed | None = None
    notes: tuple[str, ...] = ()
    tells_all_values: bool = False
    ends_early: bool = False

    @property
    def completes_a_listing(self) -> bool:
        """This is true where the page ends a listing: it stands alone in its batch, as what it says holds once all before it is
        committed."""
        return self.listed is not None and self.listed.is_complete


@dataclass(frozen=True)
class FieldDescription:
    """This value is one field of a collection as the source describes it; `path` is its key in `data`, `type` the source's own
    word."""

    path: str
    type: str


@dataclass(frozen=True)
class SourceIdentity:
    """This value says whose cursors these are; `base_url` has no credentials, no query and no trailing slash."""

    kind: str
    base_url: str
    stream: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.base_url}" + (f" stream {self.stream!r}" if self.stream else "")


class Source(Protocol):
    """A source is a stream of records that can be read from a cursor on.

    `can_reread` is false for queues: no windows, no backfill. `observes_time` is true where versions are times of observation
    rather than counters: then equal content at a newer version is *unchanged* and the stored version stays.
    """

    identity: SourceIdentity
    can_reread: bool
    observes_time: bool

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields the pages of the stream in order until its end, each requested only when asked for; raises SourceError only.

        For a queue this is a generator: a page is a delivery, and when the generator is closed or fails, it gives back the
        deliveries that were not committed.
        """
        ...

    def committed(self, cursor: str) -> None:
        """Tells the source, after the commit that stored everything up to `cursor`, that it did.

        A queue acknowledges here and only here, perhaps while another thread asks for its next page.
        """
        ...

    def head(self, collection_id: str) -> str | None:
        """Returns the cursor at the end of the stream, or None where the source cannot say."""
        ...

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns the fields of `data`; the result is empty where the source cannot say."""
        ...

    def collection_ids(self) -> frozenset[str] | None:
        """Returns the ids of the collections that the source offers, or None where it cannot say."""
        ...


@dataclass(frozen=True)
class SyncListing:
    """This value says which syncs a source has that may hold records of a collection, and when it said so, by its own clock."""

    sync_ids: tuple[str, ...]
    received_at: datetime


@runtime_checkable
class ListsSyncs(Protocol):
    """A source that can be read sync by sync, in any order, has this method beside those of Source.

    A cursor of such a read is a position of the whole stream: after it, the records of all syncs can be read.
    """

    def list_syncs(self, collection_id: str) -> SyncListing | None:
        """Returns the syncs, or None where the source does not list them; raises SourceError."""
        ...


@runtime_checkable
class ForeseesListings(Protocol):
    """A source that lists everything now and then has this method beside those of Source."""

    def lists_next(self, request: ReadRequest) -> bool:
        """Says, without asking anybody, whether what reads this request lists everything, or goes on with that.

        Raises SourceError for a cursor that the source does not take.
        """
        ...


@runtime_checkable
class LooksUp(Protocol):
    """A source that can be asked for single objects has this method beside those of Source."""

    def look_up(self, collection_id: str, upstream_id: str, *, sync_id: str | None = None) -> Page | None:
        """Returns the object as it is now, a record for each sync (or the one) that has it.

        Returns None where objects of this collection cannot be asked for by their ids; raises SourceError.
        """
        ...
