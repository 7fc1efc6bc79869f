"""This clock is the one that answers tell in `Date`: it never stands before a change that has happened."""

from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """The population's dates may lie ahead of this machine's clock, and nothing at Stripe is older than it is."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._latest = 0

    def second(self) -> int:
        return max(int(self._now().timestamp()), self._latest)

    def told(self, at: datetime | None) -> int:
        """Returns the second of a change, which is now where it does not tell it."""
        second = self.second() if at is None else int(at.timestamp())
        self._latest = max(self._latest, second)
        return second

    def date(self) -> datetime:
        return datetime.fromtimestamp(self.second(), UTC)
