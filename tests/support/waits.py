"""Waiting in tests: what takes the place of sleeping between attempts, and patience with other threads and processes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

PATIENCE_SECONDS = 60.0
"""How long a test waits for what will come: no test takes so long on a machine that is not busy, and every one does on some other."""


@dataclass
class Waits:
    """In place of sleeping: remembers how long it would have been, and does what the test wants done meanwhile."""

    meanwhile: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.meanwhile()


def wait_until(has_come: Callable[[], object], what: str) -> None:
    """Looks again and again until the state is there that another thread or process brings about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not has_come():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:.0f} seconds in vain for {what}"
        time.sleep(0.01)
