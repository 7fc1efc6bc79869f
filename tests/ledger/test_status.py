"""The age of the newest record, as `status` shows it."""

from datetime import UTC, datetime, timedelta

import pytest

from sequin_pipeline.cli.age import age_of

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        pytest.param(timedelta(0), "0m 0s ago", id="now"),
        pytest.param(timedelta(minutes=5, seconds=7), "5m 7s ago", id="minutes"),
        pytest.param(timedelta(hours=3, minutes=2), "3h 2m ago", id="hours"),
        pytest.param(timedelta(days=40, hours=1), "40d 1h ago", id="days"),
        pytest.param(timedelta(hours=-2), "2h 0m ahead", id="a zone taken for UTC"),
        pytest.param(timedelta(days=-400), "400d 0h ahead", id="a year that has not come"),
    ],
)
def test_age_says_how_far_and_on_which_side(age: timedelta, text: str) -> None:
    assert age_of(NOW - age, NOW) == text


def test_a_table_without_records_has_no_age() -> None:
    assert age_of(None, NOW) == ""
