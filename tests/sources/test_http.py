"""Statuses, failures of the transport, waits and costs, against a real server on loopback."""

import errno
import gzip
import logging
import os
import socket
import ssl
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest

from sequin_pipeline.errors import SourceBusy, SourceError, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sources import Page, PageCost
from sequin_pipeline.sources.http.client import HttpClient, HttpOptions
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.sequin import SequinSource
from tests.sources.certificates import server_context, write_certificate
from tests.sources.reading import NOW, TOKEN, StandingTime, read, request, source
from tests.sources.scripted import Reply, page, scripted_server, zipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GOOD = page({"id": "a"})
RECORDS = b'[{"id": "a"}]'
IMPATIENT = RetryPolicy(budget_seconds=2.0)
"""With the draw of the jitter at 1: waits 0.5 and 1 second, and gives up before the third."""


def test_a_request_carries_the_token_the_encodings_and_the_path_below_the_prefix() -> None:
    with scripted_server(GOOD) as server:
        read(f"{server.url}/prefix/")

    (asked,) = server.asked
    assert asked.path == "/prefix/v1/records"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["accept-encoding"] == "zstd, gzip"


@pytest.mark.parametrize(
    ("path", "params", "query"),
    [
        pytest.param("/items?of=sub_1", (), {"of": "sub_1"}, id="the query alone"),
        pytest.param("/items?of=sub_1", (("after", "si_2"),), {"of": "sub_1", "after": "si_2"}, id="both"),
        pytest.param("/items?of=a%26b&x=", (("after", "c d"),), {"of": "a&b", "x": "", "after": "c d"}, id="escaped and empty"),
        pytest.param("/items", (("after", "si_2"),), {"after": "si_2"}, id="parameters alone"),
    ],
)
def test_the_query_of_an_address_that_a_server_gave_is_sent_with_the_parameters(
    path: str, params: tuple[tuple[str, str], ...], query: dict[str, str]
) -> None:
    with scripted_server(GOOD) as server, HttpClient(Endpoint(f"{server.url}/prefix"), HttpOptions()) as client:
        client.get(path, params, purpose="reading items", read=lambda response: response.body)

    (asked,) = server.asked
    assert (asked.path, asked.query) == ("/prefix/items", query)


def test_without_a_token_none_is_sent() -> None:
    with scripted_server(GOOD) as server:
        list(source(server.url, token=None).pages(request()))

    assert "authorization" not in server.asked[0].headers


def test_pages_of_one_read_share_a_connection_also_after_an_error_status() -> None:
    with scripted_server(page({"id": 1}, cursor="1"), Reply(503, b"busy"), page({"id": 2}, cursor="2"), page()) as server:
        read(server.url)

    assert [asked.connection for asked in server.asked] == [1, 1, 1, 1]


def test_loopback_is_reached_past_a_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    with scripted_server(GOOD) as server:
        pages = read(server.url)

    assert [page.records for page in pages] == [RECORDS]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_status_that_passes_is_asked_again_with_growing_waits(status: int) -> None:
    time = StandingTime()

    with scripted_server(Reply(status), Reply(status), GOOD) as server:
        pages = read(server.url, time=time)

    assert [page.records for page in pages] == [RECORDS]
    assert time.waits == [0.5, 1.0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_status_that_does_not_pass_ends_as_unavailable_within_the_budget(status: int) -> None:
    with scripted_server(*[Reply(status, b"busy")] * 3) as server, pytest.raises(SourceUnavailable) as caught:
        read(server.url, retry=IMPATIENT)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: gave up after 3 requests in 2 seconds; the last one ended with "
        f"status {status} ({HTTPStatus(status).phrase}), saying 'busy'. Run again once the source has recovered"
    )
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 410, 413, 418, 422, 451, 501, 505, 599])
def test_any_other_status_is_refused_at_once(status: int) -> None:
    time = StandingTime()

    with scripted_server(Reply(status, b'{"summary": "no"}')) as server, pytest.raises(SourceRefused) as caught:
        read(server.url, time=time)

    phrase = {599: "not a standard status"}.get(status) or HTTPStatus(status).phrase
    assert str(caught.value) == (
        f'reading stripe:price from the start from {server.url}: status {status} ({phrase}), saying \'{{"summary": "no"}}\': '
        "the source will not serve this request: check SEQUIN_API_URL and what is asked for"
    )
    assert (len(server.asked), time.waits) == (1, [])


