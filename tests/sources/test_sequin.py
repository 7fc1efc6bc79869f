"""Paging, cursors, ends and listings of the page API, against a real server on loopback."""

import json
from typing import Any

import pytest

from sequin_pipeline.errors import ConfigurationError, CursorRefused, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, Source, SourceIdentity
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.sequin import SequinSource
from tests.sources.reading import TOKEN, StandingTime, read, request, source
from tests.sources.scripted import JSON_HEADERS, Reply, page, scripted_server


def _positions(pages: list[Page]) -> list[tuple[Any, str | None]]:
    return [(json.loads(page.records), page.cursor) for page in pages]


def test_the_source_is_what_the_pipeline_expects_of_one() -> None:
    reader: Source = SequinSource("https://API.sequin.io/", TOKEN)

    assert reader.identity == SourceIdentity("sequin", "https://api.sequin.io", "")
    assert (reader.can_reread, reader.observes_time, reader.head("stripe:price")) == (True, False, None)


@pytest.mark.parametrize("size", [0, -1])
def test_page_size_that_never_moves_on_is_refused(size: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SequinSource("https://api.test", page_size_records=size)

    assert str(caught.value) == f"the page size is {size} records: it must be at least 1, since an empty page never moves on"


@pytest.mark.parametrize(
    ("last", "end"),
    [
        pytest.param(page(), ([], None), id="empty, null cursor"),
        pytest.param(Reply(body=b'{"records": []}'), ([], None), id="empty, no cursor"),
        pytest.param(page(cursor=""), ([], None), id="empty, empty cursor"),
        pytest.param(page(cursor="b"), ([], "b"), id="empty, the cursor that was sent"),
        pytest.param(page({"id": 3}), ([{"id": 3}], None), id="records, null cursor"),
        pytest.param(Reply(body=b'{"records": [{"id": 3}]}'), ([{"id": 3}], None), id="records, no cursor"),
    ],
)
def test_the_stream_ends_in_every_form_that_servers_use(last: Reply, end: tuple[list[Any], str | None]) -> None:
    with scripted_server(page({"id": 1}, cursor="a"), page({"id": 2}, cursor="b"), last) as server:
        pages = read(server.url)

    assert _positions(pages) == [([{"id": 1}], "a"), ([{"id": 2}], "b"), end]
    assert server.cursors_asked == [None, "a", "b"]


def test_reading_resumes_after_the_cursor_and_ends_at_the_cursor_that_was_sent() -> None:
    with scripted_server(page(cursor="NjA3 +/=&é")) as server:
        pages = read(server.url, request(after="NjA3 +/=&é"))

    assert _positions(pages) == [([], "NjA3 +/=&é")]
    assert server.cursors_asked == ["NjA3 +/=&é"]


def test_empty_page_with_a_new_cursor_is_not_the_end() -> None:
    with scripted_server(page(cursor="a"), page(cursor="b"), page({"id": 1}, cursor="c"), page()) as server:
        pages = read(server.url)

    assert _positions(pages) == [([], "a"), ([], "b"), ([{"id": 1}], "c"), ([], None)]


def test_empty_pages_without_end_are_a_fault_that_keeps_the_cursors_before_it() -> None:
    pages: list[Page] = []
    with scripted_server(*[page(cursor=str(number)) for number in range(10)]) as server:
        reader = SequinSource(server.url, max_empty_pages=3, options=StandingTime().options())
        with pytest.raises(SourceFault) as caught:
            pages.extend(reader.pages(request()))

    assert str(caught.value) == (
        f"reading stripe:price after cursor '2' from {server.url}: 4 empty pages in a row, each with a new cursor, where records or "
        "the end of the stream were expected: ask whoever runs the source; the next run continues from the last of these cursors"
    )
    assert [page.cursor for page in pages] == ["0", "1", "2", "3"]


def test_records_between_empty_pages_start_the_count_again() -> None:
    script = [page(cursor="1"), page(cursor="2"), page({"id": 1}, cursor="3"), page(cursor="4"), page(cursor="5"), page()]
    with scripted_server(*script) as server:
        reader = SequinSource(server.url, max_empty_pages=2, options=StandingTime().options())
        pages = list(reader.pages(request()))

    assert len(pages) == 6


@pytest.mark.parametrize(
    "circle",
    [
        pytest.param(page({"id": 3}, cursor="b"), id="the cursor that was sent"),
        pytest.param(page({"id": 3}, cursor="a"), id="an earlier cursor"),
        pytest.param(page({"id": 3}, cursor="start"), id="the cursor of the first request"),
        pytest.param(page(cursor="a"), id="empty, an earlier cursor"),
    ],
)
def test_cursor_that_leads_in_a_circle_is_asked_once_more_and_then_a_fault(circle: Reply) -> None:
    pages: list[Page] = []
    script = [page({"id": 1}, cursor="a"), page({"id": 2}, cursor="b"), circle, circle, page()]
    with scripted_server(*script) as server, pytest.raises(SourceFault) as caught:
        pages.extend(source(server.url).pages(request(after="start")))

    cursor = json.loads(circle.body)["cursor"]
    assert str(caught.value) == (
        f"reading stripe:price after cursor 'b' from {server.url}: cursor {cursor!r}, which was used before in the same read: the "
        "source goes round in a circle, and the same again when the request was repeated once"
    )
    assert server.cursors_asked == ["start", "a", "b", "b"]
    assert [page.cursor for page in pages] == ["a", "b"]


def test_circle_that_is_gone_when_asked_once_more_is_passed() -> None:
    with scripted_server(page({"id": 1}, cursor="a"), page({"id": 1}, cursor="a"), page({"id": 2}, cursor="b"), page()) as server:
        pages = read(server.url)

    assert _positions(pages) == [([{"id": 1}], "a"), ([{"id": 2}], "b"), ([], None)]
    assert (pages[1].cost.requests, pages[1].cost.retries) == (2, 1)


@pytest.mark.parametrize(("status", "phrase"), [(400, "Bad Request"), (404, "Not Found"), (422, "Unprocessable Entity")])
def test_refused_cursor_offers_a_full_refresh(status: int, phrase: str) -> None:
    refusal = Reply(status, b'{"summary": "unknown cursor"}')

    with scripted_server(refusal) as server, pytest.raises(CursorRefused) as caught:
        read(server.url, request(after="NjA3"))

    message = str(caught.value).replace("Unprocessable Content", "Unprocessable Entity")
    assert message == (
        f"reading stripe:price after cursor 'NjA3' from {server.url}: status {status} ({phrase}), saying "
        '\'{"summary": "unknown cursor"}\': the source will not serve this request: check SEQUIN_API_URL and what is asked for. '
        "The cursor of an earlier run is most likely no longer known there: run again with --full-refresh to read the collection "
        "from its earliest record; rows that are there stay"
    )
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "after"), [(400, None), (404, None), (422, None), (403, "NjA3"), (409, "NjA3")])
def test_refusal_that_is_not_about_the_cursor_offers_no_refresh(status: int, after: str | None) -> None:
    with scripted_server(Reply(status)) as server, pytest.raises(SourceRefused) as caught:
        read(server.url, request(after=after))

    assert "--full-refresh" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        pytest.param(
            Reply(body=b"<html>\n<h1>Bad   gateway</h1>", headers={"Content-Type": "text/html"}),
            "a body that is not JSON: JSON is malformed: invalid character (byte 0); content type 'text/html', "
            "beginning with '<html> <h1>Bad gateway</h1>'",
            id="HTML",
        ),
        pytest.param(
            Reply(headers={}), "a body that is not JSON: Input data was truncated, beginning with ''", id="empty, no type"
        ),
        pytest.param(Reply(204), None, id="no content"),
        pytest.param(
            Reply(body=b'["' + b"x" * 100 + b'"]'),
            "JSON that is not a page: Expected `object`, got `array`; content type 'application/json', "
            "beginning with '[\"" + "x" * 78 + "…'",
            id="array",
        ),
        pytest.param(
            Reply(body=f'{{"error": "{TOKEN}"}}'.encode()),
            "JSON that is not a page: Object missing required field `records`; content type 'application/json', "
            'beginning with \'{"error": "***"}\'',
            id="no records, and the token",
        ),
    ],
)
def test_body_that_is_no_page_is_asked_again_and_then_shown(reply: Reply, found: str | None) -> None:
    time = StandingTime()

    with scripted_server(*[reply] * 3) as server, pytest.raises(SourceFault) as caught:
        read(server.url, time=time, retry=RetryPolicy(budget_seconds=2.0))

    found = found or "a body that is not JSON: Input data was truncated; content type 'application/json', beginning with ''"
    assert str(caught.value) == (
        f"reading stripe:price from the start from {server.url}: gave up after 3 requests in 2 seconds; the last one ended with "
        f"{found}, where a JSON object with `records` and `cursor` was expected (does SEQUIN_API_URL name the records API?). "
        "Run again once the source has recovered"
    )
    assert time.waits == [0.5, 1.0]


