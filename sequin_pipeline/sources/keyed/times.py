"""This module reads the times that an API gives its objects, in whatever form, as whole microseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

SKEW = timedelta(minutes=10)
"""So far may the provider's clock be behind ours: a whole read is dated back by it, so that no later change looks older."""

_BEFORE_HOURS = ("T", "t", " ", "")
_BEHIND_SECONDS = ("Z", ".")
_NUMBER = re.compile(r"\d{9,20}(?:\.\d+)?", re.ASCII)

_UNITS = ((10**8, 10**6), (10**11, 10**3), (10**14, 1))
"""This says from which number on it counts seconds, milliseconds or microseconds since 1970, and how many microseconds each is.

A number of seconds in the milliseconds' range would be in the year 5138, one below the first is no time but a counter.
"""

_END = 10**17

_LONGEST = len("2026-01-01T00:00:00.123456Z")

_FIRST = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH) // MICROSECOND
_LAST = (datetime(9999, 12, 30, tzinfo=UTC) - EPOCH) // MICROSECOND
"""Between these a text is the same time in whatever zone."""


def micros(moment: datetime) -> int:
    """Returns the whole microseconds from 1970 to an aware time."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(value: object) -> int | None:
    """Returns the time that a JSON value stands for, in microseconds since 1970; None where it stands for none.

    It takes ISO times (without a zone: UTC; digits beyond the sixth are dropped) and numbers, also as texts, whose size tells the unit.
    """
    if isinstance(value, str):
        if value[4:5] == "-" == value[7:8] and value[10:11] in _BEFORE_HOURS:
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return None
            since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - EPOCH
            # As micros does it, in a third of its time.
            return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        if _NUMBER.fullmatch(value) is None:
            return None
        return _of_number(float(value) if "." in value else int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    return None


def _of_number(number: float) -> int | None:
    if not _UNITS[0][0] <= number < _END:
        return None
    factor = next(factor for least, factor in reversed(_UNITS) if number >= least)
    return round(number * factor)


def iso_of(value: object, moment: int) -> str | None:
    """Returns the ISO text of a time that was read from a value: the value itself where it is one."""
    if not isinstance(value, str) or not _FIRST <= moment <= _LAST:
        return iso(moment)
    is_exact = value[10:11] == "T" and value[19:20] in _BEHIND_SECONDS and value.endswith("Z") and len(value) <= _LONGEST
    return value if is_exact else iso(moment)


def iso(moment: int) -> str | None:
    """Returns the ISO text of a time in microseconds since 1970, or None outside the years 1 to 9999."""
    try:
        return (EPOCH + moment * MICROSECOND).isoformat()
    except OverflowError:
        return None
