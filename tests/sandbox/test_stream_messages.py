"""`/api/http_pull_consumers/{name}/…`: the sandbox as a self-hosted Sequin serves its queue, over HTTP."""

from typing import Any

import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, line, lines

PATH = "/api/http_pull_consumers/orders"
RECEIVE, ACK, NACK = (f"{PATH}/{verb}" for verb in ("receive", "ack", "nack"))


def changes(answer: Any) -> list[tuple[str, Any]]:
    return [(item["data"]["action"], item["data"]["record"]) for item in answer.json()["data"]]


def test_a_message_says_the_table_the_key_and_the_place_in_the_log() -> None:
    with running_sandbox(RecordedFeed(lines(1))) as url, client(url) as http:
        (message,) = http.get(RECEIVE).json()["data"]

    assert sorted(message) == ["ack_id", "data"]
    assert message["data"] == {
        "record": {"n": 1},
        "changes": None,
        "action": "read",
        "metadata": {
            "table_schema": "stripe",
            "table_name": "customer",
            "commit_timestamp": "2024-05-01T10:00:00.000000Z",
            "commit_lsn": 64,
            "commit_idx": 0,
            "idempotency_key": "1:0",
            "record_pks": ["cus_r1"],
            "database": {"id": "s1", "name": "s1"},
            "consumer": {"name": "orders"},
        },
    }


@pytest.mark.parametrize("settings", [Settings(message_form="flat"), Settings()], ids=["option", "query"])
def test_a_message_may_hold_its_change_beside_the_ack_id(settings: Settings) -> None:
    query = {"message_form": "flat"} if settings == Settings() else {}

    with running_sandbox(RecordedFeed(lines(1)), settings) as url, client(url) as http:
        (message,) = http.get(RECEIVE, params=query).json()["data"]

    assert sorted(message) == ["ack_id", "action", "changes", "metadata", "record"]


def test_what_was_there_is_read_and_what_comes_is_inserted_updated_and_deleted_with_its_last_values() -> None:
    with running_sandbox(RecordedFeed(lines(1))) as url, client(url) as http:
        first = http.post(RECEIVE, json={"max_batch_size": 10})
        later = []
        for changed in (line("r2"), line("r2", data={"n": 2}), line("r1", deleted=True, data=None)):
            http.post("/_sandbox/records", content=changed)
            later += changes(http.post(RECEIVE, json={"batch_size": 10}))

    assert changes(first) == [("read", {"n": 1})]
    assert later == [("insert", {"n": 1}), ("update", {"n": 2}), ("delete", {"n": 1})]


def test_the_queue_has_two_addresses_and_remembers_what_was_acknowledged_at_either() -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url, client(url) as http:
        first, second = http.get(RECEIVE, params={"max_batch_size": "2"}).json()["data"]
        acked = http.post("/api/sequin_streams/orders/ack", json={"ack_ids": [first["ack_id"]]})
        nacked = http.post(NACK, json={"ack_ids": [second["ack_id"]]})
        again = http.get("/api/sequin_streams/orders/receive", params={"max_batch_size": 2}).json()["data"]

    assert (acked.status_code, acked.json(), nacked.status_code) == (200, {"success": True}, 200)
    assert [item["data"] for item in again] == [second["data"]]
    assert again[0]["ack_id"] != second["ack_id"]


def test_a_message_comes_again_after_the_visibility_timeout_and_one_that_was_acknowledged_does_not() -> None:
    with running_sandbox(RecordedFeed(lines(2)), Settings(ack_wait_ms=300)) as url, client(url) as http:
        first, second = http.get(RECEIVE, params={"max_batch_size": 2}).json()["data"]
        http.post(ACK, json={"ack_ids": [first["ack_id"]]})
        (again,) = http.post(RECEIVE, json={"wait_for": 5_000, "max_batch_size": 2}).json()["data"]

    assert again["data"] == second["data"]


def test_a_consumer_of_the_records_api_by_the_same_name_is_another_queue() -> None:
    with running_sandbox(RecordedFeed(lines(1))) as url, client(url) as http:
        received = http.get(RECEIVE).json()["data"]
        consumed = http.get("/v1/http-consumers/orders/next").json()["data"]

    assert (len(received), len(consumed)) == (1, 1)


@pytest.mark.parametrize(
    ("verb", "content", "status"),
    [
        pytest.param(RECEIVE, {"max_batch_size": 1001}, 422, id="too many"),
        pytest.param(RECEIVE, {"wait_for": 499}, 422, id="too short a wait"),
        pytest.param(ACK, {"ack_ids": []}, 400, id="nothing to acknowledge"),
        pytest.param(ACK, {"ack_ids": ["MTox"]}, 400, id="no UUID"),
        pytest.param("/api/http_pull_consumers/unknown/ack", {"ack_ids": []}, 404, id="nobody has received"),
    ],
)
def test_requests_that_a_self_hosted_server_refuses_are_refused(verb: str, content: dict[str, Any], status: int) -> None:
    with running_sandbox(RecordedFeed(lines(1))) as url, client(url) as http:
        http.get(RECEIVE)

        assert http.post(verb, json=content).status_code == status


def test_a_record_that_names_no_collection_is_sent_as_a_row_of_no_table() -> None:
    with running_sandbox(RecordedFeed([b'"no object"'])) as url, client(url) as http:
        (message,) = http.get(RECEIVE).json()["data"]

    assert message["data"] == {"record": "no object"}
