"""The policy of retries as data, without a network."""

from datetime import UTC, datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import Failures
from sequin_pipeline.sources.http.retries import RETRYABLE_STATUSES, AskAgain, RetryPolicy, describe_return, parse_retry_after

ANSWERED_AT = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_the_statuses_that_are_asked_again_are_those_of_the_contract() -> None:
    assert sorted(RETRYABLE_STATUSES) == [408, 425, 429, 500, 502, 503, 504]


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (100_000, 60.0)],
)
def test_waits_double_up_to_a_minute(attempt: int, seconds: float) -> None:
    assert RetryPolicy().wait_seconds(attempt, fraction=1.0) == seconds


def test_jitter_is_full() -> None:
    policy = RetryPolicy()

    assert [policy.wait_seconds(2, fraction=fraction) for fraction in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(" 7 ", 7.0, id="space around"),
        pytest.param("1.5", 1.5, id="fraction"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("Sat, 01 Mar 2025 12:02:00 GMT", 120.0, id="date"),
        pytest.param("Sat, 01 Mar 2025 14:02:00 +0200", 120.0, id="date of another zone"),
        pytest.param("Sat, 01 Mar 2025 12:02:00 -0000", 120.0, id="date without zone"),
        pytest.param("Sat, 01 Mar 2025 11:59:00 GMT", 0.0, id="date gone by"),
        pytest.param("9" * 5000, float("inf"), id="number beyond any calendar"),
        pytest.param("-5", None, id="negative"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="empty"),
        pytest.param("nan", None, id="no number"),
        pytest.param("Sat, 99 Mar 99999999999999999999 12:02:00 GMT", None, id="no date"),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_or_not_at_all(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, answered_at=ANSWERED_AT) == seconds


@given(st.text(max_size=60))
def test_no_text_in_retry_after_raises(text: str) -> None:
    seconds = parse_retry_after(text, answered_at=ANSWERED_AT)

    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [(90.0, "at 2025-03-01 12:01:30 UTC"), (1e12, "in more than a year"), (float("inf"), "in more than a year")],
)
def test_the_time_to_come_back_is_said_for_any_number(seconds: float, sentence: str) -> None:
    assert describe_return(seconds, answered_at=ANSWERED_AT) == sentence


def _subclasses(kind: type[httpx2.RequestError]) -> list[type[httpx2.RequestError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _subclasses(below))]


def test_every_failure_of_the_http_library_becomes_one_of_ours() -> None:
    failures = Failures(Endpoint("http://127.0.0.1:1"), purpose="reading stripe:price")

    asked_again = {
        kind.__name__
        for kind in _subclasses(httpx2.RequestError)
        if isinstance(failures.of_transport(kind("as it happens")), AskAgain)
    }

    assert asked_again == {
        "CloseError",
        "ConnectError",
        "ConnectTimeout",
        "DecodingError",
        "NetworkError",
        "PoolTimeout",
        "ProxyError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "TimeoutException",
        "WriteError",
        "WriteTimeout",
    }