def test_address_that_answers_with_something_else_is_given_up_long_before_the_budget() -> None:
    time = StandingTime()
    reply = Reply(body=b"<html>", headers={"Content-Type": "text/html"})

    with (
        scripted_server(*[reply] * 7) as server,
        pytest.raises(SourceFault, match=r"when the request was repeated 6 times$"),
    ):
        read(server.url, time=time)

    assert time.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]


def test_body_that_is_a_page_when_asked_again_is_read() -> None:
    with scripted_server(Reply(body=b"<html>"), page({"id": 1})) as server:
        (only,) = read(server.url)

    assert (only.records, only.cost.requests) == (b'[{"id": 1}]', 2)


def test_records_are_handed_on_byte_for_byte() -> None:
    records = b'[ {"id": "a", "n": 1.0e+2, "n": 90071992547409931,\n "\\u00e9": "\\/"} ]'

    with scripted_server(Reply(body=b'{"cursor": null, "records": ' + records + b"}", headers=JSON_HEADERS)) as server:
        (only,) = read(server.url)

    assert only.records == records


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        pytest.param({}, {"collection_id": "stripe:price"}, id="one collection"),
        pytest.param({"collections": frozenset({"stripe:price", "stripe:plan"})}, {"provider": "stripe"}, id="one provider"),
        pytest.param({"collections": frozenset({"stripe:price", "github:issue"})}, {}, id="several providers"),
        pytest.param({"sync_ids": frozenset({"s1"})}, {"collection_id": "stripe:price", "sync_id": "s1"}, id="one sync"),
        pytest.param({"sync_ids": frozenset({"s1", "s2"})}, {"collection_id": "stripe:price"}, id="several syncs"),
    ],
)
def test_the_narrowest_filter_of_the_api_is_sent(asked: dict[str, Any], query: dict[str, str]) -> None:
    with scripted_server(page()) as server:
        read(server.url, request(**asked))

    assert server.asked[0].query == {**query, "limit": "1000"}


