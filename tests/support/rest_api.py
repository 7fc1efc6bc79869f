"""A JSON API on loopback that is nobody's in particular: a list of things in several ways of paging, single things, an OAuth token, and
the faults of the sandbox. Things change between two answers where a test wants it."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sequin_pipeline.sandbox.damage import refusal, sent_wrongly, with_wrong_content
from sequin_pipeline.sandbox.faults import CONTENT_FAULTS, WIRE_FAULTS, Fault, FaultSchedule
from sequin_pipeline.sandbox.server import running_app

START = datetime(2026, 1, 1, tzinfo=UTC)

LIST, TOKEN, FIELDS = "/api/things", "/oauth/token", "/api/fields"


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    content: Any = None


@dataclass
class FakeRest:
    """Things by id, in the list by the time of their last change, `order` being 1, -1, or 0 for the order of their ids.

    A list takes `since` (from then on), `until`, `page` from 1, `offset`, `after`, `limit` and `org`. Its answer tells the next page by
    `next` (opaque), `offset`, `page`, and both a header and a member `link`, and besides the `total`. `instead` answers a path otherwise,
    `happens` is called after each answer of the list with their number, `token` is what must be sent. A thing that is bytes is sent as it
    is.
    """

    now: datetime = START
    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    order: int = 1
    page_records: int = 2
    asked: list[Asked] = field(default_factory=list)
    faults: FaultSchedule = field(default_factory=FaultSchedule)
    instead: dict[str, Callable[[Asked], Response]] = field(default_factory=dict)
    happens: Callable[[int], None] = lambda number: None
    headers: dict[str, str] = field(default_factory=dict)
    since_is_exclusive: bool = False
    ignores_page: bool = False
    links_to: str | None = None
    token: str | None = None
    tokens: list[str] = field(default_factory=list)
    expires_in: int | None = 3600
    answers: int = 0
    delay_seconds: float = 0.0
    url: str = ""

    @property
    def base_url(self) -> str:
        return f"{self.url}/api"

    def put(self, name: str, **values: Any) -> None:
        """Creates or changes a thing, now."""
        earlier = self.things.get(name, {"id": name, "created_at": iso(self.now), "gone": False})
        self.things[name] = {**earlier, "updated_at": iso(self.now), **values}

    def fill(self, number: int, *, seconds: float = 1.0) -> None:
        """So many things, each a little later than the one before."""
        for one in range(number):
            self.now += timedelta(seconds=seconds)
            self.put(f"t{one}", status="active", amount=one)

    def lists(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == LIST]

    async def serve(self, request: Request) -> Response:
        body = await request.body()
        is_json = body and "json" in request.headers.get("content-type", "")
        content = json.loads(body) if is_json else dict(parse_qsl(body.decode()))
        asked = Asked(request.method, request.scope["path"], dict(request.query_params), dict(request.headers), content)
        self.asked.append(asked)
        fault = self.faults.strike(asked.path, None)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        response = self._answered(asked, fault)
        if fault and fault.kind in CONTENT_FAULTS:
            response = with_wrong_content(fault, response)
        response.headers["date"] = format_datetime(self.now, usegmt=True)
        response.headers.update(self.headers)
        if asked.path == LIST:
            self.answers += 1
            self.happens(self.answers)
        return sent_wrongly(fault, response) if fault and fault.kind in WIRE_FAULTS else response

    def _answered(self, asked: Asked, fault: Fault | None) -> Response:
        if fault and fault.kind == "status":
            return refusal(fault, self.now)
        if asked.path in self.instead:
            return self.instead[asked.path](asked)
        if asked.path == TOKEN:
            return self._new_token(asked)
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"message": f"not accepted: {asked.headers.get('authorization')}"}, 401)
        if asked.path == FIELDS:
            return JSONResponse({"fields": [{"name": "id"}, {"name": "status"}, {"name": "updated_at"}]})
        if asked.path == LIST:
            return self._page(asked)
        name = asked.path.removeprefix(f"{LIST}/")
        return JSONResponse(
            {**self.things[name], "detailed": True} if name in self.things else {}, 200 if name in self.things else 404
        )

    def _new_token(self, asked: Asked) -> Response:
        if asked.content.get("client_secret") != "client-secret-9X":
            return JSONResponse({"error": f"wrong secret {asked.content.get('client_secret')}"}, 401)
        self.token = f"token-{len(self.tokens)}"
        self.tokens.append(self.token)
        expires = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return JSONResponse({"access_token": self.token, "token_type": "Bearer", **expires})

    def _page(self, asked: Asked) -> Response:
        query = {**asked.query, **(asked.content if isinstance(asked.content, dict) else {})}
        found = [one for one in self._in_order() if self._is_asked(one, query)]
        limit = min(int(query.get("limit", self.page_records)), self.page_records)
        start = int(str(query.get("offset") or query.get("after") or 0).removeprefix("c"))
        if "page" in query and not self.ignores_page:
            start = (int(query["page"]) - 1) * limit
        rows = [self.raw.get(one["id"]) or json.dumps(one).encode() for one in found[start : start + limit]]
        following = start + limit if start + limit < len(found) else None
        link = None if following is None else self._link(asked, following, limit)
        ways: dict[str, Any] = {"next": None, "offset": None, "page": None}
        if following is not None:
            ways = {"next": f"c{following}", "offset": following, "page": following // limit + 1}
        rest = json.dumps({**ways, "total": len(found), "link": link}).encode()
        body = b'{"data": [' + b", ".join(rows) + b'], "paging": ' + rest + b"}"
        headers = {} if link is None else {"link": f'<{link}>; rel="next", <{self.url}{LIST}>; rel="first"'}
        return Response(body, media_type="application/json", headers=headers)

    def _link(self, asked: Asked, following: int, limit: int) -> str:
        if "page" in asked.query or "offset" not in asked.query:
            query = {**asked.query, "page": str(following // limit + 1)}
        else:
            query = {**asked.query, "offset": str(following)}
        return f"{self.links_to or self.url}{LIST}?{urlencode(query)}"

    def _in_order(self) -> list[dict[str, Any]]:
        things = sorted(self.things.values(), key=lambda one: str(one["id"]))
        if self.order:
            things.sort(key=lambda one: datetime.fromisoformat(one["updated_at"]), reverse=self.order < 0)
        return things

    def _is_asked(self, one: Mapping[str, Any], query: Mapping[str, str]) -> bool:
        at = datetime.fromisoformat(one["updated_at"])
        since, until = _time(query.get("since")), _time(query.get("until"))
        is_late = since is None or (at > since if self.since_is_exclusive else at >= since)
        return is_late and (until is None or at < until) and query.get("org") in (None, one.get("org"))


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    return (
        datetime.fromtimestamp(int(text) / (1000 if len(text) > 11 else 1), UTC)
        if text.isdigit()
        else datetime.fromisoformat(text)
    )


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@contextmanager
def fake_rest(**values: Any) -> Iterator[FakeRest]:
    """Serves a fake until the block ends."""
    fake = FakeRest(**values)
    app = Starlette(routes=[Route("/{path:path}", fake.serve, methods=["GET", "POST"])])
    with running_app(app, sends_date=False) as fake.url:
        yield fake
