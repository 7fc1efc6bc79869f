"""This module decides how fast a source may be asked: slower after each refusal for haste, and faster again in time."""

import threading
import time
from collections.abc import Callable

SLOWEST_REQUESTS_PER_SECOND = 1.0
RECOVERY = 1.02
"""The speed grows by this factor per answered request: from half the speed back to all of it takes some 35 of them.

Stripe asks clients to back off exponentially and to hold their own rate down, sends no `Retry-After`, and tells no number that is left
(docs.stripe.com/rate-limits, 2026-11). Beside 100 requests a second for an account in live mode it allows 25 for each operation, such as
listing customers, and other users of the account share both: which limit was met is not known here. So the speed is looked for: 429s
that do not end bring it down to the slowest in a few requests, where each one costs little, and once they end it is back at 25 a second
after 163 answers, and at 100 after 233, either in under a minute. Faster would mean a refusal in every few requests at a limit of 25.
"""


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
