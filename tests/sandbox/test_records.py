"""`GET /v1/records`, over HTTP."""

import gzip
import json

import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.sandbox.builders import client, ids, line, lines


def test_records_stand_once_and_a_later_version_moves_to_the_end() -> None:
    feed = RecordedFeed([line("a"), line("b"), line("a", deleted=True)])

    with running_sandbox(feed) as url, client(url) as http:
        page = http.get("/v1/records")

    assert [(record["id"], record["deleted"]) for record in page.json()["records"]] == [("b", False), ("a", True)]


def test_not_compacted_every_version_stays_where_it_came_in() -> None:
    feed = RecordedFeed([line("a"), line("b"), line("a", deleted=True)], is_compacted=False)

    with running_sandbox(feed) as url, client(url) as http:
        page = http.get("/v1/records")

    assert ids(page) == ["a", "b", "a"]


def test_a_cursor_stays_valid_when_its_record_moves_and_nothing_is_missed() -> None:
    with running_sandbox(RecordedFeed(lines(4))) as url, client(url) as http:
        first = http.get("/v1/records", params={"limit": 2})
        http.post("/_sandbox/records", content=line("r2") + b"\n" + line("r3"))
        rest = http.get("/v1/records", params={"after_cursor": first.json()["cursor"]})

    assert ids(first) == ["r1", "r2"]
    assert ids(rest) == ["r4", "r2", "r3"]


def test_a_cursor_is_the_documented_token_of_a_position() -> None:
    with running_sandbox(RecordedFeed(lines(607))) as url, client(url) as http:
        page = http.get("/v1/records", params={"limit": 607})

    assert page.json()["cursor"] == "NjA3"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({}, ["a", "b", "c", "d"], id="all"),
        pytest.param({"collection_id": "stripe:invoice"}, ["b"], id="collection"),
        pytest.param({"sync_id": "s2"}, ["c", "d"], id="sync"),
        pytest.param({"provider": "github"}, ["d"], id="provider"),
        pytest.param({"collection_id": "stripe:customer", "sync_id": "s2"}, ["c"], id="collection and sync"),
        pytest.param({"collection_id": "stripe:billing_portal.session"}, [], id="none"),
    ],
)
def test_filters_choose_records(query: dict[str, str], expected: list[str]) -> None:
    feed = RecordedFeed(
        [
            line("a"),
            line("b", collection_id="stripe:invoice"),
            line("c", sync={"id": "s2"}),
            line("d", sync={"id": "s2"}, collection_id="github:issue", provider="github"),
        ]
    )

    with running_sandbox(feed) as url, client(url) as http:
        page = http.get("/v1/records", params=query)

    assert ids(page) == expected


def test_a_filter_asked_for_before_follows_records_that_move() -> None:
    with (
        running_sandbox(RecordedFeed([line("a"), line("b"), line("c", collection_id="stripe:invoice")])) as url,
        client(url) as http,
    ):
        http.get("/v1/records", params={"collection_id": "stripe:customer"})
        http.post("/_sandbox/records", content=line("a"))
        page = http.get("/v1/records", params={"collection_id": "stripe:customer"})

    assert ids(page) == ["b", "a"]


def test_pages_through_many_moves_give_each_record_once() -> None:
    """More entries are superseded than live, so that the indexes close their holes on the way."""
    feed = RecordedFeed([line(f"r{number % 7}") for number in range(9000)])

    with running_sandbox(feed) as url, client(url) as http:
        first = http.get("/v1/records", params={"limit": 4})
        rest = http.get("/v1/records", params={"after_cursor": first.json()["cursor"]})

    assert (ids(first), ids(rest)) == (["r5", "r6", "r0", "r1"], ["r2", "r3", "r4"])


@pytest.mark.parametrize(
    ("settings", "query", "expected"),
    [
        pytest.param(Settings(), {}, 100, id="default"),
        pytest.param(Settings(), {"limit": "7"}, 7, id="asked"),
        pytest.param(Settings(), {"limit": "5000"}, 1000, id="cut to the maximum"),
        pytest.param(Settings(limit_cap=3), {"limit": "1000"}, 3, id="cut to the cap"),
        pytest.param(Settings(limit_cap=3), {}, 3, id="default above the cap"),
    ],
)
def test_limit(settings: Settings, query: dict[str, str], expected: int) -> None:
    with running_sandbox(RecordedFeed(lines(1100)), settings) as url, client(url) as http:
        page = http.get("/v1/records", params=query)

    assert len(page.json()["records"]) == expected


