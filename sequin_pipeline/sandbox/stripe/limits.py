"""This module counts requests a second by account, as Stripe limits them."""

from collections.abc import Callable


class Allowance:
    """Each account may send `per_second` requests a second, saved up for one second at most; 0 means any number."""

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def takes(self, account_id: str) -> bool:
        """Returns False for a request that comes too soon, which then does not count."""
        if not self._per_second:
            return True
        now = self._clock()
        left, at = self._left.get(account_id, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - at) * self._per_second)
        takes = left >= 1
        self._left[account_id] = (left - takes, now)
        return takes
