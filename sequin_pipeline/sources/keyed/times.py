"""This module reads the times that an API gives its objects, in whatever form, as whole microseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

SKEW = timedelta(minutes=10)
"""So far may the provider's clock be behind ours: a whole read is dated back by it, so that no later change looks older."""

_USUAL = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_EXACT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
"""This matches what Postgres and everybody else reads as it stands."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"\d{9,20}(?:\.\d+)?", re.ASCII)

_UNITS = ((10**8, 10**6), (10**11, 10**3), (10**14, 1))
"""This says from which number on it counts seconds, milliseconds or microseconds since 1970, and how many microseconds each is.

A number of seconds in the milliseconds' range would be in the year 5138, one below the first is no time but a counter.
"""

_END = 10**17

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
        if _USUAL.fullmatch(value) or _DATE.fullmatch(value):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return None
            return micros(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
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
    if isinstance(value, str) and _EXACT.fullmatch(value) and _FIRST <= moment <= _LAST:
        return value
    return iso(moment)


def iso(moment: int) -> str | None:
    """Returns the ISO text of a time in microseconds since 1970, or None outside the years 1 to 9999."""
    try:
        return (EPOCH + moment * MICROSECOND).isoformat()
    except OverflowError:
        return None