def test_page_size_is_sent_and_fewer_records_are_accepted() -> None:
    with scripted_server(page({"id": 1}, cursor="a"), page()) as server:
        reader = SequinSource(server.url, page_size_records=7, options=StandingTime().options())
        pages = list(reader.pages(request()))

    assert [asked.query["limit"] for asked in server.asked] == ["7", "7"]
    assert len(pages) == 2


def test_a_page_is_requested_only_when_it_is_asked_for() -> None:
    with scripted_server(page({"id": 1}, cursor="a"), page({"id": 2})) as server:
        pages = source(server.url).pages(request())
        asked = [len(server.asked)]
        for _ in pages:
            asked.append(len(server.asked))

    assert asked == [0, 1, 2]


SYNCS = {
    "data": [
        {"id": "s2", "provider": "stripe", "collection_ids": ["stripe:price", "stripe:plan"], "status": "active"},
        {"id": "s/1", "provider": "stripe", "collection_ids": ["stripe:price"]},
        {"id": "s3", "provider": "github", "collection_ids": None},
    ]
}


def _json(value: object) -> Reply:
    return Reply(body=json.dumps(value).encode())


def test_collections_are_those_of_all_syncs() -> None:
    with scripted_server(_json(SYNCS)) as server:
        offered = source(server.url).collection_ids()

    assert offered == frozenset({"stripe:price", "stripe:plan"})
    assert server.asked[0].path == "/v1/syncs"


