"""This module reads decimal and time literals exactly: no float, no rounding but where it was asked for.

Here are the grammars and the arithmetic; which column takes which literal is value_casts.py. Everything is bounded: an exponent of a
billion costs nothing.
"""

import re
from datetime import date

DECIMAL = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]*))?|\.(?P<bare>[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]+))?"
)
"""This matches sign, digits, point, exponent, as Postgres' numeric reads them; no NaN, no infinity, no underscore, no space."""

INTEGER = re.compile(r"[+-]?[0-9]+")
"""This matches the decimals that claim to be whole numbers: neither point nor exponent."""

ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")

ISO_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?)?"
    r"(?P<zone>[Zz]|(?P<east>[+-])(?P<zone_hour>[0-9]{2})(?::?(?P<zone_minute>[0-9]{2}))?)?"
)
"""This matches RFC 3339, and of ISO 8601 also zones without colon or minutes and times that end at the hour or the minute."""

MIN_MICROSECONDS = -62_135_596_800_000_000
"""This is 0001-01-01T00:00:00Z: the first year that ISO dates, Python and Postgres agree on."""

MAX_MICROSECONDS = 253_402_300_799_999_999
"""This is 9999-12-31T23:59:59.999999Z: the last instant that four digits of a year can write."""

_MICROSECONDS_A_SECOND = 1_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MAX_WHOLE_DIGITS = 20
"""This is one more than any 64-bit integer has: enough to tell that a number is out of range."""
_MAX_EXPONENT_DIGITS = 12


class InvalidLiteral(Exception):
    """The column cannot take this value unchanged; the message says what was expected, as the end of a sentence."""


class ZoneMissing(InvalidLiteral):
    """This time does not say in which zone it is, where UTC was not to be assumed."""


def scaled_integer(text: str, places: int, *, rounds: bool = False) -> int:
    """Returns the decimal `text` times ten to the power of `places`, exactly.

    With `rounds` it is the nearest integer, halves to even. Raises InvalidLiteral for what is no decimal, no integer after
    scaling, or has more than 20 digits.
    """
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidLiteral("a number")
    fraction = match["fraction"] or match["bare"] or ""
    digits = ((match["whole"] or "") + fraction).lstrip("0")
    if not digits:
        return 0
    point = len(digits) - len(fraction) + exponent_of(match["exponent"]) + places
    if point > _MAX_WHOLE_DIGITS:
        raise InvalidLiteral(f"a number of at most {_MAX_WHOLE_DIGITS} digits before the point")
    whole = int(digits[:point].ljust(point, "0")) if point > 0 else 0
    rest = digits[point:] if point >= 0 else "0" + digits
    if rest.strip("0"):
        if not rounds:
            raise InvalidLiteral("a whole number" if places == 0 else f"at most {places} digits after the point")
        whole += _rounds_up(whole, rest)
    return -whole if match["sign"] == "-" else whole


def exponent_of(text: str | None) -> int:
    """Returns the number behind the e of a decimal, 0 without one; cut to what a decimal in memory can tell apart."""
    if text is None:
        return 0
    digits = text.lstrip("+-").lstrip("0")
    # Beyond any text that fits into memory the exact value of an exponent no longer matters, only its sign.
    size = 10**_MAX_EXPONENT_DIGITS if len(digits) > _MAX_EXPONENT_DIGITS else int(digits or "0")
    return -size if text.startswith("-") else size


def _rounds_up(whole: int, rest: str) -> bool:
    """Says whether the last digit kept is rounded up.

    `rest` are the digits behind it; a half goes to the even neighbour.
    """
    is_half = rest.rstrip("0") == "5"
    return whole % 2 == 1 if is_half else rest[0] >= "5"


def nearest_double(text: str) -> float:
    """Returns the double nearest to the decimal `text`.

    Raises InvalidLiteral for what is no decimal or overflows, and for an integer that the double would not give back.
    """
    if DECIMAL.fullmatch(text) is None:
        raise InvalidLiteral("a number")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidLiteral("a number up to 1.7976931348623157e308, either sign")
    if INTEGER.fullmatch(text) is None:
        return value
    digits = text.lstrip("+-").lstrip("0") or "0"
    if int(digits) != int(abs(value)):
        raise InvalidLiteral("an integer that a double can hold, as all up to 2^53 are")
    # An integer has no negative zero.
    return value + 0.0


def iso_days(text: str) -> int:
    """Returns the days since 1970-01-01 of `YYYY-MM-DD`, years 1 to 9999. Raises InvalidLiteral."""
    match = ISO_DATE.fullmatch(text)
    if match is None:
        raise InvalidLiteral("a date as YYYY-MM-DD")
    try:
        return date(*map(int, match.groups())).toordinal() - _EPOCH_ORDINAL
    except ValueError as error:
        raise InvalidLiteral("a date that exists, in the years 0001 to 9999") from error


def iso_microseconds(text: str, *, assume_utc: bool = False, rounds: bool = False) -> int:
    """Returns the microseconds since 1970-01-01T00:00:00Z of an ISO time with zone (`assume_utc`: without zone it is UTC).

    `rounds`: to the nearest microsecond, halves to even. Raises InvalidLiteral, also for a leap second (no type here holds
    one), for hour 24 and for what is outside the years 0001 to 9999 once it is in UTC.
    """
    match = ISO_TIME.fullmatch(text)
    if match is None:
        raise InvalidLiteral("an ISO time as 2024-01-31T12:00:00Z")
    if match["zone"] is None and not assume_utc:
        raise ZoneMissing("an ISO time with a zone")
    hour, minute, second = int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0)
    zone_hour, zone_minute = int(match["zone_hour"] or 0), int(match["zone_minute"] or 0)
    if hour > 23 or minute > 59 or second > 59 or zone_hour > 23 or zone_minute > 59:
        raise InvalidLiteral("an ISO time from 00:00:00 to 23:59:59 with a zone of less than 24 hours")
    offset = zone_hour * 3600 + zone_minute * 60
    seconds = iso_days(match["date"]) * 86_400 + hour * 3600 + minute * 60 + second
    seconds -= -offset if match["east"] == "-" else offset
    fraction = scaled_integer("." + (match["fraction"] or "0"), 6, rounds=rounds)
    return _within_years(seconds * _MICROSECONDS_A_SECOND + fraction)


def epoch_microseconds(text: str, places: int, *, rounds: bool = False) -> int:
    """Returns the microseconds of a decimal number of units since 1970.

    `places` is 6 for seconds and 3 for milliseconds. Raises InvalidLiteral.
    """
    return _within_years(scaled_integer(text, places, rounds=rounds))


def _within_years(microseconds: int) -> int:
    if not MIN_MICROSECONDS <= microseconds <= MAX_MICROSECONDS:
        raise InvalidLiteral("a time in the years 0001 to 9999, in UTC")
    return microseconds
