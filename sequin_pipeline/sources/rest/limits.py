"""This module reads from an API's answers how many requests are left, and holds back the next one while there are none."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus

from sequin_pipeline.errors import SourceBusy
from sequin_pipeline.reads import RateLimit
from sequin_pipeline.sources.http.retries import parse_retry_after

_UNITS = {"epoch_seconds": 1.0, "seconds": 1.0, "milliseconds": 0.001}
_USAGE = re.compile(r"(?:^|[\s;,])(?:api-usage=)?(\d+)/(\d+)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

MARGIN_SECONDS = 1.0
"""Times are told in whole seconds: an API that says the present one means its end."""


class LimitGate:
    """This gate follows the headers that a declaration names; without any it lets everything pass."""

    def __init__(self, limit: RateLimit, *, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes `what` is asked, for messages."""
        self._limit = limit
        self._what = what
        self._clock = clock
        self._free_at = 0.0
        self._used: tuple[int, int] | None = None
        self._remaining: int | None = None

    def told(self) -> str:
        """Returns in words what the last answer told of how much is left; nothing where it told nothing."""
        if self._used is not None:
            return f"{self._used[0]:,} of {self._used[1]:,} requests are used"
        return "" if self._remaining is None else f"{self._remaining:,} requests are left"

    def wait_seconds(self) -> float:
        """Returns how long nothing may be asked; raises SourceBusy where the share of the daily requests that we may use is used up."""
        if self._used is not None and self._used[0] >= self._limit.usage_limit * self._used[1]:
            used, allowed = self._used
            raise SourceBusy(
                f"{self._what}: {used:,} of its {allowed:,} requests are used ({used / allowed:.0%}), and the rest is left to others, as "
                f"`usage_limit: {self._limit.usage_limit:g}` says: run again once the count begins anew"
            )
        return max(0.0, self._free_at - self._clock())

    def answered(self, status: int, headers: Mapping[str, str], received_at: datetime) -> bool:
        """Reads the headers of an answer; a 403 with a time to come back, or with no requests left, refuses haste and nothing else."""
        self._read_usage(headers)
        remaining = _number(headers, self._limit.remaining)
        self._remaining = self._remaining if remaining is None else int(remaining)
        has_none_left = remaining is not None and remaining < 1
        if has_none_left:
            self._free_at = max(self._free_at, self._clock() + self._seconds_to_reset(headers, received_at))
        if status != HTTPStatus.FORBIDDEN:
            return False
        retry_after = parse_retry_after(headers.get("retry-after"), answered_at=received_at)
        if retry_after is not None:
            self._free_at = max(self._free_at, self._clock() + retry_after)
        return has_none_left or retry_after is not None

    def _read_usage(self, headers: Mapping[str, str]) -> None:
        found = _USAGE.search(headers.get(self._limit.usage, "")) if self._limit.usage else None
        if found is not None and int(found[2]):
            self._used = int(found[1]), int(found[2])

    def _seconds_to_reset(self, headers: Mapping[str, str], received_at: datetime) -> float:
        reset = _number(headers, self._limit.reset)
        if reset is None:
            return 0.0
        seconds = reset * _UNITS[self._limit.reset_is]
        if self._limit.reset_is == "epoch_seconds":
            seconds -= received_at.timestamp()
        return max(0.0, seconds) + MARGIN_SECONDS


def _number(headers: Mapping[str, str], name: str | None) -> float | None:
    text = (headers.get(name) or "").strip() if name else ""
    return float(text) if _NUMBER.fullmatch(text) else None
