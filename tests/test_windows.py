"""Windows: keys that only their own width reads, bounds that leave no gap, and the rule that tells live from backfill."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequin_pipeline.catalog import Collection, TableName, Windows, WindowWidth
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.orchestration.partitions import build_partitions
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.windows import (
    KeyRange,
    asked_window,
    check_windows,
    floor,
    key_of,
    live_range,
    live_ranges,
    named_key,
    named_range,
    run_mode,
    start_of,
    window,
    window_of,
    windows_between,
)

WIDTHS: tuple[WindowWidth, ...] = ("hour", "day", "week", "month")
MONTHS = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
WEEKS = Windows("week", datetime(2024, 1, 1, tzinfo=UTC))

moments = st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2039, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
widths = st.sampled_from(WIDTHS)


def windows_by(every: WindowWidth) -> Windows:
    return Windows(every, datetime(2024, 1, 1, tzinfo=UTC))


def collection(name: str, windows: Windows = MONTHS) -> Collection:
    return Collection("stripe", name, TableName("stripe", name), windows)


@pytest.mark.parametrize(
    ("every", "key", "start", "end"),
    [
        ("hour", "2024-02-29T23:00Z", datetime(2024, 2, 29, 23, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        ("day", "2024-02-29", datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        ("week", "2024-W09-1", datetime(2024, 2, 26, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC)),
        ("week", "2025-W01-1", datetime(2024, 12, 30, tzinfo=UTC), datetime(2025, 1, 6, tzinfo=UTC)),
        ("month", "2024-02", datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        ("month", "2024-12", datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_key_names_a_window(every: WindowWidth, key: str, start: datetime, end: datetime) -> None:
    windows = windows_by(every)

    assert window(windows, key) == TimeWindow(start, end)
    assert key_of(windows, start) == key
    assert key_of(windows, end - timedelta(microseconds=1)) == key


@given(every=widths, at=moments)
def test_a_key_comes_back_as_its_window(every: WindowWidth, at: datetime) -> None:
    windows = windows_by(every)

    found = window(windows, key_of(windows, at))

    assert found == window_of(windows, at)
    assert found.start is not None
    assert found.start <= at < found.end


@given(every=widths, other=widths, at=moments)
def test_a_key_of_another_width_is_refused(every: WindowWidth, other: WindowWidth, at: datetime) -> None:
    key = key_of(windows_by(other), at)
    if every == other:
        return

    with pytest.raises(ConfigurationError, match="is not the key of a window by"):
        window(windows_by(every), key)


@pytest.mark.slow
@given(every=widths, start=moments, hours=st.integers(min_value=0, max_value=24 * 100))
def test_windows_follow_each_other_without_gap_or_overlap(every: WindowWidth, start: datetime, hours: int) -> None:
    windows, end = windows_by(every), start + timedelta(hours=hours, microseconds=1)

    found = [window(windows, key) for key in windows_between(windows, start, end)]

    assert found[0] == window_of(windows, start)
    assert found[-1].end >= end
    assert [before.end for before in found[:-1]] == [after.start for after in found[1:]]


@given(every=widths, days=st.integers(min_value=0, max_value=60), hour=st.integers(min_value=0, max_value=23))
def test_dagster_sees_the_same_present_window(every: WindowWidth, days: int, hour: int) -> None:
    windows, now = windows_by(every), datetime(2024, 1, 1, hour, 30, tzinfo=UTC) + timedelta(days=days)
    partitions = build_partitions(windows)

    last = partitions.get_partition_keys(current_time=now)[-1]

    assert last == key_of(windows, now)
    assert partitions.time_window_for_partition_key(last).start == start_of(windows, last)
    assert partitions.time_window_for_partition_key(last).end == window(windows, last).end


@pytest.mark.parametrize("every", WIDTHS)
def test_dagster_takes_the_keys_that_we_make(every: WindowWidth) -> None:
    windows, now = windows_by(every), datetime(2024, 5, 2, 12, 30, tzinfo=UTC)

    keys = build_partitions(windows).get_partition_keys(current_time=now)

    assert tuple(keys) == windows_between(windows, windows.start, now)


def test_a_moment_of_another_zone_falls_into_the_window_of_its_utc_time() -> None:
    tokyo = datetime.fromisoformat("2024-03-01T08:59:59+09:00")

    assert key_of(MONTHS, tokyo) == "2024-02"


def test_what_is_older_than_the_first_window_is_in_it() -> None:
    assert key_of(MONTHS, datetime(2019, 7, 1, tzinfo=UTC)) == "2024-01"


@pytest.mark.parametrize("key", ["2024-1", "2024-13", "", "2024-01-01", "2024-01\n"])
def test_a_key_that_is_not_written_as_ours_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        window(MONTHS, key)

    assert str(refusal.value) == f"{key!r} is not the key of a window by month: expected one like '2024-01'"


def test_a_key_before_the_first_window_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        window(MONTHS, "2023-12")

    assert str(refusal.value) == "window '2023-12' lies before the first window '2024-01', which holds everything older"


def test_a_weekday_other_than_monday_is_no_key() -> None:
    with pytest.raises(ConfigurationError, match="'2024-W09-2' is not the key of a window by week"):
        window(WEEKS, "2024-W09-2")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(
            KeyRange("2024-01", "2024-02"), TimeWindow(None, datetime(2024, 3, 1, tzinfo=UTC)), id="first: open to the left"
        ),
        pytest.param(
            KeyRange("2024-02", "2024-02"),
            TimeWindow(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
            id="later: bounded",
        ),
    ],
)
def test_asked_windows_cover_a_time(asked: KeyRange, expected: TimeWindow) -> None:
    assert asked_window(MONTHS, asked) == expected


@pytest.mark.parametrize(
    ("start", "now", "is_accepted"),
    [
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), True, id="this hour"),
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC), datetime(2035, 5, 29, 15, 59, tzinfo=UTC), True, id="100,000 windows"),
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC), datetime(2035, 5, 29, 16, tzinfo=UTC), False, id="100,001 windows"),
        pytest.param(datetime(2024, 1, 1, 0, 30, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), False, id="off the hour"),
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC), datetime(2023, 12, 31, tzinfo=UTC), False, id="not yet"),
    ],
)
def test_windows_are_bounded_in_number_and_start_on_a_boundary(start: datetime, now: datetime, *, is_accepted: bool) -> None:
    windows = Windows("hour", start)

    if is_accepted:
        check_windows(windows, now)
    else:
        with pytest.raises(CatalogError):
            check_windows(windows, now)


@pytest.mark.parametrize(
    ("cursor_at", "expected"),
    [
        pytest.param(None, KeyRange("2024-01", "2024-05"), id="no cursor: from the first window"),
        pytest.param(datetime(2024, 4, 20, tzinfo=UTC), KeyRange("2024-04", "2024-05"), id="from the cursor's window"),
        pytest.param(datetime(2024, 5, 1, 2, tzinfo=UTC), KeyRange("2024-05", "2024-05"), id="present"),
        pytest.param(
            datetime(2024, 5, 1, 0, 59, tzinfo=UTC), KeyRange("2024-04", "2024-05"), id="within the slack of a boundary"
        ),
        pytest.param(datetime(2019, 5, 1, tzinfo=UTC), KeyRange("2024-01", "2024-05"), id="before the first window"),
        pytest.param(datetime(2024, 6, 1, 9, tzinfo=UTC), KeyRange("2024-05", "2024-05"), id="a source whose clock is ahead"),
    ],
)
def test_a_live_run_asks_for_the_windows_since_its_cursor(cursor_at: datetime | None, expected: KeyRange) -> None:
    assert live_range(MONTHS, cursor_at, datetime(2024, 5, 2, 12, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("every", "start", "cursor_at", "first"),
    [
        pytest.param("hour", datetime(2015, 1, 1, tzinfo=UTC), None, "2024-03-01T01:00Z", id="hours"),
        pytest.param(
            "hour", datetime(2015, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC), "2024-03-01T01:00Z", id="far behind"
        ),
        pytest.param("day", datetime(1950, 1, 1, tzinfo=UTC), None, "2020-03-25", id="days"),
        pytest.param("week", datetime(1900, 1, 1, tzinfo=UTC), None, "1995-W32-1", id="weeks"),
        pytest.param("day", datetime(2020, 3, 25, tzinfo=UTC), None, "2020-03-25", id="exactly as many"),
    ],
)
def test_a_live_run_asks_for_the_latest_1500_windows_at_most(
    every: WindowWidth, start: datetime, cursor_at: datetime | None, first: str
) -> None:
    windows, now = Windows(every, start), datetime(2024, 5, 2, 12, 30, tzinfo=UTC)

    asked = live_range(windows, cursor_at, now)

    assert asked == KeyRange(first, key_of(windows, now))
    assert len(windows_between(windows, start_of(windows, first), now)) == 1500


def test_collections_that_ask_for_the_same_windows_are_grouped() -> None:
    first, second, third = collection("first"), collection("second"), collection("third")
    times = {"stripe/first": datetime(2024, 5, 2, tzinfo=UTC), "stripe/third": datetime(2024, 5, 1, 4, tzinfo=UTC)}

    ranges = live_ranges([first, second, third], times, now=datetime(2024, 5, 2, 12, tzinfo=UTC))

    assert ranges == {KeyRange("2024-05", "2024-05"): (first, third), KeyRange("2024-01", "2024-05"): (second,)}


LIVE = {"sequin_pipeline/mode": "live"}
OF_A_BACKFILL = {"dagster/backfill": "abcdefgh"}


@pytest.mark.parametrize(
    ("asked", "tags", "is_restricted", "expected"),
    [
        pytest.param(KeyRange("2024-05", "2024-05"), {}, False, "live", id="the present window"),
        pytest.param(KeyRange("2024-05", "2024-05"), OF_A_BACKFILL, False, "backfill", id="the present window, by a backfill"),
        pytest.param(KeyRange("2024-05", "2024-05"), {}, True, "backfill", id="the present window, restricted"),
        pytest.param(KeyRange("2024-04", "2024-05"), {}, False, "backfill", id="a range that includes the present"),
        pytest.param(KeyRange("2024-04", "2024-04"), {}, False, "backfill", id="a window of the past"),
        pytest.param(KeyRange("2024-01", "2024-05"), LIVE, False, "live", id="tagged live"),
        pytest.param(KeyRange("2024-01", "2024-04"), LIVE, False, "live", id="tagged live, run again after the month ended"),
        pytest.param(KeyRange("2024-01", "2024-05"), LIVE | OF_A_BACKFILL, False, "live", id="tagged live, by a backfill"),
        pytest.param(KeyRange("2024-01", "2024-05"), LIVE, True, "backfill", id="tagged live, restricted"),
        pytest.param(
            KeyRange("2024-05", "2024-05"), {"sequin_pipeline/mode": "backfill"}, False, "backfill", id="present, tagged backfill"
        ),
    ],
)
def test_the_mode_follows_from_tags_range_and_creation(
    asked: KeyRange, tags: dict[str, str], expected: str, *, is_restricted: bool
) -> None:
    created_at = datetime(2024, 5, 2, 12, tzinfo=UTC)

    assert run_mode(MONTHS, asked, tags=tags, created_at=created_at, is_restricted=is_restricted) == expected


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        run_mode(
            MONTHS,
            KeyRange("2024-05", "2024-05"),
            tags={"sequin_pipeline/mode": "Live"},
            created_at=datetime(2024, 5, 2, tzinfo=UTC),
            is_restricted=False,
        )

    assert str(refusal.value) == "run tag sequin_pipeline/mode is 'Live': expected 'live' or 'backfill'"


@given(every=widths, at=moments)
def test_floor_is_the_last_boundary(every: WindowWidth, at: datetime) -> None:
    start = floor(every, at)

    assert start <= at
    assert floor(every, start) == start
    assert floor(every, start - timedelta(microseconds=1)) < start


NOW = datetime(2024, 5, 2, 12, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every", "text", "key"),
    [
        ("month", "2024-02", "2024-02"),
        ("month", "2024-02-29", "2024-02"),
        ("month", "2024-03-01T00:30+02:00", "2024-02"),
        ("month", "2019-01-01", "2024-01"),
        ("week", "2024-W09-1", "2024-W09-1"),
        ("week", "2024-03-03", "2024-W09-1"),
        ("day", "2024-02-29", "2024-02-29"),
        ("day", "2024-02-29T23:59:59Z", "2024-02-29"),
        ("hour", "2024-02-29T23:00Z", "2024-02-29T23:00Z"),
        ("hour", "2024-02-29", "2024-02-29T00:00Z"),
    ],
)
def test_a_person_names_a_window_by_its_key_or_a_time_that_it_holds(every: WindowWidth, text: str, key: str) -> None:
    assert named_key(windows_by(every), text, now=NOW) == key


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("may", None, "'may' is not the key of a window by month: expected one like '2024-01'"),
        ("2023-12", None, "window '2023-12' lies before the first window '2024-01', which holds everything older"),
        ("2024-02", "2024-06", "window '2024-06' has not begun: the present one is '2024-05'"),
        ("2024-03-01", "2024-02", "window '2024-03' comes after window '2024-02': name the earlier one first"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused(first: str, last: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        named_range(MONTHS, first, last, now=NOW)

    assert str(refused.value) == message


def test_a_range_without_end_ends_with_the_present_window() -> None:
    assert named_range(MONTHS, "2024-03", None, now=NOW) == KeyRange("2024-03", "2024-05")
