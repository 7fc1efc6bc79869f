"""This module decides how fast a source may be asked: slower after each refusal for haste, and faster again in time."""

import threading
import time
from collections.abc import Callable

SLOWEST_REQUESTS_PER_SECOND = 1.0
RECOVERY = 1.02
"""The speed grows by this factor per answered request: from half the speed back to all of it takes some 35 of them."""


class Pace:
    """A pace spaces out the requests of one account; the threads that send them share it."""

    def __init__(
        self,
        requests_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fastest = requests_per_second
        self.requests_per_second = requests_per_second
        self._clock = clock
        self._sleep = sleep
        self._next_at = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Waits until the next request may be sent."""
        with self._lock:
            now = self._clock()
            at = max(now, self._next_at)
            self._next_at = at + 1 / self.requests_per_second
        if at > now:
            self._sleep(at - now)

    def answered(self, *, was_too_fast: bool) -> None:
        """Adjusts the speed to what the last answer said about it."""
        with self._lock:
            slower, faster = self.requests_per_second / 2, self.requests_per_second * RECOVERY
            self.requests_per_second = max(SLOWEST_REQUESTS_PER_SECOND, slower) if was_too_fast else min(self._fastest, faster)
