"""What every queue promises: deliveries as pages, acknowledged after their commit, given back without one. Both sources, both forms
of each one's answers, against the sandbox; what no sandbox sends, against a scripted server."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sequin_pipeline.errors import SourceFault, SourceRefused
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources import Page, ReadRequest, Source, SourceIdentity
from sequin_pipeline.sources.queue import QueueSource, QueueUnknown
from sequin_pipeline.sources.sequin_consumer import SequinConsumerSource
from sequin_pipeline.sources.sequin_stream import SequinStreamSource
from tests.sandbox.builders import client, line, lines
from tests.sources.reading import TOKEN, StandingTime
from tests.sources.scripted import Reply, ScriptedServer, scripted_server

EVERYTHING = ReadRequest(frozenset({"stripe:customer"}))

FORMS = [
    pytest.param(SequinConsumerSource, Settings(), id="consumer, object"),
    pytest.param(SequinConsumerSource, Settings(next_form="array"), id="consumer, array"),
    pytest.param(SequinStreamSource, Settings(), id="stream, nested"),
    pytest.param(SequinStreamSource, Settings(message_form="flat"), id="stream, flat"),
]
KINDS = [pytest.param(SequinConsumerSource, id="consumer"), pytest.param(SequinStreamSource, id="stream")]


def upstream_ids(page: Page) -> list[str]:
    return [record["upstream_id"] for record in json.loads(page.records)]


def drained(source: Source, *, commits: bool = True) -> list[list[str]]:
    """The upstream ids of each page of one read, each page committed as soon as it is there."""
    pages = []
    for page in source.pages(EVERYTHING):
        pages.append(upstream_ids(page))
        if commits and page.cursor is not None:
            source.committed(page.cursor)
    return pages


def of(kind: type[QueueSource], url: str, *, wait_milliseconds: int | None = None, **options: Any) -> QueueSource:
    """A source that waits as short as its queue lets it."""
    http_options = StandingTime().options(**options)
    if kind is SequinStreamSource:
        return SequinStreamSource(url, TOKEN, consumer="c1", wait_milliseconds=wait_milliseconds or 500, options=http_options)
    return SequinConsumerSource(url, TOKEN, consumer="c1", wait_milliseconds=wait_milliseconds or 10, options=http_options)


@pytest.mark.parametrize(("kind", "settings"), FORMS)
def test_a_queue_is_drained_to_its_end_and_what_was_committed_does_not_come_again(
    kind: type[QueueSource], settings: Settings
) -> None:
    with running_sandbox(RecordedFeed(lines(3)), settings) as url:
        first, second = drained(of(kind, url)), drained(of(kind, url))

    assert first == [["cus_r1", "cus_r2", "cus_r3"]]
    assert second == []


@pytest.mark.parametrize("kind", KINDS)
def test_deliveries_hold_at_most_a_thousand_messages(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(1_001))) as url:
        pages = drained(of(kind, url))

    assert [len(page) for page in pages] == [1_000, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_that_is_closed_gives_back_what_was_not_committed_and_nothing_else(kind: type[QueueSource]) -> None:
    feed = RecordedFeed(lines(1_001))
    with running_sandbox(feed, Settings(max_ack_pending=2_000)) as url:
        source = of(kind, url)
        with closing(_iterator(source)) as pages:
            committed = next(pages)
            source.committed(str(committed.cursor))
            returned = next(pages)
        again = drained(of(kind, url))

    assert len(upstream_ids(committed)) == 1_000
    assert again == [upstream_ids(returned)] == [["cus_r1001"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_before_the_commit_brings_the_messages_again_once_the_queue_stops_waiting(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(2)), Settings(ack_wait_ms=300)) as url:
        crashed = _iterator(of(kind, url))
        lost = upstream_ids(next(crashed))
        again = drained(of(kind, url, wait_milliseconds=5_000))
        crashed.close()

    assert again == [lost] == [["cus_r1", "cus_r2"]]


@pytest.mark.parametrize("kind", KINDS)
def test_committing_a_later_delivery_acknowledges_the_earlier_ones_too(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(1_001)), Settings(max_ack_pending=2_000)) as url:
        source = of(kind, url)
        with closing(_iterator(source)) as pages:
            next(pages)
            source.committed(str(next(pages).cursor))
        again = drained(of(kind, url))

    assert again == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_after_the_end_of_the_read_acknowledges_as_well(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url:
        source = of(kind, url)
        (page,) = list(source.pages(EVERYTHING))
        source.committed(str(page.cursor))
        with client(url) as http:
            http.post("/_sandbox/records", content=line("r3"))
        again = drained(of(kind, url))

    assert again == [["cus_r3"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_token_is_refused_by_the_name_of_its_variable(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(token="another")) as url, pytest.raises(SourceRefused) as caught:
        drained(of(kind, url))

    variable = "SEQUIN_API_TOKEN" if kind is SequinConsumerSource else "SEQUIN_STREAM_TOKEN"
    assert str(caught.value).endswith(
        f"the source does not accept the token that was sent: set {variable} to a token that may read there"
    )
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_long_poll_ends_the_read_after_one_request(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        pages = drained(of(kind, url))
        asked = http.get("/_sandbox/requests").json()

    assert (pages, asked["count"]) == ([], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_holds_no_messages_is_asked_for_again_and_then_a_fault_of_the_source(kind: type[QueueSource]) -> None:
    with scripted_server(*[Reply(body=b"<h1>Just a moment</h1>")] * 7) as server, pytest.raises(SourceFault) as caught:
        drained(of(kind, server.url))

    assert len(server.asked) == 7
    assert "beginning with '<h1>Just a moment</h1>', where JSON with an array of messages was expected" in str(caught.value)


def test_a_message_that_could_never_be_acknowledged_is_a_fault_of_the_source() -> None:
    body = json.dumps({"data": [{"record": {"id": "r1"}}]}).encode()
    with scripted_server(*[Reply(body=body)] * 7) as server, pytest.raises(SourceFault, match="a message has no 'ack_token'"):
        drained(of(SequinConsumerSource, server.url))


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_the_server_does_not_know_is_named(kind: type[QueueSource]) -> None:
    with scripted_server(Reply(404), Reply(404)) as server:
        source = of(kind, server.url)
        with pytest.raises(QueueUnknown, match="Is there a consumer 'c1'"):
            drained(source)
        with pytest.raises(QueueUnknown, match="Is there a consumer 'c1'"):
            source.check_access(StandingTime().options())


@pytest.mark.parametrize("kind", KINDS)
def test_looking_whether_a_queue_is_there_takes_no_message(kind: type[QueueSource]) -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(token=TOKEN)) as url:
        drained(of(kind, url), commits=False)
        with client(url) as http:
            http.post("/_sandbox/records", content=line("r2"))
        of(kind, url).check_access(StandingTime().options())
        after = drained(of(kind, url))

    assert after == [["cus_r2"]]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_looks_closely_at_what_is_acknowledged_has_been_reached(status: int) -> None:
    with scripted_server(Reply(status)) as server:
        of(SequinConsumerSource, server.url).check_access(StandingTime().options())

    assert [(asked.path, asked.content) for asked in server.asked] == [
        ("/v1/http-consumers/c1/ack", {"ack_tokens": ["00000000-0000-0000-0000-000000000000"]})
    ]


def test_what_cannot_be_given_back_is_logged_and_hides_no_error(caplog: pytest.LogCaptureFixture) -> None:
    message = Reply(body=b'{"data": [{"ack_token": "t1", "record": {}}]}')
    with scripted_server(message, Reply(500), Reply(500), Reply(500), Reply(500)) as server, caplog.at_level(logging.WARNING):
        source = of(SequinConsumerSource, server.url)
        with pytest.raises(ZeroDivisionError):
            _break_off(source)

    assert [asked.path for asked in server.asked][1:] == ["/v1/http-consumers/c1/nack"] * 4
    assert caplog.messages[-1].startswith(
        "1 messages could not be returned to the queue and will be delivered again later: draining sequin_consumer 'c1': nack"
    )


def test_the_consumer_asks_and_acknowledges_as_its_documentation_says() -> None:
    script = (Reply(body=b'[{"ack_token": "t1", "record": {"id": "r1"}}]'), Reply(204), Reply(body=b"[]"))
    with scripted_server(*script) as server:
        source = SequinConsumerSource(server.url, TOKEN, consumer="my consumer/1", options=StandingTime().options())
        pages = []
        for page in source.pages(EVERYTHING):
            pages.append(page.records)
            source.committed(str(page.cursor))

    assert pages == [b'[{"id": "r1"}]']
    path = "/v1/http-consumers/my%20consumer%2F1"
    assert _asked(server) == [
        (f"{path}/next", {"batch_size": "1000", "wait_for": "1000"}, None),
        (f"{path}/ack", {}, {"ack_tokens": ["t1"]}),
        (f"{path}/next", {"batch_size": "1000", "wait_for": "1000"}, None),
    ]


def test_sequin_stream_is_asked_and_acknowledged_as_its_documentation_says() -> None:
    script = (
        Reply(body=b'{"data": [{"ack_id": "u1", "record": {}}]}'),
        Reply(body=b'{"success":true}'),
        Reply(body=b'{"data":[]}'),
    )
    asking = {"batch_size": 1000, "max_batch_size": 1000, "wait_for": 1000}
    with scripted_server(*script) as server:
        source = SequinStreamSource(server.url, TOKEN, consumer="orders", options=StandingTime().options())
        for page in source.pages(EVERYTHING):
            source.committed(str(page.cursor))

    assert _asked(server) == [
        ("/api/http_pull_consumers/orders/receive", {}, asking),
        ("/api/http_pull_consumers/orders/ack", {}, {"ack_ids": ["u1"]}),
        ("/api/http_pull_consumers/orders/receive", {}, asking),
    ]


def test_an_acknowledgement_is_sent_again_until_it_is_answered() -> None:
    script = (Reply(body=b'[{"ack_token": "t1", "record": {}}]'), Reply(503), Reply(then="reset"), Reply(204), Reply(body=b"[]"))
    with scripted_server(*script) as server:
        drained_ids = [page.cursor for page in _committing(of(SequinConsumerSource, server.url))]

    assert drained_ids == ["1"]
    assert [asked.path.rpartition("/")[2] for asked in server.asked] == ["next", "ack", "ack", "ack", "next"]


def test_a_queue_says_what_it_is_and_tells_nothing_that_it_cannot_know() -> None:
    consumer = SequinConsumerSource("https://API.sequin.io/", TOKEN, consumer="c1")
    stream = SequinStreamSource("http://sequin.internal:7376", TOKEN, consumer="orders")
    sources: list[Source] = [consumer, stream]

    assert consumer.identity == SourceIdentity("sequin_consumer", "https://api.sequin.io", "c1")
    assert stream.identity == SourceIdentity("sequin_stream", "http://sequin.internal:7376", "orders")
    for source in sources:
        assert (source.can_reread, source.observes_time) == (False, False)
        assert (source.head("a:b"), source.describe("a:b"), source.collection_ids()) == (None, (), None)
        assert TOKEN not in repr(source)
    assert (consumer.tells_all_values, stream.tells_all_values) == (True, False)


def _iterator(source: QueueSource) -> Any:
    """A generator, which can be closed."""
    return source.pages(EVERYTHING)


def _break_off(source: QueueSource) -> None:
    with closing(_iterator(source)) as pages:
        next(pages)
        raise ZeroDivisionError


def _committing(source: QueueSource) -> Iterator[Page]:
    for page in source.pages(EVERYTHING):
        source.committed(str(page.cursor))
        yield page


def _asked(server: ScriptedServer) -> list[tuple[str, dict[str, str], object]]:
    return [(asked.path, asked.query, asked.content) for asked in server.asked]
