"""`/v1/http-consumers/{id}/…`: over HTTP for its forms, with a clock in the hand for its times."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sequin_pipeline.sandbox.consumers import Consumer
from sequin_pipeline.sandbox.feeds import RecordedFeed, append_lines
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, line, lines
from tests.support.waits import wait_until

NEXT, ACK, NACK = (f"/v1/http-consumers/c1/{verb}" for verb in ("next", "ack", "nack"))


class HandClock:
    """Stands still until it is set forward."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def consumer_of(feed: RecordedFeed, clock: HandClock, *, max_ack_pending: int = 1000) -> Consumer:
    return Consumer(feed.stream, ack_wait_seconds=30, max_ack_pending=max_ack_pending, clock=clock)


def delivered(consumer: Consumer, batch_size: int) -> list[int]:
    """The positions of the next messages."""
    return [message.entry.position for message in consumer.next_messages(batch_size)]


def test_next_gives_one_message_unless_more_are_asked_for() -> None:
    with running_sandbox(RecordedFeed(lines(5))) as url, client(url) as http:
        one = http.get(NEXT).json()
        two = http.post(NEXT, json={"batch_size": 2}).json()
        rest = http.get(NEXT, params={"batch_size": 1000}).json()

    assert [item["record"]["id"] for item in one["data"]] == ["r1"]
    assert one["info"] == {"num_pending": 4, "num_ack_pending": 1}
    assert [item["record"]["id"] for item in two["data"]] == ["r2", "r3"]
    assert [item["record"]["id"] for item in rest["data"]] == ["r4", "r5"]
    assert rest["info"] == {"num_pending": 0, "num_ack_pending": 5}


@pytest.mark.parametrize("settings", [Settings(next_form="array"), Settings()], ids=["option", "query"])
def test_next_may_answer_with_a_bare_array(settings: Settings) -> None:
    query = {"next_form": "array"} if settings == Settings() else {}

    with running_sandbox(RecordedFeed(lines(1)), settings) as url, client(url) as http:
        answer = http.get(NEXT, params=query).json()

    assert [sorted(item) for item in answer] == [["ack_token", "record"]]


def test_next_gives_records_in_the_older_form_when_that_is_chosen() -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(form="old")) as url, client(url) as http:
        record = http.get(NEXT).json()["data"][0]["record"]

    assert (record["sync_id"], "id" in record) == ("s1", False)


def test_acknowledged_messages_are_done_with_and_nacked_ones_come_again_at_once() -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url, client(url) as http:
        first, second = http.get(NEXT, params={"batch_size": 2}).json()["data"]
        acked = http.post(ACK, json={"ack_tokens": [first["ack_token"]]})
        nacked = http.post(NACK, json={"ack_tokens": [second["ack_token"]]})
        again = http.get(NEXT, params={"batch_size": 2}).json()

    assert (acked.status_code, acked.content, nacked.status_code) == (204, b"", 204)
    assert [item["record"] for item in again["data"]] == [second["record"]]
    assert again["data"][0]["ack_token"] != second["ack_token"]
    assert again["info"] == {"num_pending": 0, "num_ack_pending": 1}


def test_a_nacked_message_is_pending_until_it_comes_again() -> None:
    consumer = consumer_of(RecordedFeed(lines(1)), HandClock())
    message = consumer.next_messages(1)[0]

    consumer.nack([message.ack_token])
    counts = (consumer.num_pending, consumer.num_ack_pending)

    assert counts == (1, 0)


def test_unacknowledged_messages_come_again_after_the_ack_wait() -> None:
    clock = HandClock()
    consumer = consumer_of(RecordedFeed(lines(2)), clock)
    first = consumer.next_messages(1)
    clock.seconds += 10
    consumer.next_messages(1)

    clock.seconds += 19.9
    before = delivered(consumer, 10)
    clock.seconds += 0.1
    after = delivered(consumer, 10)
    consumer.ack([first[0].ack_token])

    assert (before, after) == ([], [1])
    assert consumer.num_ack_pending == 2  # the token of the first delivery had expired


def test_no_more_messages_are_out_than_the_consumer_allows() -> None:
    consumer = consumer_of(RecordedFeed(lines(5)), HandClock(), max_ack_pending=3)

    first = consumer.next_messages(10)
    none = consumer.next_messages(10)
    consumer.ack([message.ack_token for message in first[:2]])
    more = delivered(consumer, 10)

    assert ([message.entry.position for message in first], none, more) == ([1, 2, 3], [], [4, 5])


def test_a_record_that_changed_while_it_was_out_comes_as_its_new_version_only() -> None:
    feed = RecordedFeed(lines(1))
    consumer = consumer_of(feed, HandClock())
    old = consumer.next_messages(1)

    append_lines(feed.stream, [line("r1", deleted=True)])
    consumer.nack([old[0].ack_token])
    pending = consumer.num_pending
    again = delivered(consumer, 10)

    assert (pending, again) == (1, [2])


def test_a_long_poll_ends_when_a_record_comes_in() -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http, ThreadPoolExecutor() as pool:
        waiting = pool.submit(http.get, NEXT, params={"wait_for": 60_000}, timeout=20)
        wait_until(lambda: http.get("/_sandbox/requests").json()["count"], "the long poll to be there")
        http.post("/_sandbox/records", content=line("new"))
        answer = waiting.result()

    assert [item["record"]["id"] for item in answer.json()["data"]] == ["new"]


def test_a_long_poll_sees_a_message_come_again() -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(ack_wait_ms=50)) as url, client(url) as http:
        http.get(NEXT)
        answer = http.get(NEXT, params={"wait_for": 20_000}, timeout=15)

    assert [item["record"]["id"] for item in answer.json()["data"]] == ["r1"]


def test_a_long_poll_ends_empty_when_its_time_is_up() -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        answer = http.get(NEXT, params={"wait_for": 30})

    assert answer.json() == {"data": [], "info": {"num_pending": 0, "num_ack_pending": 0}}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        pytest.param("GET", f"{NEXT}?batch_size=0", b"", 422, id="batch of none"),
        pytest.param("GET", f"{NEXT}?batch_size=1001", b"", 422, id="batch too large"),
        pytest.param("POST", NEXT, b"[]", 400, id="body is no object"),
        pytest.param("POST", NEXT, b"{", 400, id="body is no JSON"),
        pytest.param("POST", ACK, b"{}", 404, id="consumer that never asked"),
        pytest.param("POST", "/v1/http-consumers/known/ack", b"{}", 422, id="no tokens"),
        pytest.param("POST", "/v1/http-consumers/known/nack", b'{"ack_tokens":[1]}', 422, id="tokens are no strings"),
        pytest.param("POST", "/v1/http-consumers/known/ack", b'{"ack_tokens":["?"]}', 204, id="a token of nobody's"),
    ],
)
def test_what_cannot_be_asked_of_a_consumer_is_refused(method: str, path: str, content: bytes, status: int) -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        http.get("/v1/http-consumers/known/next")
        answer = http.request(method, path, content=content)

    assert answer.status_code == status
