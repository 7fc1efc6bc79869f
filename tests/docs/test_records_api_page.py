"""The page about the records API: the sandbox answers as it is printed, and a server that keeps to the page is synced."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.records.fields import FIELDS
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.http.retries import RETRYABLE_STATUSES
from sequin_pipeline.sources.sequin import SequinSource
from tests.docs.blocks import Block, blocks_of
from tests.support.builders import collection
from tests.support.checkout import CHECKOUT
from tests.support.reading import query
from tests.support.syncing import sync

PAGE = CHECKOUT / "docs" / "records-api.md"
BLOCKS = tuple(blocks_of(PAGE))
HTTP = [block for block in BLOCKS if block.language == "http"]
(RECORDS,) = (block.text for block in BLOCKS if block.language == "jsonl")
EXCHANGES = list(zip(HTTP[::2], HTTP[1::2], strict=True))


@dataclass(frozen=True)
class Message:
    """The first line, the headers by their names in lower case, and the body of a printed request or answer."""

    first: str
    headers: Mapping[str, str]
    body: str

    @classmethod
    def of(cls, block: Block) -> "Message":
        head, _, body = block.text.partition("\n\n")
        first, *headers = head.splitlines()
        pairs = (line.partition(": ") for line in headers)
        return cls(first, {name.lower(): value for name, _, value in pairs}, body.strip())


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    feed = RecordedFeed([line.encode() for line in RECORDS.splitlines()])
    with running_sandbox(feed, Settings(token="secret")) as url:
        yield url


@pytest.mark.parametrize(("asked", "answered"), [pytest.param(*pair, id=f"line {pair[0].line}") for pair in EXCHANGES])
def test_the_sandbox_answers_what_the_page_prints(api_url: str, asked: Block, answered: Block) -> None:
    request, answer = Message.of(asked), Message.of(answered)
    method, path = request.first.split()
    _, status, phrase = answer.first.split(maxsplit=2)
    # Nothing but the sandbox's own parameter makes it refuse for a while.
    wait = answer.headers.get("retry-after")
    params = dict(parse_qsl(urlsplit(path).query)) | ({"fault": f"status:{status},at=1,retry-after={wait}"} if wait else {})

    with httpx2.Client(trust_env=False) as client:
        if method == "POST":  # the sandbox makes a consumer when somebody first takes from it
            taken = client.get(api_url + urlsplit(path).path.replace("/ack", "/next"), headers=dict(request.headers))
            assert taken.status_code == 200
        found = client.request(
            method, api_url + urlsplit(path).path, params=params, headers=dict(request.headers), content=request.body or None
        )

    assert (found.status_code, HTTPStatus(found.status_code).phrase) == (int(status), phrase)
    assert (found.json() if found.content else None) == (json.loads(answer.body) if answer.body else None)
    for name, value in answer.headers.items():
        assert found.headers[name] == value or value == "…", name


def test_every_status_that_is_asked_again_is_named() -> None:
    (row,) = re.findall(r"^\| ([\d, ]+) \| asks again", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert {int(status) for status in row.split(", ")} == RETRYABLE_STATUSES


def test_every_field_of_a_record_has_its_row_and_its_column() -> None:
    rows = dict(re.findall(r"^\| (`[^|]*) \| [^|]* \| (.*) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    told = {name: row for names, row in rows.items() for name in re.findall(r"`([\w.]+)`", names)}

    fields = {".".join(field.path): field.name for field in FIELDS}
    assert fields.keys() <= told.keys()
    for path, column in fields.items():
        assert path == column or f"`{column}`" in told[path], f"the row of {path} does not name its column"
    for line in RECORDS.splitlines():
        assert json.loads(line).keys() <= told.keys()


# ---- a server that was written from the page


class Stream(BaseHTTPRequestHandler):
    """Serves `records` in the order of their positions, two on a page, and refuses each fifth request for a moment."""

    records: tuple[dict[str, Any], ...] = ()
    asked: list[str]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        self.asked.append(self.path)
        if address.path != "/v1/records":
            self._answer(404, {"summary": "There is nothing here"})
        elif self.headers["Authorization"] != "Bearer secret":
            self._answer(401, {"summary": "The key is wrong"})
        elif len(self.asked) % 5 == 0:
            self._answer(429, {"summary": "Slowly"}, {"Retry-After": "0"})
        elif not query.get("after_cursor", "0").isdigit():
            self._answer(422, {"summary": "No cursor", "validation_errors": {"after_cursor": ["is none of ours"]}})
        else:
            self._answer(200, self._page(query))

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        after = int(query.get("after_cursor", "0"))
        following = [
            (position, record)
            for position, record in enumerate(self.records, start=1)
            if position > after and record["collection_id"] == query.get("collection_id", record["collection_id"])
        ]
        page = following[: min(2, int(query.get("limit", "2")))]
        return {"records": [record for _, record in page], "cursor": str(page[-1][0]) if page else None}

    def _answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)  # sends Date as well
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the test's output to itself."""


@contextmanager
def serving(handler: type[Stream]) -> Iterator[str]:
    handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def subscription(number: int, version: int, **changed: object) -> dict[str, Any]:
    """A record with the fields that the page says are needed, and no other."""
    return {
        "id": f"rec_{number}",
        "collection_id": "demo:thing",
        "sync": {"id": "sync_eu"},
        "upstream_id": f"sub_{number}",
        "updated_idx": version,
        "inserted_at": f"2026-11-02T10:00:{version:02}Z",
        "data": {"status": "active", "quantity": number},
    } | changed


BEFORE = (*(subscription(number, number) for number in (1, 2, 3, 4, 5)), subscription(9, 9, collection_id="demo:other"))
AFTERWARDS = (subscription(2, 11, data={"status": "paused"}), subscription(3, 12, deleted=True, data=None))


def test_a_server_written_from_the_page_is_synced(warehouse_url: str) -> None:
    of = collection(columns=(Column("status", parse_path("status"), "text"),))

    class Server(Stream):
        records = BEFORE

    with serving(Server) as url:
        source = SequinSource(url, "secret", options=HttpOptions(sleep=lambda seconds: None))
        first = sync(warehouse_url, of=of, source=source, run_id="first")
        Server.records = BEFORE + AFTERWARDS
        second = sync(warehouse_url, of=of, source=source, run_id="second")
        third = sync(warehouse_url, of=of, source=source, run_id="third")

    assert first.counts.inserted == 5
    assert (second.counts.updated, second.counts.deleted, second.counts.fetched) == (1, 1, 2)
    assert third.counts.fetched == 0
    assert query(warehouse_url, "select id, upstream_id, sync_id, updated_idx, deleted, status from demo.thing order by id") == [
        ("rec_1", "sub_1", "sync_eu", 1, False, "active"),
        ("rec_2", "sub_2", "sync_eu", 11, False, "paused"),
        ("rec_3", "sub_3", "sync_eu", 12, True, "active"),
        ("rec_4", "sub_4", "sync_eu", 4, False, "active"),
        ("rec_5", "sub_5", "sync_eu", 5, False, "active"),
    ]
    assert Server.asked[0] == "/v1/records?collection_id=demo%3Athing&limit=1000"
