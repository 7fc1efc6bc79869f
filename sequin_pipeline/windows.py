"""This module computes the time windows of a stream: keys, bounds, ranges, and what a run's range says about its mode.

Weeks start on Monday and everything is UTC. The keys' formats differ per width, and a key must come back letter for letter, so that a
key left over from another width is never taken for a window of this one. Pure: the clock is an argument. How the windows become
Dagster partitions is in partitions.py, where to start reading a window is the ledger's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sequin_pipeline.catalog import Collection, Windows, WindowWidth
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.sources import TimeWindow

KEY_FORMATS: Mapping[WindowWidth, str] = {
    "hour": "%Y-%m-%dT%H:00Z",
    "day": "%Y-%m-%d",
    "week": "%G-W%V-%u",  # strptime takes an ISO week only together with its weekday, which is always 1 here
    "month": "%Y-%m",
}
"""Keys look like `2024-02-01T13:00Z`, `2024-02-01`, `2024-W05-1`, `2024-02`."""

MAX_WINDOWS = 100_000
"""Dagster itself recommends at most this many partitions of one asset; its pages grow slow beyond."""

MOST_LIVE_WINDOWS = 1_500
"""One live run asks for at most this many windows.

Dagster writes an event for each window that a run is asked for, at 10 to 20 ms, so that a first load over 100,000 windows would write
events for half an hour, and one over these some 20 seconds longer than over twelve. Windows by day reach back four years. What is
older than the windows asked for is read all the same, and counted with the earliest of them.
"""

SLACK = timedelta(hours=1)
"""`inserted_at` may run backwards along the stream by this much (clocks of the source)."""

MODE_TAG = "sequin_pipeline/mode"
BACKFILL_TAG = "dagster/backfill"

RunMode = Literal["live", "backfill"]


@dataclass(frozen=True)
class KeyRange:
    """A range holds the windows from `first` to `last`, both included, by their keys."""

    first: str
    last: str


def floor(every: WindowWidth, at: datetime) -> datetime:
    """Returns the start of the window of that width which holds `at`."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if every == "hour":
        return hour
    day = hour.replace(hour=0)
    if every == "day":
        return day
    return day - timedelta(days=day.weekday()) if every == "week" else day.replace(day=1)


def window_of(windows: Windows, at: datetime) -> TimeWindow:
    """Returns the window that holds `at`, which may lie before the first one."""
    start = floor(windows.every, at)
    return TimeWindow(start, _next(windows.every, start))


def key_of(windows: Windows, at: datetime) -> str:
    """Returns the key of the window that holds `at`.

    For anything older it is the key of the first window, since that one is open to the left.
    """
    start = max(floor(windows.every, at), windows.start)
    return start.strftime(KEY_FORMATS[windows.every])


def window(windows: Windows, key: str) -> TimeWindow:
    """Returns the bounds of the window with that key; raises as start_of does."""
    start = start_of(windows, key)
    return TimeWindow(start, _next(windows.every, start))


def start_of(windows: Windows, key: str) -> datetime:
    """Returns where the window with that key starts.

    Raises ConfigurationError for a key of another width, or one before the first window.
    """
    key_format = KEY_FORMATS[windows.every]
    try:
        start: datetime | None = datetime.strptime(key, key_format).replace(tzinfo=UTC)
    except ValueError:
        start = None
    if start is None or start.strftime(key_format) != key or floor(windows.every, start) != start:
        example = windows.start.strftime(key_format)
        raise ConfigurationError(f"{key!r} is not the key of a window by {windows.every}: expected one like {example!r}")
    if start < windows.start:
        first = windows.start.strftime(key_format)
        raise ConfigurationError(f"window {key!r} lies before the first window {first!r}, which holds everything older")
    return start


