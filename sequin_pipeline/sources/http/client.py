"""This client of every source sends one request at a time, again and again until it is answered, refused or out of time.

The effects are here: connections, waits, counts. What a failure means is in failures.py, when a request is sent again in
retries.py, and what an answer means is up to the source, which hands in a function that reads it.
"""

import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar
from urllib.parse import parse_qsl

import httpx2
import msgspec

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import PageCost
from sequin_pipeline.sources.http import content_coding
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import Failures
from sequin_pipeline.sources.http.library_log import keep_queries_out
from sequin_pipeline.sources.http.pace import Pace
from sequin_pipeline.sources.http.proxies import refuse_unusable_proxies
from sequin_pipeline.sources.http.retries import RETRYABLE_FAILURES, AskAgain, RetryPolicy, parse_http_date
from sequin_pipeline.sources.patience import seconds_left

LOGGER = logging.getLogger("sequin_pipeline.sources")

REFUSAL_BYTES = 64 * 1024
"""This much of a refusal is read: enough for its sentence, and a small body read to its end leaves the connection usable."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """These options say how requests are sent; time and chance are here too, so that nothing waits in tests.

    `max_bytes` bounds one decoded answer, checked while it arrives: 256 MB is a page of 1,000 records of 250 KB. The read timeout
    is for silence on the connection; an answer that trickles is ended by the budget. `ssl_context` None means that certificates
    are verified against the system's authorities, or those that SSL_CERT_FILE names.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    max_bytes: int = 256 * 1024 * 1024
    ssl_context: ssl.SSLContext | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random.random


@dataclass(frozen=True)
class Response:
    """A response is a success with its whole body, decompressed; `received_at` is the answer's `Date`, else our clock."""

    body: bytes = field(repr=False)
    content_type: str
    received_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    status: int = HTTPStatus.OK


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """An answer is what was read from a response, and what it took to get it, repetitions included."""

    value: Value
    received_at: datetime
    cost: PageCost


class Gate(Protocol):
    """A gate reads from answers how many requests are left, and holds back the next one while there are none."""

    def wait_seconds(self) -> float:
        """Returns how long the next request has to wait; raises SourceBusy where none may be sent for longer than anybody waits."""
        ...

    def answered(self, status: int, headers: Mapping[str, str], received_at: datetime) -> bool:
        """Looks at an answer; returns whether a refusal is one for haste, and passes by itself."""
        ...


@dataclass(frozen=True)
class Request:
    """This value is a request as it is sent.

    `path` may be a whole address, below the endpoint's own origin. `headers` go with it alone.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Spent:
    """This value counts what one call of `get` or `post` has spent so far, of a `budget_seconds` with all its repetitions."""

    started_at: float
    budget_seconds: float
    requests: int = 0
    bytes: int = 0
    repeats: int = 0
    rate_limit_seconds: float = 0.0


def _headers(request: Request) -> dict[str, str]:
    given = {name.lower(): value for name, value in request.headers.items()}
    return given if request.content is None else {"content-type": "application/json", **given}


def _tls(endpoint: Endpoint, options: HttpOptions) -> ssl.SSLContext:
    if options.ssl_context is not None:
        return options.ssl_context
    if not endpoint.is_encrypted:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _verifying_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _verifying_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Returns a context with the system's authorities, or those that the two variables name, as they were at the first call.

    Reading them takes 25 ms: no connection to an http: address needs them, and Stripe is asked by eight clients at once.
    """
    return httpx2.create_ssl_context()


