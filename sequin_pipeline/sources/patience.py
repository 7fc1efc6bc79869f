"""This module says how long whoever asks a source waits for its answers.

A run has as long as a request may be repeated. A question before a run has seconds: `patience` bounds all that the thread in it asks, and
what sources start for it in other threads.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends_at: ContextVar[float] = ContextVar("_ends_at", default=math.inf)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Lets no request within the block be sent, waited for or repeated after so long; one within another is never longer."""
    token = _ends_at.set(min(_ends_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _ends_at.reset(token)


def seconds_left() -> float:
    """Returns how long an answer is still waited for; infinite where nobody said so."""
    return max(0.0, _ends_at.get() - time.monotonic())