def named_key(windows: Windows, text: str, *, now: datetime) -> str:
    """Returns the key that a person means.

    That is a key as it is, or a day or time (UTC unless it says otherwise), which means the window that holds it. Raises
    ConfigurationError for anything else, and for a window that has not begun.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        key = text
    else:
        key = key_of(windows, at if at.tzinfo else at.replace(tzinfo=UTC))
    present = key_of(windows, now)
    if start_of(windows, key) > start_of(windows, present):
        raise ConfigurationError(f"window {key!r} has not begun: the present one is {present!r}")
    return key


def named_range(windows: Windows, first: str, last: str | None, *, now: datetime) -> KeyRange:
    """Returns the windows from one to another, both named as named_key takes it; `last` None means to the present.

    Raises ConfigurationError.
    """
    asked = KeyRange(
        named_key(windows, first, now=now), key_of(windows, now) if last is None else named_key(windows, last, now=now)
    )
    if start_of(windows, asked.first) > start_of(windows, asked.last):
        raise ConfigurationError(f"window {asked.first!r} comes after window {asked.last!r}: name the earlier one first")
    return asked


def windows_between(windows: Windows, start: datetime, end: datetime) -> tuple[str, ...]:
    """Returns the keys of all windows that hold a moment of start <= moment < end, in order."""
    keys = []
    at = max(floor(windows.every, start), windows.start)
    while at < end:
        keys.append(at.strftime(KEY_FORMATS[windows.every]))
        at = _next(windows.every, at)
    return tuple(keys)


def asked_window(windows: Windows, asked: KeyRange) -> TimeWindow:
    """Returns the time that a range of windows covers; it is open to the left when it begins with the first window."""
    start = start_of(windows, asked.first)
    return TimeWindow(None if start == windows.start else start, window(windows, asked.last).end)


def check_windows(windows: Windows, now: datetime) -> None:
    """Raises CatalogError when the first window starts after `now` or off a boundary, or there are more than MAX_WINDOWS."""
    start = windows.start
    if floor(windows.every, start) != start:
        suggestion = floor(windows.every, start)
        raise CatalogError(
            f"windows by {windows.every} cannot start at {start:%Y-%m-%dT%H:%M:%SZ}, which is not the start of one (UTC, weeks "
            f"start on Monday): write {suggestion:%Y-%m-%dT%H:%M}Z"
        )
    if start > now:
        raise CatalogError(f"windows start at {start:%Y-%m-%dT%H:%M}Z, which has not come yet: name a time that has passed")
    count = (now - start) // _SHORTEST[windows.every] + 1
    if count > MAX_WINDOWS:
        raise CatalogError(
            f"windows by {windows.every} since {start:%Y-%m-%dT%H:%M}Z are more than {MAX_WINDOWS:,}, the most that Dagster handles "
            "well: take wider windows or a later start (the first window holds everything older)"
        )


def live_range(windows: Windows, cursor_at: datetime | None, now: datetime) -> KeyRange:
    """Returns the windows that a live run asks for: from the one that holds the cursor's time, less SLACK, to the present.

    Of these it returns the latest MOST_LIVE_WINDOWS. `cursor_at` is `inserted_at` where the live cursor stands; None (no cursor yet)
    means from the first window.
    """
    # Told by differences: the year 1 has nothing before it that could be subtracted.
    since = windows.start if cursor_at is None or cursor_at - windows.start < SLACK else min(cursor_at - SLACK, now)
    reach = (MOST_LIVE_WINDOWS - 1) * _SHORTEST[windows.every]
    if now - since > reach:
        since = now - reach
    return KeyRange(key_of(windows, since), key_of(windows, now))


def live_ranges(
    collections: Iterable[Collection], cursor_times: Mapping[str, datetime | None], *, now: datetime
) -> dict[KeyRange, tuple[Collection, ...]]:
    """Groups collections by the range that each one's live run asks for: those that share a range can share a run.

    `cursor_times` is by label; a collection that is missing has no cursor.
    """
    ranges: dict[KeyRange, tuple[Collection, ...]] = {}
    for collection in collections:
        asked = live_range(collection.windows, cursor_times.get(collection.label), now)
        ranges[asked] = (*ranges.get(asked, ()), collection)
    return ranges


def run_mode(windows: Windows, asked: KeyRange, *, tags: Mapping[str, str], created_at: datetime, is_restricted: bool) -> RunMode:
    """Returns "live" for a run that is tagged so, or that asks for exactly the window present at its creation outside a backfill.

    A restricted run (one sync) is a backfill whatever its tags say. Raises ConfigurationError for an unknown value of the mode tag.
    """
    tagged = tags.get(MODE_TAG)
    if tagged not in (None, "live", "backfill"):
        raise ConfigurationError(f"run tag {MODE_TAG} is {tagged!r}: expected 'live' or 'backfill'")
    if is_restricted or tagged == "backfill":
        return "backfill"
    present = key_of(windows, created_at)
    asks_for_present = asked == KeyRange(present, present)
    return "live" if tagged == "live" or (asks_for_present and BACKFILL_TAG not in tags) else "backfill"


_SHORTEST: Mapping[WindowWidth, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=28),
}


def _next(every: WindowWidth, start: datetime) -> datetime:
    return floor(every, start + timedelta(days=31)) if every == "month" else start + _SHORTEST[every]
