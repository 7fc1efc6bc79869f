"""This source reads the objects of a feed in the order that finds everything: what is new at each run, and what is gone in time.

The first run reads from the beginning, with a state as it goes. Later runs read on from that state. Every `relist_hours` everything is
listed, and what the listing no longer has counts as deleted. A collection without versions is listed at each run.
"""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime

from msgspec import Raw
from msgspec.structs import replace

from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.sources import NO_COST, FieldDescription, Listed, Page, ReadRequest, SourceIdentity, TimeWindow
from sequin_pipeline.sources.keyed.cursor import Cursor, Listing, read_cursor, state_of, write_cursor
from sequin_pipeline.sources.keyed.feed import Arrival, Feed, Reading
from sequin_pipeline.sources.keyed.records import RecordWriter, Written, write_page
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.times import MICROSECOND, SKEW, micros

LOGGER = logging.getLogger("sequin_pipeline.sources")

PAGE_RECORDS = 1_000
"""An arrival of more objects is handed on as several pages."""

_SKEW_MICROS = SKEW // MICROSECOND


class KeyedSource:
    """This source reads one collection at a time from a feed; its only sync is `sync_id`."""

    can_reread = True
    observes_time = True

    def __init__(
        self,
        feed: Feed,
        identity: SourceIdentity,
        *,
        relist_hours: int = 24,
        sync_id: str = "default",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.identity = identity
        self._feed = feed
        self._relist_micros = relist_hours * 3_600_000_000
        self._sync_id = sync_id
        self._now = now

    def __repr__(self) -> str:
        return f"KeyedSource({self.identity})"

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields what `after` does not know; with a window, what the feed has of it, and then `after` means nothing.

        Raises SourceError, also for a window before the present of a collection whose objects tell no time.
        """
        if request.sync_ids is not None and self._sync_id not in request.sync_ids:
            return
        (collection_id,) = request.collections
        cursor = None if request.after is None or request.window else read_cursor(request.after, kind=self.identity.kind)
        shape = self._feed.shape(collection_id.partition(":")[2])
        read = _Read(self._feed, shape, collection_id, self._sync_id, now=self._now, stop=request.stop)
        if request.window is not None:
            yield from read.window(request.window)
        elif shape.version is None:
            yield from read.list_all(_begun(cursor, read.started, shape))
        else:
            yield from self._live(read, cursor)

    def lists_next(self, request: ReadRequest) -> bool:
        """Says whether everything is listed: at each read without versions, else in time; a first read reads the same."""
        if request.after is None:
            return True
        (collection_id,) = request.collections
        cursor = read_cursor(request.after, kind=self.identity.kind)
        return self._feed.shape(collection_id.partition(":")[2]).version is None or self._is_due(cursor, self._now())

    def _is_due(self, cursor: Cursor, now: datetime) -> bool:
        return cursor.listing is not None or micros(now) - cursor.listed >= self._relist_micros

    def _live(self, read: "_Read", cursor: Cursor | None) -> Iterator[Page]:
        """Reads what is new, and then lists everything where it is time for that: so news come in even while no listing gets through."""
        reached = yield from read.news(cursor or _begun(None, read.started, read.shape))
        if reached is None or cursor is None:
            return
        if self._is_due(reached, read.started):
            yield from read.list_all(reached)

    def committed(self, cursor: str) -> None:
        """Does nothing: what was read can be read again."""

    def head(self, collection_id: str) -> None:
        """Returns None: there is no stream whose end could be named."""

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns nothing: what an object holds is seen in objects."""
        return ()

    def collection_ids(self) -> None:
        """Returns None: any path of an API can be declared."""


def _begun(cursor: Cursor | None, started: datetime, shape: Shape) -> Cursor:
    """Returns the cursor with which a read from the beginning starts, where there is none.

    Everything that it sees gets at least the floor as its version, so that rows which were marked by mistake come back.
    """
    return cursor or Cursor(floor=_floor(started, shape), listed=micros(started))


def _floor(started: datetime, shape: Shape) -> int:
    """Returns the version of a whole read: dated back by as much as the clock may be behind that gives later versions."""
    return micros(started) - (0 if shape.version is None else _SKEW_MICROS)


class _Read:
    """This read of one collection is under way; its methods yield pages, and return the cursor that they reached."""

    def __init__(
        self, feed: Feed, shape: Shape, collection_id: str, sync_id: str, *, now: Callable[[], datetime], stop: threading.Event
    ) -> None:
        self.shape = shape
        self.started = now()
        self._feed = feed
        self._collection_id, self._sync_id = collection_id, sync_id
        self._now = now
        self._stop = stop

    def news(self, cursor: Cursor) -> Generator[Page, None, Cursor | None]:
        """Reads on from the cursor's state. Returns None where the feed left a part to the next run."""
        writer = self._writer(cursor.floor)
        reading = Reading(started=self.started, state=state_of(cursor.state), stop=self._stop)
        ends_early = False
        for arrival in self._arrivals(reading):
            if arrival.state is not None:
                cursor = replace(cursor, state=Raw(arrival.state))
            ends_early = arrival.ends_early
            yield from self._pages(arrival, writer.write(arrival.objects, arrival.values), write_cursor(cursor))
        return None if ends_early else cursor

    def list_all(self, cursor: Cursor) -> Generator[Page, None, Cursor]:
        """Lists everything, from where an earlier run left off if the feed can go on there; else anew, above what that one saw."""
        cursor, listing = self._begin_listing(cursor)
        writer = self._writer(cursor.floor)
        reading = Reading(
            started=self.started, state=state_of(listing.state), lists=True, known=state_of(cursor.state), stop=self._stop
        )
        for arrival in self._arrivals(reading):
            written = writer.write(arrival.objects, arrival.values)
            seen_ids, without = writer.ids(arrival.seen)
            is_whole = listing.is_whole and arrival.is_whole and not written.unreadable and not without and not arrival.ends_early
            listing = replace(listing, is_whole=is_whole)
            if arrival.state is not None and self.shape.resumes_listings:
                listing = replace(listing, state=Raw(arrival.state))
            cursor = replace(cursor, listing=listing)
            listed = Listed(self._sync_id, cursor.floor, (*written.ids, *seen_ids))
            yield from self._pages(arrival, written, write_cursor(cursor), listed=listed)
        cursor = replace(cursor, listing=None, listed=listing.started)
        complete = Listed(self._sync_id, cursor.floor, is_complete=True) if listing.is_whole else None
        notes = () if listing.is_whole else ("not everything in the list could be told apart, so no object counts as deleted",)
        yield Page(b"[]", write_cursor(cursor), self._now(), NO_COST, listed=complete, notes=notes)
        return cursor

    def _begin_listing(self, cursor: Cursor) -> tuple[Cursor, Listing]:
        """Begins a listing with a version of its own: ids are kept in the ledger by the listing's version."""
        listing = cursor.listing
        if listing is not None and state_of(listing.state) is not None and self.shape.resumes_listings:
            return cursor, listing
        listing = Listing(micros(self.started))
        least = cursor.floor if cursor.listing is None else cursor.floor + 1
        cursor = replace(cursor, floor=max(least, _floor(self.started, self.shape)), listing=listing)
        return cursor, listing

    def window(self, window: TimeWindow) -> Iterator[Page]:
        """Reads what the feed has of a time window, beside whoever else is at work: no cursor moves."""
        if self.shape.version is None and self.shape.created is None and window.end <= self.started:
            raise SourceRefused(
                f"the objects of {self._collection_id} tell no time, so that nobody can say which of them belong in a window that ended "
                f"at {window.end:%Y-%m-%d %H:%M} UTC: sync it without windows, or ask for a window that reaches to the present, which "
                "holds all of them"
            )
        writer = self._writer(0)
        for arrival in self._arrivals(Reading(started=self.started, window=window, stop=self._stop)):
            yield from self._pages(arrival, writer.write(arrival.objects, arrival.values), None)

    def _writer(self, floor: int) -> RecordWriter:
        return RecordWriter(
            self.shape, collection_id=self._collection_id, sync_id=self._sync_id, started=self.started, floor=floor
        )

    def _arrivals(self, reading: Reading) -> Iterator[Arrival]:
        # Closed here, not whenever memory is cleaned up: a feed may hold a process or a connection.
        with closing(self._feed.read(self._collection_id.partition(":")[2], reading)) as arrivals:
            yield from arrivals

    def _pages(self, arrival: Arrival, written: Written, cursor: str | None, *, listed: Listed | None = None) -> Iterator[Page]:
        """Makes pages of an arrival; the last one alone carries the cursor, behind all of it.

        They were received now, by our clock, and so behind the time at which any record in them entered: no run ends for that.
        """
        *earlier, last = [
            written.records[start : start + PAGE_RECORDS] for start in range(0, len(written.records), PAGE_RECORDS)
        ] or [()]
        cost, notes = arrival.cost, arrival.notes
        for records in earlier:
            yield Page(write_page(records), None, self._now(), cost, notes=notes)
            cost, notes = NO_COST, ()
        yield Page(write_page(last), cursor, self._now(), cost, listed=listed, notes=notes, ends_early=arrival.ends_early)
