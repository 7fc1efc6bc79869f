"""This module fetches the pages of a source ahead of whoever takes them."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator

from sequin_pipeline.sources import Page

PAGES_AHEAD = 4
"""This many pages wait, so that the next are on their way while a batch is prepared and handed over; more only costs memory."""

CLOSING_SECONDS = 2.0
"""The page under way gets this long when a run ends early.

A source that is asked again for minutes must not hold up whoever interrupts.
"""

WAITING_SECONDS = 0.5
"""This long passes between two signs that a run is still waiting for a page."""


_Fetched = tuple[Page | None, BaseException | None]
"""This is a page, or the end, with what was raised there."""


class PagesAhead:
    """This class fetches `pages` in a thread of its own, at most PAGES_AHEAD in advance.

    An error surfaces where its page would have been taken. `stop` is what the source looks at while it waits.
    """

    def __init__(self, pages: Iterator[Page], *, stop: threading.Event, while_waiting: Callable[[], None]) -> None:
        self._pages = pages
        self._while_waiting = while_waiting
        self._queue: queue.Queue[_Fetched] = queue.Queue(maxsize=PAGES_AHEAD)
        self._held: _Fetched | None = None
        self._closing = stop
        self._thread: threading.Thread | None = None
        self.has_ended = False

    def take(self) -> Page | None:
        """Waits for the next page and returns it; None at the end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sequin-pages-ahead", daemon=True)
            self._thread.start()
        page, error = self._held or self._wait()
        self._held = None
        if page is None:
            self._held = page, error  # the end is found again by whoever asks again
            if error is not None:
                raise error
            self.has_ended = True
        return page

    def take_waiting(self) -> Page | None:
        """Returns the next page if it is there, and can be read together with others."""
        try:
            self._held = self._held or self._queue.get_nowait()
        except queue.Empty:
            return None
        page, _ = self._held
        if page is None or page.completes_a_listing:
            return None
        self._held = None
        return page

    def _wait(self) -> _Fetched:
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
                    break
        except BaseException as raised:  # noqa: BLE001 - handed over as it is to the thread that pulls
            error = raised
        finally:
            # Not whenever memory is cleaned up: a source may hold a process or a connection open behind its pages.
            if isinstance(self._pages, Generator):
                self._pages.close()
        if not self._closing.is_set():
            self._queue.put((None, error))
