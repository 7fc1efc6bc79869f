"""This module turns a status or a failure of the transport into one of our errors or AskAgain; it is pure, client.py raises them.

Which statuses and failures are asked again is data in retries.py.
"""

import ssl
from datetime import datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2

from sequin_pipeline.errors import SourceBusy, SourceError, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.retries import (
    RETRYABLE_FAILURES,
    RETRYABLE_STATUSES,
    AskAgain,
    describe_return,
    parse_retry_after,
)


class StatusRefused(SourceRefused):
    """The server answered with a status that is not asked again; sources look at `status` to say more precisely what was refused."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Failures:
    """This class words the failures of one request; `purpose` opens each message: what we were doing, as in "reading
    stripe:price"."""

    def __init__(self, endpoint: Endpoint, *, purpose: str) -> None:
        self._endpoint = endpoint
        self._about = f"{purpose} from {endpoint.base_url}"

    def of_status(
        self, status: int, *, headers: httpx2.Headers, body: bytes, received_at: datetime, is_for_haste: bool = False
    ) -> AskAgain | StatusRefused:
        """Returns the error for any status other than success; `body` may be cut short, only its beginning is quoted.

        `is_for_haste`: it refuses haste and not the request, whatever the status.
        """
        found = f"status {status} ({_phrase(status)})"
        if body.strip():
            found += f", saying {self._endpoint.excerpt(body.decode(errors='replace'))}"
        if status in RETRYABLE_STATUSES or is_for_haste:
            wait_seconds = parse_retry_after(headers.get("retry-after"), answered_at=received_at)
            return AskAgain(found, ends_as=SourceUnavailable, retry_after_seconds=wait_seconds)
        return StatusRefused(f"{self._about}: {found}: {self._fix(status, headers)}", status)

    def of_transport(self, failure: httpx2.RequestError) -> AskAgain | SourceRefused:
        """Returns the error for any failure that the HTTP library raises for a request."""
        found = f"{type(failure).__name__}: {self._endpoint.excerpt(str(failure))}"
        if _has_cause(failure, ssl.SSLCertVerificationError):
            return SourceRefused(
                f"{self._about}: the certificate of the host could not be verified ({found}): "
                "check the address, or name the authority that signed it in SSL_CERT_FILE"
            )
        if isinstance(failure, RETRYABLE_FAILURES):
            return AskAgain(found, ends_as=SourceUnavailable)
        return SourceRefused(f"{self._about}: the request could not be sent ({found}): check {self._endpoint.url_variable}")

    def of_size(self, max_bytes: int) -> SourceFault:
        return SourceFault(
            f"{self._about}: the answer is larger than {max_bytes:,} bytes, the most that is taken into memory at once: "
            "ask for fewer records a page"
        )

    def of_repetition(self, failure: AskAgain) -> SourceError:
        repeats = "once" if failure.at_most == 1 else f"{failure.at_most} times"
        return failure.ends_as(f"{self._about}: {failure.reason}, and the same again when the request was repeated {repeats}")

    def of_retry_after(self, failure: AskAgain, *, wait_seconds: float, remaining_seconds: float, now: datetime) -> SourceBusy:
        back = describe_return(wait_seconds, answered_at=now)
        return SourceBusy(
            f"{self._about}: {failure.reason}. The source asks us to come back {back}, beyond the {remaining_seconds:.0f} seconds "
            "that are left for this request: run again then"
        )

    def of_impatience(self) -> SourceUnavailable:
        return SourceUnavailable(f"{self._about}: nothing was sent, since the time in which an answer was wanted is over")

    def of_budget(self, failure: AskAgain, *, requests: int, elapsed_seconds: float) -> SourceError:
        return failure.ends_as(
            f"{self._about}: gave up after {requests} requests in {elapsed_seconds:.0f} seconds; the last one ended with "
            f"{failure.reason}. Run again once the source has recovered"
        )

    def _fix(self, status: int, headers: httpx2.Headers) -> str:
        if 300 <= status < 400:
            return (
                f"a redirect to {_target(headers.get('location', ''))}, which is not followed, so that the token reaches no other "
                f"host: set {self._endpoint.url_variable} to the address that answers without redirecting"
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            sent = "the token that was sent" if self._endpoint.has_proof else "a request without a token"
            return f"the source does not accept {sent}: set {self._endpoint.token_variable} to a token that may read there"
        return f"the source will not serve this request: check {self._endpoint.url_variable} and what is asked for"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "not a standard status"


def _target(location: str) -> str:
    """Returns scheme and host only: the rest of a location may hold secrets."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "an address that cannot be read"
    return repr(f"{parts.scheme or 'http'}://{parts.hostname}") if parts.hostname else "the same host"


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, kind):
            return True
        current = current.__cause__ or current.__context__
    return False