@pytest.mark.parametrize(("status", "phrase"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_refused_token_names_the_variable_to_fix(status: int, phrase: str) -> None:
    with scripted_server(Reply(status, f"bad key {TOKEN}".encode())) as server, pytest.raises(SourceRefused) as caught:
        read(server.url)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: status {status} ({phrase}), saying 'bad key ***': "
        "the source does not accept the token that was sent: set SEQUIN_API_TOKEN to a token that may read there"
    )


def test_refused_request_without_token_says_that_there_was_none() -> None:
    with scripted_server(Reply(401)) as server, pytest.raises(SourceRefused) as caught:
        list(source(server.url, token=None).pages(request()))

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: status 401 (Unauthorized): "
        "the source does not accept a request without a token: set SEQUIN_API_TOKEN to a token that may read there"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_error_that_names_the_host_and_takes_the_token_nowhere(status: int) -> None:
    with scripted_server(GOOD) as elsewhere:
        location = f"{elsewhere.url}/v1/records?key=hunter2"
        with scripted_server(Reply(status, headers={"Location": location})) as server, pytest.raises(SourceRefused) as caught:
            read(server.url)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: status {status} ({HTTPStatus(status).phrase}): "
        "a redirect to 'http://127.0.0.1', which is not followed, so that the token reaches no other host: "
        "set SEQUIN_API_URL to the address that answers without redirecting"
    )
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("value", "wait_seconds"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("Sat, 01 Mar 2025 12:02:00 GMT", 120.0, id="date, measured from the server's own clock"),
    ],
)
def test_retry_after_is_waited_exactly_and_counted(value: str, wait_seconds: float) -> None:
    time = StandingTime()
    limited = Reply(429, headers={"Retry-After": value, "Date": "Sat, 01 Mar 2025 12:00:00 GMT"})

    with scripted_server(limited, GOOD) as server:
        (only,) = read(server.url, time=time)

    assert time.waits == [wait_seconds]
    assert only.cost == PageCost(
        requests=2, bytes=len(GOOD.body), retries=1, rate_limit_seconds=wait_seconds, seconds=wait_seconds
    )


@pytest.mark.parametrize("value", ["soon", "-5", "0", ""])
def test_retry_after_that_says_nothing_leaves_the_wait_to_us(value: str) -> None:
    time = StandingTime()

    with scripted_server(Reply(429, headers={"Retry-After": value}), GOOD) as server:
        (only,) = read(server.url, time=time)

    assert time.waits == [0.5]
    assert only.cost.rate_limit_seconds == 0.0


@pytest.mark.parametrize(
    ("value", "back"),
    [
        pytest.param("600", "at 2025-03-01 12:10:00 UTC", id="the whole budget"),
        pytest.param("86400", "at 2025-03-02 12:00:00 UTC", id="a day"),
        pytest.param("9" * 400, "in more than a year", id="absurd"),
        pytest.param("Sat, 01 Mar 2025 13:00:00 GMT", "at 2025-03-01 13:00:00 UTC", id="date"),
    ],
)
def test_retry_after_beyond_the_budget_fails_at_once_and_says_when_to_come_back(value: str, back: str) -> None:
    time = StandingTime()

    with scripted_server(Reply(429, headers={"Retry-After": value})) as server, pytest.raises(SourceBusy) as caught:
        read(server.url, time=time)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: status 429 (Too Many Requests). "
        f"The source asks us to come back {back}, beyond the 600 seconds that are left for this request: run again then"
    )
    assert (len(server.asked), time.waits) == (1, [])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Reply(200, GOOD.body, then="cut"), id="body cut short"),
        pytest.param(Reply(then="reset"), id="connection reset"),
        pytest.param(Reply(then="silent"), id="silence beyond the timeout"),
        pytest.param(Reply(200, GOOD.body, {"Content-Encoding": "gzip"}), id="gzip that is none"),
        pytest.param(Reply(200, gzip.compress(GOOD.body)[:-12], {"Content-Encoding": "gzip"}), id="gzip cut short"),
        pytest.param(Reply(200, zstd.compress(GOOD.body)[:-4], {"Content-Encoding": "zstd"}), id="zstd cut short"),
    ],
)
def test_broken_answer_is_asked_again(broken: Reply) -> None:
    time = StandingTime()

    with scripted_server(broken, GOOD) as server:
        (only,) = read(server.url, time=time, read_timeout_seconds=0.2)

    assert only.records == RECORDS
    assert (only.cost.requests, only.cost.retries, time.waits) == (2, 1, [0.5])


def test_refusal_whose_body_is_broken_is_a_refusal() -> None:
    reply = Reply(403, b"not gzip", {"Content-Encoding": "gzip"})

    with scripted_server(reply) as server, pytest.raises(SourceRefused, match=r"status 403 \(Forbidden\): the source does not"):
        read(server.url)

    assert len(server.asked) == 1


def test_source_that_cannot_be_reached_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    with pytest.raises(SourceUnavailable) as caught:
        read(f"http://127.0.0.1:{port}", retry=IMPATIENT)

    assert str(caught.value) == (
        f"reading stripe:price from the start from http://127.0.0.1:{port}: gave up after 3 requests in 2 seconds; the last one "
        f"ended with ConnectError: '[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}'. "
        "Run again once the source has recovered"
    )