@pytest.mark.parametrize(
    ("end", "last_page", "page_after"),
    [
        pytest.param("empty-null", {"cursor": "Mg"}, {"records": [], "cursor": None}, id="empty-null"),
        pytest.param("empty-absent", {"cursor": "Mg"}, {"records": []}, id="empty-absent"),
        pytest.param("empty-same", {"cursor": "Mg"}, {"records": [], "cursor": "Mg"}, id="empty-same"),
        pytest.param("records-null", {"cursor": None}, {"records": [], "cursor": None}, id="records-null"),
        pytest.param("records-absent", {}, {"records": []}, id="records-absent"),
    ],
)
@pytest.mark.parametrize("is_option", [True, False], ids=["option", "query"])
def test_end_of_the_stream(*, end: str, last_page: dict[str, object], page_after: dict[str, object], is_option: bool) -> None:
    settings = Settings(end=end) if is_option else Settings()  # type: ignore[arg-type]  # parametrised text
    query = {} if is_option else {"end": end}

    with running_sandbox(RecordedFeed(lines(2)), settings) as url, client(url) as http:
        first = http.get("/v1/records", params={"limit": 2, **query}).json()
        second = http.get("/v1/records", params={"after_cursor": "Mg", **query}).json()

    assert len(first.pop("records")) == 2
    assert first == last_page
    assert second == page_after


@pytest.mark.parametrize("form", ["records-null", "records-absent"])
def test_a_full_page_before_the_end_has_its_cursor_in_every_form(form: str) -> None:
    with running_sandbox(RecordedFeed(lines(3))) as url, client(url) as http:
        page = http.get("/v1/records", params={"limit": 2, "end": form})

    assert page.json()["cursor"] == "Mg"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"1e400", id="a number beyond a double"),
        pytest.param(b"123456789012345678901234567890.123456789012345678901234567890", id="sixty digits"),
        pytest.param(b'{"a":1,"a":2}', id="a repeated key"),
        pytest.param(rb'"\u0000"', id="NUL"),
        pytest.param(rb'{"a":"\ud800"}', id="a lone surrogate"),
        pytest.param(b'{ "b" : [1.0 , -0, 1E3],\t"a" : "\xc3\xa5\\u00e5\\/" }', id="space, signs and escapes"),
    ],
)
def test_lines_go_out_byte_for_byte(data: bytes) -> None:
    record = b'{"id": "a", "sync":{"id":"s1"},"collection_id":"stripe:customer","data": ' + data + b',"extra":1e400 }'

    with running_sandbox(RecordedFeed([record])) as url, client(url) as http:
        page = http.get("/v1/records", params={"sync_id": "s1", "collection_id": "stripe:customer"})

    assert page.content == b'{"records":[' + record + b'],"cursor":"MQ"}'


@pytest.mark.parametrize("form", [Settings(form="old"), Settings()], ids=["option", "query"])
def test_older_form_keeps_data_byte_for_byte(form: Settings) -> None:
    record = (
        b'{"id":"a","collection_id":"stripe:customer","provider":"stripe","stream_id":"x","sync":{"id":"s1","external_id":null},'
        b'"upstream_id":"u","updated_idx":2745327036,"deleted":false,"inserted_at":"2024-05-01T10:00:00Z","data":{"n": 1e400}}'
    )

    with running_sandbox(RecordedFeed([record]), form) as url, client(url) as http:
        page = http.get("/v1/records", params={"form": "old"} if form == Settings() else {})

    assert page.content == (
        b'{"records":[{"collection":"stripe:customer","sync_id":"s1","upstream_id":"u","updated_idx":2745327036,"deleted":false,'
        b'"created_at":"2024-05-01T10:00:00Z","data":{"n": 1e400}}],"cursor":"MQ"}'
    )


def test_a_line_in_the_older_form_is_filtered_and_replaced_like_any() -> None:
    older = b'{"sync_id":"s1","collection":"stripe:customer","upstream_id":"%s","updated_idx":%d,"data":{}}'

    with running_sandbox(RecordedFeed([older % (b"u", 1), older % (b"v", 2), older % (b"u", 3)])) as url, client(url) as http:
        page = http.get("/v1/records", params={"sync_id": "s1", "collection_id": "stripe:customer", "provider": "stripe"})

    assert [record["updated_idx"] for record in page.json()["records"]] == [2, 3]


