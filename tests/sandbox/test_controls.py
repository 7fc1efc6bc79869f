"""`/_sandbox/…`, over HTTP."""

import os

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, ids, line, lines


def test_requests_of_the_api_are_counted_and_kept_without_the_token() -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(token="secret")) as url, client(url) as http:
        http.get("/v1/records", params={"limit": 5}, headers={"authorization": "Bearer secret", "user-agent": "me"})
        http.get("/v1/records")
        http.get("/_sandbox/health")
        answer = http.get("/_sandbox/requests")

    log = answer.json()
    assert log["count"] == 2
    assert "secret" not in answer.text
    assert [(entry["number"], entry["path"], entry["query"], entry["status"]) for entry in log["requests"]] == [
        (1, "/v1/records", {"limit": "5"}, 200),
        (2, "/v1/records", {}, 401),
    ]
    assert log["requests"][0]["user_agent"] == "me"


def test_the_count_of_requests_can_be_begun_anew() -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        http.get("/v1/records")
        http.delete("/_sandbox/requests")
        http.get("/v1/syncs")
        log = http.get("/_sandbox/requests").json()

    assert [(entry["number"], entry["path"]) for entry in log["requests"]] == [(1, "/v1/syncs")]


def test_records_can_be_appended_while_the_sandbox_runs() -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url, client(url) as http:
        answer = http.post("/_sandbox/records", content=line("r1", deleted=True) + b"\n\n" + line("r3") + b"\n")
        page = http.get("/v1/records")

    assert (answer.status_code, answer.json()) == (201, {"appended": 2, "head": "NA"})
    assert ids(page) == ["r2", "r1", "r3"]


def test_of_records_with_a_bad_line_none_is_appended() -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url, client(url) as http:
        answer = http.post("/_sandbox/records", content=line("r3") + b"\nbad\n")
        page = http.get("/v1/records")

    assert answer.status_code == 400
    assert answer.json()["summary"].startswith("Nothing was appended: line 2 is not JSON")
    assert ids(page) == ["r1", "r2"]


def test_health_names_the_home_the_process_and_the_stream() -> None:
    with running_sandbox(RecordedFeed(lines(3)), Settings(home="/folder/of/mine")) as url, client(url) as http:
        health = http.get("/_sandbox/health").json()

    assert health.pop("version")
    assert health == {"home": "/folder/of/mine", "pid": os.getpid(), "records": 3, "head": "Mw"}


def test_a_delay_holds_each_page_back() -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(delay_ms=150)) as url, client(url) as http:
        page = http.get("/v1/records")

    assert page.elapsed.total_seconds() >= 0.15
