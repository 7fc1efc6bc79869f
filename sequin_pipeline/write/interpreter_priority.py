"""This module decides who goes first when Python can do one thing at a time.

Whoever talks with Postgres goes before whoever prepares what comes next. A thread that prepares holds the interpreter for
milliseconds at a time. A thread that copies a batch needs it for microseconds, but some hundred times: if each of them waited for
the other's milliseconds, the server would sit idle for as long as it works.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 0.05
"""This is twice what a batch takes to a server nearby.

To one far away a conversation is mostly waiting, and of several lanes one is always in it: whoever waited for the end of that
would prepare nothing.
"""


class RightOfWay:
    """Threads that talk with Postgres take this right, and cede it while it works by itself; they never wait for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._since: dict[int, float] = {}
        self._clock = clock

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes the right for the length of the thread's conversation."""
        self._take()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def ceded(self) -> Iterator[None]:
        """Cedes the right within a conversation, while a long statement is being executed."""
        self._leave()
        try:
            yield
        finally:
            self._take()

    def give_way(self) -> None:
        """Returns when no thread has it, or every one that does has had it for LONGEST_SECONDS."""
        with self._changed:
            while self._since:
                remaining_seconds = max(self._since.values()) + LONGEST_SECONDS - self._clock()
                if remaining_seconds <= 0:
                    return
                self._changed.wait(remaining_seconds)

    def _take(self) -> None:
        with self._changed:
            self._since[threading.get_ident()] = self._clock()

    def _leave(self) -> None:
        with self._changed:
            del self._since[threading.get_ident()]
            self._changed.notify_all()
