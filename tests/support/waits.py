"""What takes the place of sleeping between attempts."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Waits:
    """In place of sleeping: remembers how long it would have been, and does what the test wants done meanwhile."""

    meanwhile: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.meanwhile()