def test_answer_that_trickles_ends_with_the_budget() -> None:
    ticks = iter(range(10_000_000))

    with (
        scripted_server(Reply(then="trickle")) as server,
        pytest.raises(SourceUnavailable, match=r"gave up after 1 requests .* an answer still arriving after [\d,]+ bytes"),
    ):
        read(server.url, clock=lambda: float(next(ticks)))


@pytest.mark.parametrize(
    ("packed", "wire_bytes"),
    [
        pytest.param(GOOD, len(GOOD.body), id="plain"),
        pytest.param(zipped(GOOD), len(gzip.compress(GOOD.body)), id="gzip"),
        pytest.param(
            Reply(200, zstd.compress(GOOD.body), {"Content-Encoding": "zstd"}), len(zstd.compress(GOOD.body)), id="zstd"
        ),
    ],
)
def test_cost_counts_the_bytes_on_the_wire(packed: Reply, wire_bytes: int) -> None:
    with scripted_server(packed) as server:
        (only,) = read(server.url)

    assert (only.records, only.cost) == (RECORDS, PageCost(requests=1, bytes=wire_bytes))


def test_answer_larger_than_the_bound_is_given_up_while_it_unpacks() -> None:
    bomb = zipped(Reply(200, b" " * 64_000_000))

    with scripted_server(bomb) as server, pytest.raises(SourceFault) as caught:
        read(server.url, max_bytes=3_000_000)

    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: the answer is larger than 3,000,000 bytes, the most that is taken "
        "into memory at once: ask for fewer records a page"
    )
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("date", "received_at"),
    [
        pytest.param("Fri, 28 Feb 2025 23:59:59 GMT", datetime(2025, 2, 28, 23, 59, 59, tzinfo=UTC), id="the source's clock"),
        pytest.param("yesterday", NOW, id="ours where it cannot be read"),
        pytest.param(None, NOW, id="ours where there is none"),
    ],
)
def test_page_says_when_the_source_answered(date: str | None, received_at: datetime) -> None:
    reply = page({"id": "a"}, Date=date) if date else GOOD

    with scripted_server(reply) as server:
        (only,) = read(server.url)

    assert only == Page(RECORDS, None, received_at, PageCost(bytes=len(GOOD.body)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls") / "loopback.pem")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    return server_context(certificate)


def test_certificate_that_cannot_be_verified_is_refused_at_once(tls: ssl.SSLContext) -> None:
    time = StandingTime()

    with scripted_server(GOOD, tls=tls) as server, pytest.raises(SourceRefused) as caught:
        read(server.url, time=time)

    assert str(caught.value).startswith(
        f"reading stripe:price from the start from {server.url}: the certificate of the host could not be verified (ConnectError: "
    )
    assert str(caught.value).endswith("): check the address, or name the authority that signed it in SSL_CERT_FILE")
    assert (server.asked, time.waits) == ([], [])


def test_certificate_of_an_authority_in_ssl_cert_file_is_accepted(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    with scripted_server(GOOD, tls=tls) as server:
        (only,) = read(server.url, ssl_context=None)

    assert only.records == RECORDS


def test_each_retry_is_logged_once_and_nothing_shows_the_token(caplog: pytest.LogCaptureFixture) -> None:
    echo = f"no such key: {TOKEN}".encode()
    caplog.set_level(logging.DEBUG)

    with scripted_server(Reply(503, echo), Reply(200, echo), Reply(403, echo)) as server:
        reader = source(server.url)
        with pytest.raises(SourceError) as caught:
            list(reader.pages(request(after="NjA3")))

    about = "reading stripe:price after cursor 'NjA3'"
    ours = [record.getMessage() for record in caplog.records if record.name == "sequin_pipeline.sources"]
    assert ours[0] == (
        f"{about}: attempt 1 failed with status 503 (Service Unavailable), saying 'no such key: ***'; retrying in 0.5 s"
    )
    assert ours[1].startswith(f"{about}: attempt 2 failed with a body that is not JSON: ")
    assert ours[1].endswith("; retrying in 1.0 s")
    assert len(ours) == 2
    shown = [caplog.text, str(caught.value), repr(reader), repr(vars(reader)), repr(HttpOptions())]
    assert [text for text in shown if TOKEN in text] == []


def test_the_shipped_options_are_ten_minutes_a_page_and_verified_certificates() -> None:
    options = HttpOptions()

    assert options.retry == RetryPolicy(budget_seconds=600.0, first_wait_seconds=0.5, longest_wait_seconds=60.0)
    assert (options.connect_timeout_seconds, options.read_timeout_seconds) == (10.0, 60.0)
    assert (options.max_bytes, options.ssl_context) == (268_435_456, None)
    assert SequinSource("http://127.0.0.1:1", TOKEN).identity.base_url == "http://127.0.0.1:1"
