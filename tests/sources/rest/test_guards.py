"""What a REST API answers wrongly ends in words, before a row is touched, and nothing secret is in the words."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import ConfigurationError, SourceBusy, SourceError, SourceFault, SourceRefused
from sequin_pipeline.reads import RateLimit, RestApi, Since, Variable
from sequin_pipeline.sources.registry import open_source
from tests.sources.rest.reading import CURSOR, LIST, PAGE_NUMBER, PAGINATORS, TOKEN, Runs, bearer
from tests.support.rest_api import LIST as LIST_PATH
from tests.support.rest_api import TOKEN as TOKEN_PATH
from tests.support.rest_api import Asked, FakeRest, fake_rest

ABOUT = r"reading thing \(GET things\)"

NO_LISTS: dict[str, Callable[[Asked], Response]] = {
    "a message": lambda asked: JSONResponse({"message": "maintenance"}),
    "null": lambda asked: JSONResponse({"data": None, "paging": {}}),
    "an object": lambda asked: JSONResponse({"data": {"items": []}}),
    "text": lambda asked: JSONResponse({"data": "[]"}),
    "an array elsewhere": lambda asked: JSONResponse([]),
    "HTML": lambda asked: Response("<!doctype html><p>down", media_type="text/html"),
    "nothing": lambda asked: Response(b""),
    "half of it": lambda asked: Response(b'{"data": [{"id": "t0"', media_type="application/json"),
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in NO_LISTS.items()])
@pytest.mark.parametrize("page", [1, 2], ids=["first page", "second page"])
def test_answer_without_the_list_is_a_fault_and_marks_nothing(
    warehouse_url: str, answer: Callable[[Asked], Response], page: int
) -> None:
    with fake_rest() as fake:
        fake.fill(5)
        runs = Runs(fake, warehouse_url, replace(LIST, params={}, is_ascending=False, paginator=CURSOR))
        runs.sync()
        fake.now += timedelta(days=1)

        def after_that(number: int) -> None:
            # The news come in three pages before.
            if number == 3 + 3 + page - 1:
                fake.instead[LIST_PATH] = answer

        fake.happens = after_that
        with pytest.raises(SourceFault, match=r"an answer that has no array at 'data', beginning with") as caught:
            runs.sync()

        assert str(caught.value).startswith(f"reading thing (GET things) from {fake.base_url}: ")
        assert runs.deleted() == set()
        assert runs.live() == fake.things


@pytest.mark.parametrize(
    ("paginator", "elsewhere"),
    [
        pytest.param(PAGINATORS["header_link"], "http://127.0.0.1:9", id="another port, in a header"),
        pytest.param(PAGINATORS["json_link"], "http://127.0.0.1:9", id="another port, in the answer"),
        pytest.param(PAGINATORS["json_link"], "https://127.0.0.1", id="another scheme"),
        pytest.param(PAGINATORS["json_link"], "http://localhost", id="another host"),
        pytest.param(PAGINATORS["json_link"], "http://127.0.0.1:1@127.0.0.1", id="credentials in front of a host"),
        pytest.param(PAGINATORS["json_link"], "file://", id="no host"),
    ],
)
def test_next_page_elsewhere_is_refused_before_anything_is_sent_there(paginator: dict[str, Any], elsewhere: str) -> None:
    with fake_rest(token=TOKEN) as fake:
        fake.fill(5)
        fake.links_to = elsewhere
        with pytest.raises(
            SourceFault, match=r"which is not the declared address and would get the key: nothing was sent there"
        ) as caught:
            Runs(fake, read=replace(LIST, params={}, paginator=paginator), auth=bearer()).pages()

        assert len(fake.asked) == 1
        assert TOKEN not in str(caught.value)


def test_key_does_not_reach_another_server_of_this_machine() -> None:
    with fake_rest(token=TOKEN) as fake, fake_rest() as other:
        fake.fill(5)
        fake.links_to = other.url
        with pytest.raises(SourceFault):
            Runs(fake, read=replace(LIST, paginator=PAGINATORS["header_link"], is_ascending=False), auth=bearer()).pages()

        assert other.asked == []


def test_redirect_is_not_followed_with_the_key() -> None:
    with fake_rest(token=TOKEN) as fake, fake_rest() as other:
        fake.instead[LIST_PATH] = lambda asked: Response(status_code=302, headers={"location": f"{other.url}{LIST_PATH}"})
        with pytest.raises(SourceRefused, match=r"a redirect to 'http://127.0.0.1', which is not followed"):
            Runs(fake, auth=bearer()).pages()

        assert other.asked == []


@pytest.mark.parametrize(
    ("paginator", "said"),
    [
        pytest.param(PAGE_NUMBER, "page 2 of the list holds the same as one before it", id="page that is ignored"),
        pytest.param(
            {"type": "cursor", "cursor_path": "paging.next", "cursor_param": "wrong"},
            "page 2 of the list holds the same as one before it",
            id="cursor in a wrong name",
        ),
        pytest.param(
            {"type": "json_link", "next_url_path": "self"},
            "page 2 of the list holds the same as one before it",
            id="link to itself",
        ),
    ],
)
def test_paging_that_does_not_advance_ends_in_words(paginator: dict[str, Any], said: str) -> None:
    with fake_rest(ignores_page=True) as fake:
        fake.fill(5)
        if "next_url_path" in paginator:
            body = {"data": list(fake.things.values())[:2], "self": f"{LIST_PATH}?since=1970-01-01T00%3A00%3A00Z"}
            fake.instead[LIST_PATH] = lambda asked: JSONResponse(body)
        with pytest.raises(SourceFault, match=rf"{ABOUT}: the paging does not advance: .*{said}.* Check `paginator`"):
            Runs(fake, read=replace(LIST, paginator=paginator, is_ascending=False)).pages()

        assert len(fake.asked) <= 3


@pytest.mark.parametrize(
    "around",
    [
        pytest.param(lambda number: {"request_id": f"r{number}"}, id="a name of the request"),
        pytest.param(lambda number: {"page": number}, id="the page that was asked for"),
        pytest.param(lambda number: {"took_ms": 10 + number}, id="a duration"),
    ],
)
@pytest.mark.parametrize("select", [("data",), ()], ids=["around the list", "in the objects"])
def test_same_page_again_and_again_ends_in_words_whatever_else_differs(
    around: Callable[[int], dict[str, Any]], select: tuple[str, ...]
) -> None:
    with fake_rest() as fake:
        fake.fill(2)

        def answer(asked: Asked) -> Response:
            things = [] if len(fake.asked) > 20 else list(fake.things.values())
            told = around(len(fake.asked))
            return JSONResponse({"data": things, **told} if select else [{**thing, **told} for thing in things])

        fake.instead[LIST_PATH] = answer
        with pytest.raises(SourceFault, match=r"page 2 of the list holds the same as one before it"):
            Runs(fake, read=replace(LIST, is_ascending=False, select=select)).pages()


@pytest.mark.parametrize(
    ("order", "word"),
    [
        pytest.param(0, "ascending", id="unordered, declared ascending"),
        pytest.param(-1, "ascending", id="descending, declared ascending"),
        pytest.param(1, "descending", id="ascending, declared descending"),
    ],
)
def test_list_that_is_not_in_the_declared_order_is_refused_with_what_to_remove(warehouse_url: str, order: int, word: str) -> None:
    with fake_rest(order=order) as fake:
        fake.fill(5)
        fake.put("t0", status="late")
        read = replace(LIST, is_ascending=word == "ascending", is_descending=word == "descending")
        runs = Runs(fake, warehouse_url, read)
        with pytest.raises(SourceFault) as caught:
            runs.sync()
        runs.read = replace(LIST, is_ascending=False)
        runs.sync()

        assert str(caught.value) == (
            f"reading thing (GET things): the list does not come in the {word} order of 'updated_at', so that changes would be missed: "
            f"remove `{word}: true`, or have the API sort the list by `params`"
        )
        assert runs.live() == fake.things


def test_more_objects_of_one_time_than_a_list_gives_end_in_words_and_others_are_read() -> None:
    with fake_rest() as fake:
        fake.fill(9)
        read = replace(LIST, restart_after=4, paginator=CURSOR)
        whole = Runs(fake, read=read).pages()
        fake.fill(9, seconds=0)
        with pytest.raises(SourceFault, match=r"4 objects share one time of their last change, .* `restart_after: 4`"):
            Runs(fake, read=read).pages()

        assert {record["upstream_id"] for page in whole for record in json.loads(page.records)} == {f"t{one}" for one in range(9)}
        assert max(int(asked.query.get("after", "c0")[1:]) for asked in fake.lists()) == 2


@pytest.mark.parametrize(
    ("headers", "limit", "waits"),
    [
        pytest.param({"x-left": "0", "x-reset": "5"}, RateLimit("x-left", "x-reset", "seconds"), [6.0], id="seconds"),
        pytest.param(
            {"x-left": "0", "x-reset": "1500"}, RateLimit("x-left", "x-reset", "milliseconds"), [2.5], id="milliseconds"
        ),
        pytest.param({"x-left": "0", "x-reset": "1767225616"}, RateLimit("x-left", "x-reset"), [7.0], id="a time"),
        pytest.param({"x-left": "1", "x-reset": "5"}, RateLimit("x-left", "x-reset", "seconds"), [], id="one is left"),
        pytest.param({"x-left": "many", "x-reset": "soon"}, RateLimit("x-left", "x-reset", "seconds"), [], id="no numbers"),
        pytest.param({}, RateLimit("x-left", "x-reset", "seconds"), [], id="no headers"),
    ],
)
def test_limit_is_obeyed_before_a_refusal_where_headers_tell_of_it(
    headers: dict[str, str], limit: RateLimit, waits: list[float]
) -> None:
    with fake_rest() as fake:
        fake.fill(10)
        fake.page_records = 8
        fake.headers = headers
        runs = Runs(fake, read=replace(LIST, paginator=CURSOR, is_ascending=False), api={"rate_limit": limit})
        runs.options = lambda: replace(Runs.options(runs), retry=replace(Runs.options(runs).retry, budget_seconds=600.0))  # type: ignore[method-assign]
        pages = runs.pages()

        assert runs.waits == waits
        assert sum(page.cost.rate_limit_seconds for page in pages) == sum(waits)
        assert len(fake.asked) == 2


def test_limit_that_lasts_longer_than_anybody_waits_says_when_to_come_back() -> None:
    with fake_rest() as fake:
        fake.fill(5)
        fake.headers = {"x-left": "0", "x-reset": "3600"}
        runs = Runs(fake, read=replace(LIST, paginator=CURSOR), api={"rate_limit": RateLimit("x-left", "x-reset", "seconds")})
        with pytest.raises(SourceBusy, match=r"takes no more requests for now\. .* come back at 2026-01-01 01:00:06 UTC"):
            runs.pages()

        assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("headers", "waits"),
    [({"retry-after": "1"}, 1.0), ({"x-left": "0", "x-reset": "0"}, 1.0)],
    ids=["Retry-After", "none left"],
)
def test_forbidden_for_haste_is_waited_for(headers: dict[str, str], waits: float) -> None:
    with fake_rest() as fake:
        fake.fill(1)

        def refuse(asked: Asked) -> Response:
            del fake.instead[LIST_PATH]
            return JSONResponse({"message": "secondary rate limit"}, 403, headers)

        fake.instead[LIST_PATH] = refuse
        runs = Runs(fake, read=replace(LIST, paginator=CURSOR), api={"rate_limit": RateLimit("x-left", "x-reset", "seconds")})
        pages = runs.pages()

        assert sum(len(json.loads(page.records)) for page in pages) == 1
        assert sum(runs.waits) >= waits


def test_forbidden_for_other_reasons_is_refused_at_once() -> None:
    with fake_rest() as fake:
        fake.instead[LIST_PATH] = lambda asked: JSONResponse({"message": "no right"}, 403, {"x-left": "7"})
        with pytest.raises(SourceRefused, match="set API_TOKEN to a token that may read there"):
            Runs(fake, auth=bearer(), api={"rate_limit": RateLimit("x-left")}).pages()

        assert len(fake.asked) == 1


@pytest.mark.parametrize(("used", "ends"), [("94/100", False), ("95/100", True), ("4751/5000", True)])
def test_share_of_the_daily_requests_is_left_to_others(used: str, *, ends: bool) -> None:
    with fake_rest() as fake:
        fake.fill(3)
        fake.headers = {"sforce-limit-info": f"api-usage={used}"}
        runs = Runs(fake, read=replace(LIST, paginator=CURSOR), api={"rate_limit": RateLimit(usage="Sforce-Limit-Info")})
        if ends:
            with pytest.raises(SourceBusy, match=r"of its .* requests are used \(95%\), .* `usage_limit: 0.95`"):
                runs.pages()
        else:
            runs.pages()

        assert len(fake.asked) == (1 if ends else 2)


def client_credentials(fake: FakeRest, **overrides: Any) -> dict[str, Any]:
    settings = {"type": "oauth2_client_credentials", "access_token_url": f"{fake.url}{TOKEN_PATH}"}
    return {**settings, "client_id": "id-5", "client_secret": Variable("CLIENT_SECRET"), **overrides}


def test_access_token_is_asked_for_once_and_anew_when_it_expires_or_is_refused() -> None:
    with fake_rest(token="", page_records=1, expires_in=31) as fake:
        fake.fill(4)
        fake.token = "nobody has it"

        def revoke(number: int) -> None:
            if number == 2:
                fake.token = "revoked"
            if number == 4:
                fake.now += timedelta(seconds=1.5)

        fake.happens = revoke
        Runs(fake, read=replace(LIST, paginator=CURSOR, is_ascending=False), auth=client_credentials(fake)).pages()

        assert len(fake.tokens) == 3
        asked = [one for one in fake.asked if one.path == TOKEN_PATH]
        assert asked[0].content == {"client_id": "id-5", "client_secret": "client-secret-9X", "grant_type": "client_credentials"}
        assert all("authorization" not in one.headers for one in asked)


def test_token_that_is_refused_also_when_new_ends_in_words() -> None:
    with fake_rest() as fake:
        fake.fill(1)
        fake.instead[LIST_PATH] = lambda asked: JSONResponse({"message": asked.headers.get("authorization")}, 401)
        with pytest.raises(SourceRefused, match=r"set CLIENT_SECRET to a token that may read there") as caught:
            Runs(fake, auth=client_credentials(fake)).pages()

        assert len(fake.tokens) == 2
        assert not any(secret in str(caught.value) for secret in ("client-secret-9X", *fake.tokens))


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param({"type": "bearer", "token": Variable("API_TOKEN")}, id="bearer"),
        pytest.param({"type": "api_key", "name": "x-key", "api_key": Variable("API_TOKEN"), "location": "header"}, id="a header"),
        pytest.param({"type": "api_key", "name": "key", "api_key": Variable("API_TOKEN"), "location": "query"}, id="a parameter"),
        pytest.param({"type": "http_basic", "username": "u", "password": Variable("API_TOKEN")}, id="basic"),
    ],
)
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_secret_that_a_server_repeats_is_in_no_output(
    auth: dict[str, Any], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_rest() as fake:
        fake.fill(1)

        def repeat(asked: Asked) -> Response:
            return JSONResponse(
                {"headers": asked.headers.get("authorization"), "key": asked.headers.get("x-key"), "query": asked.query}, status
            )

        fake.instead[LIST_PATH] = repeat
        with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
            Runs(fake, auth=auth).pages()

        shown = fake.asked[0].headers.get("authorization", TOKEN).partition(" ")[2] or TOKEN
        told = f"{caught.value} {caught.value.__cause__} {caplog.text}"
        assert TOKEN not in told
        assert shown not in told
        assert TOKEN in f"{fake.asked[0].headers} {fake.asked[0].query}" or auth["type"] == "http_basic"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"paginator": {"type": "cursor", "wrong": 1}}, r"paginator 'cursor' cannot be made of the settings wrong"),
        ({"paginator": {"type": "none"}}, r"paginator type 'none' is not known: expected single_page, header_link, json_link"),
        ({"paginator": {"type": "json_link", "next_url_path": "[["}}, r"paginator 'json_link'"),
        ({"path": "things/{nobody}"}, r"\{nobody\} stands for nothing"),
        ({"since": Since(first="yesterday")}, r"since.first is 'yesterday', where a time as 1970-01-01T00:00:00Z was expected"),
        ({"each": {"org": (Variable("NONE"),)}, "params": {"org": "{org}"}}, r"`each` has no values for 'org'"),
    ],
)
def test_declaration_that_cannot_be_used_is_refused_before_anything_is_sent(settings: dict[str, Any], said: str) -> None:
    with fake_rest() as fake:
        with pytest.raises(ConfigurationError, match=said):
            Runs(fake, read=replace(LIST, **settings)).pages()

        assert fake.asked == []


@pytest.mark.parametrize("token", ["", "two\nlines", " spaced"])
def test_secret_that_cannot_be_sent_is_refused_without_being_shown(token: str) -> None:
    with fake_rest() as fake:
        with pytest.raises(ConfigurationError, match=r"auth 'token' \(`auth`\) cannot be sent") as caught:
            Runs(fake, auth={"type": "bearer", "token": token}).pages()

        assert "two" not in str(caught.value)
        assert "spaced" not in str(caught.value)


def test_what_an_order_told_that_is_no_longer_declared_does_not_count(warehouse_url: str) -> None:
    """A list can look ordered for some pages: what was known then is forgotten with the declaration."""
    with fake_rest(order=0) as fake:
        fake.fill(6)
        fake.put("t1", status="late")
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=CURSOR))
        with pytest.raises(SourceFault, match="remove `ascending: true`"):
            runs.sync()
        landed = len(runs.live())
        runs.sync(is_ascending=False)

        assert landed == 2
        assert runs.live() == fake.things


def no_content(asked: Asked) -> Response:
    return Response(status_code=204)


@pytest.mark.parametrize("paginator", PAGINATORS.values(), ids=PAGINATORS)
def test_status_204_in_the_place_of_a_list_is_an_empty_list(warehouse_url: str, paginator: dict[str, Any]) -> None:
    with fake_rest() as fake:
        fake.instead[LIST_PATH] = no_content
        runs = Runs(fake, warehouse_url, replace(LIST, version=None, is_ascending=False, params={}, paginator=paginator))

        outcome = runs.sync()

    assert (outcome.counts.fetched, len(fake.lists())) == (0, 1)


def test_status_204_in_the_middle_of_a_list_is_a_fault_and_marks_nothing(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(5)
        runs = Runs(fake, warehouse_url, replace(LIST, version=None, is_ascending=False, params={}, paginator=CURSOR))
        runs.sync()
        fake.happens = lambda number: fake.instead.update({LIST_PATH: no_content}) if number == 4 else None

        with pytest.raises(SourceFault, match=ABOUT):
            runs.sync()

    assert (runs.deleted(), len(runs.live())) == (set(), 5)


def test_source_says_which_variables_the_environment_lacks() -> None:
    api = RestApi("http://127.0.0.1:9", {"thing": replace(LIST, each={"org": (Variable("ORGS"),)})}, auth=bearer())

    with pytest.raises(ConfigurationError, match=r"source 'rest' needs API_TOKEN and ORGS, which the environment does not have"):
        open_source(SourceDeclaration("rest", rest=api), {})

    assert (
        str(open_source(SourceDeclaration("rest", rest=api), {"API_TOKEN": "x", "ORGS": "a"}).identity)
        == "rest http://127.0.0.1:9"
    )
