"""Who goes first when Python can do one thing at a time: whoever talks with Postgres, before whoever prepares what comes next.

A thread that prepares holds the interpreter for milliseconds at a time. A thread that copies a batch needs it for microseconds, but some
hundred times: if each of them waited for the other's milliseconds, the server would sit idle for as long as it works.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RightOfWay:
    """Taken by threads that talk with Postgres, ceded while it works by itself; never waited for by them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For the length of a conversation."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    @contextmanager
    def ceded(self) -> Iterator[None]:
        """Within a conversation: while a long statement is being executed."""
        self._add(-1)
        try:
            yield
        finally:
            self._add(1)

    def give_way(self) -> None:
        """Returns when nobody holds it."""
        with self._changed:
            self._changed.wait_for(lambda: self._holders == 0)

    def _add(self, change: int) -> None:
        with self._changed:
            self._holders += change
            self._changed.notify_all()
