"""Waiting in tests: what takes the place of sleeping between attempts, and patience with other threads and processes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PATIENCE_SECONDS = 60.0
"""How long a test waits for what will come: no test takes so long on a machine that is not busy, and every one does on some other."""
SHORTEST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.05


@dataclass
class Waits:
    """In place of sleeping: remembers how long it would have been, and does what the test wants done meanwhile."""

    meanwhile: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.meanwhile()


def wait_until(has_come: Callable[[], object], what: str, *, longest_pause_seconds: float = LONGEST_PAUSE_SECONDS) -> None:
    """Looks again and again until the state is there that another thread or process brings about."""
    assert any(has_come() for _ in looks(longest_pause_seconds)), f"waited {PATIENCE_SECONDS:.0f} seconds in vain for {what}"


def looks(longest_pause_seconds: float = LONGEST_PAUSE_SECONDS) -> Iterator[None]:
    """Yields each time that it is worth looking again, until patience ends.

    The pauses grow: whoever looks all the time takes the processor from the process that is waited for.
    """
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, SHORTEST_PAUSE_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
        pause = min(2 * pause, longest_pause_seconds)