class HttpClient:
    """A client keeps connections to one endpoint for reuse until the `with` block ends; it serves one thread at a time.

    Redirects are not followed: the token goes to the host that was configured and to no other.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: HttpOptions,
        *,
        headers: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        gate: Gate | None = None,
    ) -> None:
        """Takes `headers`, which go with every request; `pace` and `gate` say when each may be sent, repetitions included."""
        self._endpoint = endpoint
        self._options = options
        self._pace = pace
        self._gate = gate
        keep_queries_out()
        if not endpoint.is_loopback:
            refuse_unusable_proxies()
        self._client = httpx2.Client(
            base_url=endpoint.base_url,
            headers=dict(headers or {}),
            verify=_tls(endpoint, options),
            # A proxy named in the environment cannot reach what listens on this machine's loopback.
            trust_env=not endpoint.is_loopback,
            # Writing a batch may take longer than the 5 seconds for which the library keeps an idle connection.
            limits=httpx2.Limits(keepalive_expiry=60.0),
        )
        self._client.headers["accept-encoding"] = content_coding.ACCEPTED
        if endpoint.token:
            self._client.headers["authorization"] = f"Bearer {endpoint.token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def mask(self, secrets: tuple[str, ...]) -> None:
        """Keeps these values, known since, out of everything that a server says."""
        if not set(secrets) <= set(self._endpoint.secrets):
            self._endpoint = replace(self._endpoint, secrets=(*self._endpoint.secrets, *secrets))

    def excerpt(self, text: str) -> str:
        """Returns the beginning of what a server said, quoted and without secrets."""
        return self._endpoint.excerpt(text)

    def close(self) -> None:
        """Closes the client's connections; what is under way in another thread fails."""
        self._client.close()

    def get(
        self, path: str, params: Sequence[tuple[str, str]] = (), *, purpose: str, read: Callable[[Response], Value]
    ) -> Answer[Value]:
        """Sends a request until an answer can be read; `read` may raise AskAgain. A query of `path` goes before `params`.

        `purpose` is what we are doing, as in "reading stripe:price". Raises SourceUnavailable (SourceBusy), SourceRefused
        (StatusRefused for a status) or SourceFault.
        """
        return self.ask(Request("GET", path, tuple(params)), purpose=purpose, read=read)

    def post(self, path: str, content: object, *, purpose: str, read: Callable[[Response], Value]) -> Answer[Value]:
        """Does as `get`, with `content` as JSON in the body; only for requests that may be repeated without harm."""
        return self.ask(Request("POST", path, content=msgspec.json.encode(content)), purpose=purpose, read=read)

    def ask(self, request: Request, *, purpose: str, read: Callable[[Response], Value]) -> Answer[Value]:
        """Does as `get` for any request that may be repeated without harm."""
        failures = Failures(self._endpoint, purpose=purpose)
        spent = _Spent(self._options.clock(), min(self._options.retry.budget_seconds, seconds_left()))
        while True:
            if not spent.budget_seconds:
                raise failures.of_impatience()
            self._pass_gate(failures, spent)
            spent.requests += 1
            try:
                response = self._send(request, failures=failures, spent=spent)
                value = read(response)
            except AskAgain as failure:
                wait_seconds = self._wait_or_give_up(failure, failures=failures, spent=spent)
                LOGGER.warning(
                    "%s: attempt %d failed with %s; retrying in %.1f s", purpose, spent.requests, failure.reason, wait_seconds
                )
                self._options.sleep(wait_seconds)
            else:
                return Answer(value, response.received_at, self._cost(spent))

    def _pass_gate(self, failures: Failures, spent: _Spent) -> None:
        wait_seconds = 0.0 if self._gate is None else self._gate.wait_seconds()
        if wait_seconds <= 0:
            return
        remaining_seconds = max(0.0, spent.budget_seconds - (self._options.clock() - spent.started_at))
        if wait_seconds >= remaining_seconds:
            none_left = AskAgain("the source said that it takes no more requests for now", ends_as=SourceUnavailable)
            raise failures.of_retry_after(
                none_left, wait_seconds=wait_seconds, remaining_seconds=remaining_seconds, now=self._options.now()
            )
        spent.rate_limit_seconds += wait_seconds
        self._options.sleep(wait_seconds)

    def _wait_or_give_up(self, failure: AskAgain, *, failures: Failures, spent: _Spent) -> float:
        elapsed_seconds = self._options.clock() - spent.started_at
        remaining_seconds = max(0.0, spent.budget_seconds - elapsed_seconds)
        if failure.at_most is not None:
            spent.repeats += 1
            if spent.repeats > failure.at_most:
                raise failures.of_repetition(failure) from failure
        if failure.retry_after_seconds:
            wait_seconds = failure.retry_after_seconds
            if wait_seconds >= remaining_seconds:
                raise failures.of_retry_after(
                    failure, wait_seconds=wait_seconds, remaining_seconds=remaining_seconds, now=self._options.now()
                ) from failure
            spent.rate_limit_seconds += wait_seconds
            return wait_seconds
        wait_seconds = self._options.retry.wait_seconds(spent.requests, fraction=self._options.random())
        if wait_seconds >= remaining_seconds:
            raise failures.of_budget(failure, requests=spent.requests, elapsed_seconds=elapsed_seconds) from failure
        return wait_seconds

    def _send(self, request: Request, *, failures: Failures, spent: _Spent) -> Response:
        if self._pace is not None:
            self._pace.wait()
        deadline = spent.started_at + spent.budget_seconds
        remaining_seconds = max(0.001, deadline - self._options.clock())
        timeout = httpx2.Timeout(
            min(self._options.read_timeout_seconds, remaining_seconds),
            connect=min(self._options.connect_timeout_seconds, remaining_seconds),
        )
        # httpx2 would put the parameters in the place of the query, even where there are none.
        path, _, query = request.path.partition("?")
        try:
            with self._client.stream(
                request.method,
                path,
                params=[*parse_qsl(query, keep_blank_values=True), *request.params],
                content=request.content,
                headers=_headers(request),
                timeout=timeout,
            ) as response:
                received_at = parse_http_date(response.headers.get("date")) or self._options.now()
                if self._pace is not None:
                    self._pace.answered(was_too_fast=response.status_code == HTTPStatus.TOO_MANY_REQUESTS)
                is_for_haste = self._gate is not None and self._gate.answered(response.status_code, response.headers, received_at)
                try:
                    if not response.is_success:
                        said = self._beginning(response, deadline=deadline)
                        raise failures.of_status(
                            response.status_code,
                            headers=response.headers,
                            body=said,
                            received_at=received_at,
                            is_for_haste=is_for_haste,
                        )
                    body = self._body(response, failures=failures, deadline=deadline)
                finally:
                    spent.bytes += response.num_bytes_downloaded
        except httpx2.RequestError as failure:
            raise failures.of_transport(failure) from failure
        return Response(body, response.headers.get("content-type", ""), received_at, response.headers, response.status_code)

    def _body(self, response: httpx2.Response, *, failures: Failures, deadline: float) -> bytes:
        chunks, size = [], 0
        for chunk in self._unpacked(response, deadline=deadline):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._options.max_bytes:
                raise failures.of_size(self._options.max_bytes)
        return b"".join(chunks)

    def _unpacked(self, response: httpx2.Response, *, deadline: float) -> Iterator[bytes]:
        return content_coding.unpack(self._arriving(response, deadline=deadline), content_coding.codings_of(response.headers))

    def _arriving(self, response: httpx2.Response, *, deadline: float) -> Iterator[bytes]:
        """Looks at the clock before anything is unpacked: packed bytes without end need not produce any content."""
        for chunk in response.iter_raw():
            if self._options.clock() > deadline:
                arrived = response.num_bytes_downloaded
                raise AskAgain(f"an answer still arriving after {arrived:,} bytes when time was up", ends_as=SourceUnavailable)
            yield chunk

    def _beginning(self, response: httpx2.Response, *, deadline: float) -> bytes:
        """Returns what can be had of a refusal's body; the status counts even where the body cannot be read."""
        said = b""
        try:
            for chunk in self._unpacked(response, deadline=deadline):
                said += chunk
                if len(said) > REFUSAL_BYTES:
                    break
        except (AskAgain, *RETRYABLE_FAILURES):
            LOGGER.debug("the body of status %d could not be read to its end", response.status_code)
        return said

    def _cost(self, spent: _Spent) -> PageCost:
        return PageCost(
            requests=spent.requests,
            bytes=spent.bytes,
            retries=spent.requests - 1,
            rate_limit_seconds=spent.rate_limit_seconds,
            seconds=self._options.clock() - spent.started_at,
        )
