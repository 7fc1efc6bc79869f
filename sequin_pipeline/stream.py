"""What a run reads: pages fetched ahead while the last ones are being normalized and written.

A `RecordStream` is what an asset hands to the IO manager. It is lazy: nothing is requested before its pages are pulled, at most
`PAGES_AHEAD` pages wait in memory, whatever the length of the stream, and each is normalized when it is pulled. Where reading starts
is decided by who pulls (sync.py, which sees the ledger); where it ends is decided here.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import pandas as pd

from sequin_pipeline.catalog import Collection
from sequin_pipeline.normalize import NormalizedPage, Normalizer
from sequin_pipeline.sources import Page, ReadRequest, Source, TimeWindow
from sequin_pipeline.windows import SLACK

if TYPE_CHECKING:
    from sequin_pipeline.outcome import SyncOutcome

PAGES_AHEAD = 4
"""As many as a batch holds, so that the next are on their way while one is prepared and handed over; more only costs memory."""

CLOSING_SECONDS = 2.0
"""For the page under way when a run ends early. A source that is asked again for minutes must not hold up whoever interrupts."""

WAITING_SECONDS = 0.5
"""Between two signs that a run is still waiting for a page."""


@dataclass(frozen=True)
class ReadPlan:
    """What one run of one collection was asked for.

    `live` resumes at the live cursor and never looks at times; `backfill` reads `window` again, beside whoever else is at work.
    `partition_keys` are the windows that the run materializes, oldest first, and `window_starts` their lower bounds.
    """

    collection: Collection
    mode: Literal["live", "backfill"]
    window: TimeWindow | None
    partition_keys: tuple[str, ...]
    window_starts: tuple[datetime, ...]
    sync_id: str | None = None
    full_refresh: bool = False
    adopt: bool = False

    @property
    def is_restricted(self) -> bool:
        """A run that reads one sync only says nothing about the others: it moves no cursor and completes no window."""
        return self.sync_id is not None


@dataclass(frozen=True)
class StreamedPage:
    """A page, its frame without the rows outside the plan's window (`outside` of them), how long it was waited for, and what
    normalizing took."""

    page: Page = field(repr=False)
    normalized: NormalizedPage = field(repr=False)
    inserted_at_max: datetime | None
    outside: int
    normalize_seconds: float
    wait_seconds: float = 0.0


class RecordStream:
    """The records of one collection that a plan asks for; `outcome` is there once the IO manager has written them."""

    def __init__(self, plan: ReadPlan, source: Source) -> None:
        self.plan = plan
        self.source = source
        self.outcome: SyncOutcome | None = None
        self.reached_end = False

    def pages(self, after: str | None, *, while_waiting: Callable[[], None]) -> Generator[StreamedPage, None, None]:
        """Pages from cursor `after` to where the plan ends; `reached_end` tells whether that is the end of the stream.

        `while_waiting` is called about once a second while no page is there. Raises SourceError; closing stops the thread, soon.
        """
        request = ReadRequest(
            collections=frozenset({self.plan.collection.id}),
            after=after,
            window=self.plan.window if self.plan.mode == "backfill" else None,
            sync_ids=frozenset({self.plan.sync_id}) if self.plan.sync_id else None,
        )
        with closing(_Ahead(self.source.pages(request), while_waiting=while_waiting)) as fetched:
            yield from self._until_end(self._normalized(fetched))
            self.reached_end = fetched.has_ended

    def _normalized(self, pages: Iterator[Page]) -> Iterator[StreamedPage]:
        normalize = Normalizer(self.plan.collection)
        while True:
            started = time.perf_counter()
            page = next(pages, None)
            if page is None:
                return
            wait_seconds = time.perf_counter() - started
            yield replace(normalized_page(page, normalize), wait_seconds=wait_seconds)

    def _until_end(self, pages: Iterator[StreamedPage]) -> Iterator[StreamedPage]:
        if self.plan.mode == "backfill" and self.plan.window is not None and not self.plan.full_refresh:
            yield from _within(pages, self.plan.window)
            return
        first_response_at: datetime | None = None
        clocks_agree = True
        for streamed in pages:
            first_response_at = first_response_at or streamed.page.received_at
            clocks_agree = clocks_agree and not _is_ahead_of_its_answer(streamed)
            yield streamed
            if clocks_agree and _all_after(streamed, first_response_at):
                # Everything that stood in the stream when the run began has been read: what comes now is the next run's.
                return


def normalized_page(page: Page, normalize: Normalizer) -> StreamedPage:
    """The page and its frame, whole. Raises SourceFault where the page is none."""
    started = time.perf_counter()
    normalized = normalize(page.records)
    newest = normalized.frame["record_inserted_at"].max()
    return StreamedPage(
        page=page,
        normalized=normalized,
        inserted_at_max=None if pd.isna(newest) else newest.to_pydatetime(),
        outside=0,
        normalize_seconds=time.perf_counter() - started,
    )


def _within(pages: Iterator[StreamedPage], window: TimeWindow) -> Iterator[StreamedPage]:
    for streamed in pages:
        yield _restrict(streamed, window)
        if _all_after(streamed, window.end + SLACK):
            return


def is_news(streamed: StreamedPage, began_at: datetime) -> bool:
    """Every record of the page entered its stream after a run began, as far as the source's clocks can be believed."""
    return _all_after(streamed, began_at) and not _is_ahead_of_its_answer(streamed)