@pytest.mark.parametrize("bad", [b"5", b'"text"', b"null", b"[]", b"{}", b'{"id":7}'])
def test_json_that_is_no_record_is_served_as_it_is(bad: bytes) -> None:
    with running_sandbox(RecordedFeed([bad, line("a"), bad])) as url, client(url) as http:
        page = http.get("/v1/records")

    assert page.content == b'{"records":[' + bad + b"," + line("a") + b"," + bad + b'],"cursor":"Mw"}'


@pytest.mark.parametrize(
    ("query", "status", "content"),
    [
        pytest.param(
            {"limit": "0"},
            422,
            {"summary": "Validation failed", "validation_errors": {"limit": ["must be a whole number from 1 to 999999999"]}},
            id="limit 0",
        ),
        pytest.param(
            {"limit": "ten"},
            422,
            {"summary": "Validation failed", "validation_errors": {"limit": ["must be a whole number from 1 to 999999999"]}},
            id="limit is no number",
        ),
        pytest.param(
            {"collection_id": "customer"},
            422,
            {"summary": "Validation failed", "validation_errors": {"collection_id": ["must look like provider:name"]}},
            id="collection without provider",
        ),
        pytest.param({"after_cursor": "%%%"}, 400, {"summary": "after_cursor is not a cursor of this API"}, id="no cursor"),
        pytest.param({"after_cursor": "aGVsbG8"}, 400, {"summary": "after_cursor is not a cursor of this API"}, id="no position"),
        pytest.param({"after_cursor": ""}, 400, {"summary": "after_cursor is not a cursor of this API"}, id="empty cursor"),
        pytest.param(
            {"after_cursor": "NjA3"}, 404, {"summary": "after_cursor lies beyond the end of the stream"}, id="beyond the end"
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(query: dict[str, str], status: int, content: dict[str, object]) -> None:
    with running_sandbox(RecordedFeed(lines(2))) as url, client(url) as http:
        answer = http.get("/v1/records", params=query)

    assert (answer.status_code, answer.json()) == (status, content)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="none"),
        pytest.param({"authorization": "Bearer wrong"}, 401, id="wrong"),
        pytest.param({"authorization": "secret"}, 401, id="no scheme"),
        pytest.param({"authorization": "Bearer secret"}, 200, id="right"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/records", "/v1/syncs", "/v1/http-consumers/c/next"])
def test_the_token_is_asked_for(path: str, headers: dict[str, str], status: int) -> None:
    with running_sandbox(RecordedFeed(), Settings(token="secret")) as url, client(url) as http:
        answer = http.get(path, headers=headers)

    assert answer.status_code == status
    assert status == 200 or answer.json() == {"summary": "The API key is missing or wrong"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/record", 404), ("POST", "/v1/records", 405)])
def test_other_paths_and_methods_are_refused_in_the_api_s_shape(method: str, path: str, status: int) -> None:
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        answer = http.request(method, path)

    assert answer.status_code == status
    assert list(answer.json()) == ["summary"]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        pytest.param("gzip, deflate, br, zstd", "zstd", id="zstd before gzip"),
        pytest.param("gzip", "gzip", id="gzip"),
        pytest.param("zstd;q=0, gzip", "gzip", id="zstd refused"),
        pytest.param("identity", None, id="none"),
        pytest.param("br", None, id="another"),
    ],
)
def test_pages_are_compressed_as_the_client_takes_them(accepted: str, encoding: str | None) -> None:
    with running_sandbox(RecordedFeed(lines(50))) as url, client(url) as http:
        page = http.get("/v1/records", headers={"accept-encoding": accepted})

    assert page.headers.get("content-encoding") == encoding
    assert page.content == b'{"records":[' + b",".join(lines(50)) + b'],"cursor":"NTA"}'


def test_gzip_is_sound_on_the_wire() -> None:
    with (
        running_sandbox(RecordedFeed(lines(50))) as url,
        client(url) as http,
        http.stream("GET", "/v1/records", headers={"accept-encoding": "gzip"}) as page,
    ):
        packed = b"".join(page.iter_raw())

    assert int(page.headers["content-length"]) == len(packed)
    assert len(json.loads(gzip.decompress(packed))["records"]) == 50
