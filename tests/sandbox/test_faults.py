"""Every fault, seen by a client that looks at the bytes and at the end of the connection."""

import gzip
import json
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.faults import FaultSchedule, parse_fault
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, get_raw, ids, line, lines

PAGE = b'{"records":[' + line("r1") + b'],"cursor":"MQ"}'


def statuses(faults: tuple[str, ...], count: int) -> list[int]:
    with running_sandbox(RecordedFeed(), Settings(faults=faults)) as url, client(url) as http:
        return [http.get("/v1/records").status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        pytest.param(("status:503",), [503, 503, 503, 503, 503], id="always"),
        pytest.param(("status:503,at=2",), [200, 503, 200, 200, 200], id="on request number n"),
        pytest.param(("status:429,every=2",), [200, 429, 200, 429, 200], id="every nth"),
        pytest.param(("status:500,first=3",), [500, 500, 500, 200, 200], id="the first k"),
        pytest.param(("status:500,from=4",), [200, 200, 200, 500, 500], id="from the nth on"),
        pytest.param(("status:503,at=1", "status:401,at=4"), [503, 200, 200, 401, 200], id="two"),
        pytest.param(("status:503,path=/v1/syncs",), [200, 200, 200, 200, 200], id="another path"),
        pytest.param(("status:520,at=1",), [520, 200, 200, 200, 200], id="a number without a name"),
    ],
)
def test_faults_strike_by_the_count_of_requests(faults: tuple[str, ...], expected: list[int]) -> None:
    assert statuses(faults, 5) == expected


def test_a_fault_counts_only_requests_of_its_collection() -> None:
    schedule = FaultSchedule(["status:503,at=2,collection=stripe:customer"])

    struck = [
        schedule.strike("/v1/records", collection) is not None
        for collection in ("stripe:customer", "stripe:invoice", "stripe:invoice", "stripe:customer", "stripe:customer")
    ]

    assert struck == [False, False, False, True, False]


def test_a_fault_asked_for_in_the_query_counts_too() -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        codes = [http.get("/v1/records", params={"fault": "status:500,first=2"}).status_code for _ in range(3)]

    assert codes == [500, 500, 200]


def test_faults_can_be_set_and_taken_away_while_the_sandbox_runs() -> None:
    with running_sandbox(RecordedFeed(), Settings(faults=("status:500",))) as url, client(url) as http:
        http.post("/_sandbox/faults", json={"faults": ["status:503,at=1"]})
        after_post = [http.get("/v1/records").status_code for _ in range(2)]
        http.post("/_sandbox/faults", json={"faults": ["status:503,at=1"]})
        refused = http.post("/_sandbox/faults", json={"faults": ["bang"]})
        kept = http.get("/_sandbox/faults").json()
        http.delete("/_sandbox/faults")
        after_delete = http.get("/v1/records").status_code

    assert after_post == [503, 200]
    assert refused.status_code == 422
    assert kept == {"faults": ["status:503,at=1"]}
    assert after_delete == 200


def test_status_carries_a_summary_and_no_retry_after_unless_asked() -> None:
    with running_sandbox(RecordedFeed(), Settings(faults=("status:429",))) as url, client(url) as http:
        answer = http.get("/v1/records")

    assert answer.json() == {"summary": "Too Many Requests"}
    assert "retry-after" not in answer.headers


def test_retry_after_in_seconds_and_as_a_date() -> None:
    faults = ("status:429,at=1,retry-after=7", "status:503,at=2,retry-after-date=60")

    with running_sandbox(RecordedFeed(), Settings(faults=faults)) as url, client(url) as http:
        seconds = http.get("/v1/records").headers["retry-after"]
        date = http.get("/v1/records").headers["retry-after"]

    assert seconds == "7"
    assert 0 < (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds() <= 60


def test_cut_body_is_shorter_than_promised_and_ends_in_order() -> None:
    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=("cut:120",))) as url:
        answer = get_raw(url, "/v1/records")

    assert f"content-length: {len(PAGE)}".encode() in answer.head
    assert answer.body == PAGE[:120]
    assert not answer.was_reset


def test_a_cut_of_a_large_page_sends_what_it_says() -> None:
    with running_sandbox(RecordedFeed(lines(5000)), Settings(faults=("cut:350000",))) as url:
        answer = get_raw(url, "/v1/records?limit=1000")

    assert len(answer.body) == 350_000


def test_reset_before_the_answer_sends_nothing() -> None:
    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=("reset-before",))) as url:
        answer = get_raw(url, "/v1/records")

    assert (answer.received, answer.was_reset) == (b"", True)


def test_reset_in_the_body_sends_its_beginning() -> None:
    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=("reset-in-body:50",))) as url:
        answer = get_raw(url, "/v1/records")

    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (answer.body, answer.was_reset) == (PAGE[:50], True)


@pytest.mark.parametrize("difference", [10, -10])
def test_wrong_length_promises_another_number_of_bytes(difference: int) -> None:
    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=(f"wrong-length:{difference}",))) as url:
        answer = get_raw(url, "/v1/records")

    assert f"content-length: {len(PAGE) + difference}".encode() in answer.head
    assert answer.body == PAGE