def _all_after(streamed: StreamedPage, moment: datetime) -> bool:
    inserted_at = streamed.normalized.frame["record_inserted_at"]
    return len(inserted_at) > 0 and not inserted_at.hasnans and bool(inserted_at.min() > moment)


def _is_ahead_of_its_answer(streamed: StreamedPage) -> bool:
    """A version entered the stream before the answer that holds it: else the source's clocks contradict each other, and a run that
    compared them would end after every page, however long the stream."""
    return streamed.inserted_at_max is not None and streamed.inserted_at_max > streamed.page.received_at + SLACK


def _restrict(streamed: StreamedPage, window: TimeWindow) -> StreamedPage:
    frame = streamed.normalized.frame
    inserted_at = frame["record_inserted_at"]
    is_outside = inserted_at >= window.end
    if window.start is not None:
        is_outside |= inserted_at < window.start
    # A record without the time of its version cannot be placed: it is written rather than passed over.
    is_outside = is_outside.fillna(value=False).astype(bool)
    outside = int(is_outside.sum())
    if not outside:
        return streamed
    kept = frame[~is_outside].reset_index(drop=True)
    return replace(streamed, normalized=replace(streamed.normalized, frame=kept), outside=outside)


class _Ahead:
    """Iterates over `pages` in a thread of its own, at most PAGES_AHEAD in advance; an error surfaces where it is pulled."""

    def __init__(self, pages: Iterator[Page], *, while_waiting: Callable[[], None]) -> None:
        self._pages = pages
        self._while_waiting = while_waiting
        self._queue: queue.Queue[tuple[Page | None, BaseException | None]] = queue.Queue(maxsize=PAGES_AHEAD)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.has_ended = False

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sequin-pages-ahead", daemon=True)
            self._thread.start()
        page, error = self._next()
        if page is not None:
            return page
        self._queue.put((None, error))  # the end is found again by whoever asks again
        if error is not None:
            raise error
        self.has_ended = True
        raise StopIteration

    def _next(self) -> tuple[Page | None, BaseException | None]:
        while True:
            try:
                return self._queue.get(timeout=WAITING_SECONDS)
            except queue.Empty:
                if self._closing.is_set():
                    return None, None
                self._while_waiting()

    def close(self) -> None:
        """Stops after the page under way, and waits for that at most CLOSING_SECONDS."""
        self._closing.set()
        deadline = time.monotonic() + CLOSING_SECONDS
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.05)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for page in self._pages:
                self._queue.put((page, None))
                if self._closing.is_set():
                    return
        except BaseException as raised:  # noqa: BLE001 - handed over as it is to the thread that pulls
            error = raised
        self._queue.put((None, error))