@pytest.mark.parametrize(
    ("collection_id", "syncs"),
    [("stripe:price", ("s/1", "s2")), ("stripe:plan", ("s2",)), ("github:issue", ("s3",)), ("hubspot:contact", ())],
)
def test_syncs_are_those_that_offer_a_collection_or_do_not_say_so_of_its_provider(
    collection_id: str, syncs: tuple[str, ...]
) -> None:
    with scripted_server(_json(SYNCS)) as server:
        listing = source(server.url).list_syncs(collection_id)

    assert listing is not None
    assert listing.sync_ids == syncs


@pytest.mark.parametrize("status", [404, 501])
def test_server_without_listings_offers_and_describes_nothing_that_it_knows_of(status: int) -> None:
    with scripted_server(Reply(status), Reply(status), Reply(status)) as server:
        reader = source(server.url)

        assert reader.collection_ids() is None
        assert reader.describe("stripe:price") == ()
        assert reader.list_syncs("stripe:price") is None


def test_listing_with_a_refused_token_is_an_error() -> None:
    with scripted_server(Reply(401)) as server, pytest.raises(SourceRefused, match="SEQUIN_API_TOKEN"):
        source(server.url).collection_ids()


def test_listing_that_is_none_is_asked_once_more_and_then_a_fault() -> None:
    with scripted_server(_json({"data": {}}), _json({"data": {}})) as server, pytest.raises(SourceFault) as caught:
        source(server.url).collection_ids()

    assert str(caught.value) == (
        f"reading which collections there are from {server.url}: an answer that is not a listing: 'Expected `array`, got `object` - at "
        "`$.data`', and the same again when the request was repeated once"
    )


def test_listing_is_not_waited_for_as_long_as_a_page() -> None:
    time = StandingTime()

    with scripted_server(*[Reply(503)] * 6) as server, pytest.raises(SourceUnavailable, match="gave up after 5 requests"):
        source(server.url, time=time).collection_ids()

    assert time.waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("name", ["price", "stripe:price"])
def test_collection_is_described_by_the_first_sync_that_knows_its_fields(name: str) -> None:
    fields = [
        {"id": "f1", "name": "Amount", "accessor": "unit_amount", "type": "integer", "primary_key": False},
        {"id": "f2", "name": "currency", "type": None},
        {"id": "f3"},
    ]
    other = {"id": "c0", "name": "plan", "fields": [{"name": "interval"}]}
    described = {"id": "c1", "upstream_id": "x", "name": name, "fields": fields}

    with scripted_server(_json(SYNCS), Reply(404), _json({"data": [other, described]})) as server:
        description = source(server.url).describe("stripe:price")

    assert description == (FieldDescription("unit_amount", "integer"), FieldDescription("currency", ""))
    assert [asked.path for asked in server.asked] == ["/v1/syncs", "/v1/collections/s%2F1", "/v1/collections/s2"]


def test_nothing_is_read_when_no_sync_is_asked_for() -> None:
    with scripted_server() as server:
        pages = list(source(server.url).pages(ReadRequest(frozenset({"stripe:price"}), sync_ids=frozenset())))

    assert (pages, server.asked) == ([], [])