def test_slow_takes_its_time_and_sends_everything() -> None:
    with running_sandbox(RecordedFeed(lines(1)), Settings(faults=("slow:200",))) as url, client(url) as http:
        answer = http.get("/v1/records")
        read_seconds = answer.elapsed.total_seconds()

    assert answer.content == PAGE
    assert read_seconds >= 0.2


@pytest.mark.parametrize("fault", ["html", "json-cut", "not-object", "other-object", "empty-body"])
def test_wrong_content_comes_with_status_200(fault: str) -> None:
    expected = {
        "html": ("text/html; charset=utf-8", b"<!doctype html><title>Just a moment</title><h1>We will be back soon</h1>"),
        "json-cut": ("application/json", PAGE[: len(PAGE) // 2]),
        "not-object": ("application/json", b"[" + PAGE + b"]"),
        "other-object": ("application/json", b'{"status":"maintenance"}'),
        "empty-body": ("application/json", b""),
    }

    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=(fault,))) as url, client(url) as http:
        answer = http.get("/v1/records")

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, *expected[fault])


def test_broken_gzip_says_gzip_and_cannot_be_unpacked() -> None:
    with running_sandbox(RecordedFeed([line("r1")]), Settings(faults=("broken-gzip",))) as url:
        answer = get_raw(url, "/v1/records")

    assert b"content-encoding: gzip" in answer.head
    with pytest.raises((zlib.error, gzip.BadGzipFile, EOFError)):
        gzip.decompress(answer.body)


def test_duplicated_page_repeats_the_page_before_and_leads_on() -> None:
    with running_sandbox(RecordedFeed(lines(6)), Settings(faults=("duplicate-page,at=2",))) as url, client(url) as http:
        pages = [http.get("/v1/records", params={"limit": 2})]
        for _ in range(3):
            pages.append(http.get("/v1/records", params={"limit": 2, "after_cursor": pages[-1].json()["cursor"]}))

    assert [ids(page) for page in pages] == [["r1", "r2"], ["r1", "r2"], ["r3", "r4"], ["r5", "r6"]]
    assert len({page.json()["cursor"] for page in pages}) == 4


def test_empty_page_with_a_new_cursor_leads_on() -> None:
    with running_sandbox(RecordedFeed(lines(2)), Settings(faults=("empty-page,at=2",))) as url, client(url) as http:
        pages = [http.get("/v1/records", params={"limit": 1})]
        for _ in range(2):
            pages.append(http.get("/v1/records", params={"limit": 1, "after_cursor": pages[-1].json()["cursor"]}))

    assert [ids(page) for page in pages] == [["r1"], [], ["r2"]]
    assert len({page.json()["cursor"] for page in pages}) == 3


def test_cursor_loop_gives_records_under_the_cursor_that_was_sent() -> None:
    with running_sandbox(RecordedFeed(lines(4)), Settings(faults=("cursor-loop,at=2",))) as url, client(url) as http:
        http.get("/v1/records", params={"limit": 2})
        page = http.get("/v1/records", params={"limit": 2, "after_cursor": "Mg"})

    assert ids(page) == ["r3", "r4"]
    assert page.json()["cursor"] == "Mg"


def test_cursor_back_gives_records_under_an_earlier_cursor() -> None:
    with running_sandbox(RecordedFeed(lines(6)), Settings(faults=("cursor-back,at=3",))) as url, client(url) as http:
        pages = [http.get("/v1/records", params={"limit": 2})]
        for _ in range(2):
            pages.append(http.get("/v1/records", params={"limit": 2, "after_cursor": pages[-1].json()["cursor"]}))

    assert [page.json()["cursor"] for page in pages] == ["Mg", "NA", "Mg"]
    assert ids(pages[2]) == ["r5", "r6"]


def test_the_sandbox_serves_on_after_every_fault() -> None:
    faults = ["cut", "reset-before", "reset-in-body", "wrong-length", "html", "json-cut", "broken-gzip", "slow:10"]

    with running_sandbox(RecordedFeed(lines(1))) as url, client(url) as http:
        for fault in faults:
            get_raw(url, f"/v1/records?fault={fault}")
        answer = http.get("/v1/records")
        log = http.get("/_sandbox/requests").json()

    assert answer.content == PAGE
    assert [entry["fault"] for entry in log["requests"]] == [*faults, None]
    assert [entry["status"] for entry in log["requests"]] == [200, None, 200, 200, 200, 200, 200, 200, 200]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("bang", "'bang' is none of", id="kind"),
        pytest.param("html:3", "'html' takes no value", id="value"),
        pytest.param("status", "a status is a number from 200 to 599", id="status missing"),
        pytest.param("cut:many", "'many' is no whole number", id="number"),
        pytest.param("cut:1,when=2", "'when=2' is none of", id="condition"),
        pytest.param("cut:1,at=0", "say one of at, every, first and from, counted from 1", id="counted from 1"),
        pytest.param("cut:1,at=1,every=2", "say one of at, every, first and from, counted from 1", id="two conditions"),
    ],
)
def test_a_fault_that_is_not_understood_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_fault(text)

    assert f"does not understand the fault {text!r}: {reason}" in str(refusal.value)


def test_a_fault_in_the_query_that_is_not_understood_is_a_bad_request() -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        answer = http.get("/v1/records", params={"fault": "bang"})

    assert answer.status_code == 400
    assert json.loads(answer.content)["summary"].startswith("the sandbox does not understand the fault 'bang'")
