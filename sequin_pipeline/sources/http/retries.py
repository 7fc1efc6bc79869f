"""This module decides when a request is sent again and how long to wait before it, with the policy as data.

There is no network and no clock in here; client.py sends, waits and counts.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2

from sequin_pipeline.errors import SourceError, SourceFault

RETRYABLE_STATUSES = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""These statuses pass by themselves.

Every other one is final: asking again would only delay the sentence that says what to fix.
"""

RETRYABLE_FAILURES = (
    httpx2.TimeoutException,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
    httpx2.DecodingError,
)
"""These failures may pass.

That is no connection, a connection that was cut or fell silent, an answer that is not HTTP, a body that does not unpack.
"""


@dataclass(frozen=True)
class RetryPolicy:
    """A policy is exponential backoff with full jitter within a budget of time per request, its repetitions and waits included."""

    budget_seconds: float = 600.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0

    def wait_seconds(self, attempt: int, *, fraction: float) -> float:
        """Returns the wait after failed attempt number `attempt` (from 1); `fraction` is the random draw, from 0 to 1."""
        doublings = min(attempt - 1, 30)
        return fraction * min(self.longest_wait_seconds, self.first_wait_seconds * 2.0**doublings)


class AskAgain(Exception):
    """The answer cannot be used, though the next one may: raised while an answer is read, caught by HttpClient only.

    `reason` completes "the request ended with …". Once time is used up, or the same request has been repeated `at_most` times for
    such a reason (None: while the budget lasts), it ends as an error of class `ends_as`.
    """

    def __init__(
        self,
        reason: str,
        *,
        ends_as: type[SourceError] = SourceFault,
        at_most: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ends_as = ends_as
        self.at_most = at_most
        self.retry_after_seconds = retry_after_seconds


_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def parse_retry_after(text: str | None, *, answered_at: datetime) -> float | None:
    """Returns the seconds to wait, from seconds or an HTTP date (RFC 9110, 10.2.3).

    A date is measured from the answer's own `Date`. For anything else it returns None, and our own backoff decides. A number
    beyond any calendar comes back as it is, infinity included.
    """
    if text is None:
        return None
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    until = parse_http_date(text)
    return None if until is None else max(0.0, (until - answered_at).total_seconds())


def parse_http_date(text: str | None) -> datetime | None:
    """Returns an aware time in UTC, or None where the text is not a date."""
    if text is None:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def describe_return(seconds: float, *, answered_at: datetime) -> str:
    """Says when a source wants us to come back, for a message."""
    if seconds > timedelta(days=365).total_seconds():
        return "in more than a year"
    return f"at {answered_at + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
