"""The routes of the sandbox: the records API under `/v1/`, and its own controls under `/_sandbox/`.

Every request of the API is counted, meets the faults that were asked for, and is answered by the module that knows the matter.
"""

import asyncio
import hmac
import json
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.answers import ApiError, compressed, error_answer, invalid, json_answer
from sequin_pipeline.sandbox.consumers import Consumer, Message
from sequin_pipeline.sandbox.damage import refusal, sent_wrongly, with_wrong_content
from sequin_pipeline.sandbox.faults import CONTENT_FAULTS, PAGE_FAULTS, WIRE_FAULTS, Fault, FaultPlan
from sequin_pipeline.sandbox.feeds import BadLine, Feed, append_lines
from sequin_pipeline.sandbox.pages import faulty_page_body, page_body, page_request
from sequin_pipeline.sandbox.records import SyncInfo
from sequin_pipeline.sandbox.settings import NEXT_FORMS, Settings
from sequin_pipeline.sandbox.stream import cursor_at
from sequin_pipeline.sandbox.wire import older_form

LOGGED_REQUESTS = 10_000
"""The request log forgets what is older: a sandbox may run for weeks."""

MAX_BATCH_SIZE = 1000


@dataclass(frozen=True)
class LoggedRequest:
    """What a test may want to count; `status` is None when the connection was reset before an answer."""

    number: int
    at: str
    method: str
    path: str
    query: Mapping[str, str]
    accept_encoding: str
    user_agent: str
    fault: str | None
    status: int | None
    body_bytes: int


class Sandbox:
    """The state of one running sandbox; lives in one event loop and is touched from nowhere else."""

    def __init__(self, feed: Feed, settings: Settings) -> None:
        self._feed = feed
        self._settings = settings
        self._plan = FaultPlan(settings.faults)
        self._consumers: dict[str, Consumer] = {}
        self._log: deque[LoggedRequest] = deque(maxlen=LOGGED_REQUESTS)
        self._requests = 0
        self._stirred = asyncio.Event()

    def application(self) -> Starlette:
        routes = [
            Route("/v1/records", self._api(self._records)),
            Route("/v1/syncs", self._api(self._syncs)),
            Route("/v1/collections/{credential_id}", self._api(self._collections)),
            Route("/v1/http-consumers/{consumer_id}/next", self._api(self._next), methods=["GET", "POST"]),
            Route("/v1/http-consumers/{consumer_id}/ack", self._api(self._ack), methods=["POST"]),
            Route("/v1/http-consumers/{consumer_id}/nack", self._api(self._nack), methods=["POST"]),
            Route("/_sandbox/health", self._health),
            Route("/_sandbox/requests", self._request_log, methods=["GET", "DELETE"]),
            Route("/_sandbox/faults", self._fault_plan, methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/records", self._append, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    def _api(self, answer: Callable[[Request, Fault | None], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def counted(request: Request) -> Response:
            self._requests += 1
            number = self._requests
            query = request.query_params
            fault = None
            try:
                fault = self._plan.strike(request.url.path, query.get("collection_id"), asked=query.getlist("fault"))
                response = await self._answer(request, fault, answer)
            except ApiError as error:
                response = error_answer(error)
            except ConfigurationError as error:
                response = error_answer(ApiError(400, str(error)))
            if fault and fault.kind in CONTENT_FAULTS:
                response = with_wrong_content(fault, response)
            response = compressed(request, response) if fault is None or fault.kind not in CONTENT_FAULTS else response
            self._remember(request, number, fault, response)
            return sent_wrongly(fault, response) if fault and fault.kind in WIRE_FAULTS else response

        return counted

    async def _answer(
        self, request: Request, fault: Fault | None, answer: Callable[[Request, Fault | None], Awaitable[Response]]
    ) -> Response:
        if fault and fault.kind == "status":
            return refusal(fault, datetime.now(UTC))
        self._check_token(request)
        self._feed.catch_up()
        return await answer(request, fault)

    def _check_token(self, request: Request) -> None:
        token = self._settings.token
        sent = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            raise ApiError(401, "The API key is missing or wrong")

    def _remember(self, request: Request, number: int, fault: Fault | None, response: Response) -> None:
        entry = LoggedRequest(
            number=number,
            at=datetime.now(UTC).isoformat(),
            method=request.method,
            path=request.url.path,
            query=dict(request.query_params),
            accept_encoding=request.headers.get("accept-encoding", ""),
            user_agent=request.headers.get("user-agent", ""),
            fault=fault.text if fault else None,
            status=None if fault and fault.kind == "reset-before" else response.status_code,
            body_bytes=len(response.body),
        )
        self._log.append(entry)

    async def _records(self, request: Request, fault: Fault | None) -> Response:
        stream = self._feed.stream
        page = page_request(request.query_params, stream, self._settings)
        if self._settings.delay_ms:
            await asyncio.sleep(self._settings.delay_ms / 1000)
        if fault and fault.kind in PAGE_FAULTS:
            return Response(faulty_page_body(fault.kind, page, stream, mark=self._requests), media_type="application/json")
        return Response(page_body(page, stream), media_type="application/json")

    async def _syncs(self, request: Request, fault: Fault | None) -> Response:
        return json_answer({"data": [_described(sync) for sync in self._feed.syncs()]})

    async def _collections(self, request: Request, fault: Fault | None) -> Response:
        credential_id = request.path_params["credential_id"]
        for sync in self._feed.syncs():
            if sync.id == credential_id:
                return json_answer({"data": [self._collection(collection_id) for collection_id in sync.collection_ids]})
        raise ApiError(404, "There is no such credential")

    def _collection(self, collection_id: str) -> Mapping[str, object]:
        name = collection_id.partition(":")[2]
        return {"id": collection_id, "upstream_id": name, "name": name, "fields": self._feed.fields(collection_id)}

    async def _next(self, request: Request, fault: Fault | None) -> Response:
        asked = dict(request.query_params) | await _json_object(request)
        batch_size = _whole_number(asked, "batch_size", default=1, lowest=1, highest=MAX_BATCH_SIZE)
        wait_until = time.monotonic() + _whole_number(asked, "wait_for", default=0, lowest=0, highest=600_000) / 1000
        consumer = self._consumer(request.path_params["consumer_id"])
        messages = consumer.next_messages(batch_size)
        while not messages and (left := wait_until - time.monotonic()) > 0:
            await self._wait_for_news(consumer, left)
            self._feed.catch_up()
            messages = consumer.next_messages(batch_size)
        form = asked.get("next_form", self._settings.next_form)
        if form not in NEXT_FORMS:
            raise invalid("next_form", f"must be one of {', '.join(NEXT_FORMS)}")
        return Response(_messages_body(messages, consumer, form=form, is_old=self._is_old(asked)), media_type="application/json")

    def _is_old(self, asked: Mapping[str, object]) -> bool:
        return asked.get("form", self._settings.form) == "old"

    def _consumer(self, consumer_id: str) -> Consumer:
        """A consumer comes into being when it first asks for messages."""
        if consumer_id not in self._consumers:
            self._consumers[consumer_id] = Consumer(
                self._feed.stream,
                ack_wait_seconds=self._settings.ack_wait_ms / 1000,
                max_ack_pending=self._settings.max_ack_pending,
                clock=time.monotonic,
            )
        return self._consumers[consumer_id]

    async def _wait_for_news(self, consumer: Consumer, at_most_seconds: float) -> None:
        seconds = (at_most_seconds, consumer.seconds_to_redelivery(), self._feed.seconds_to_next_change())
        try:
            await asyncio.wait_for(self._stirred.wait(), min(number for number in seconds if number is not None))
        except TimeoutError:
            return

    def _stir(self) -> None:
        """Wakes every long poll."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def _ack(self, request: Request, fault: Fault | None) -> Response:
        consumer, tokens = await self._acknowledged(request)
        consumer.ack(tokens)
        self._stir()
        return Response(status_code=204)

    async def _nack(self, request: Request, fault: Fault | None) -> Response:
        consumer, tokens = await self._acknowledged(request)
        consumer.nack(tokens)
        self._stir()
        return Response(status_code=204)

    async def _acknowledged(self, request: Request) -> tuple[Consumer, list[str]]:
        consumer = self._consumers.get(request.path_params["consumer_id"])
        if consumer is None:
            raise ApiError(404, "There is no such consumer")
        tokens = (await _json_object(request)).get("ack_tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise invalid("ack_tokens", "must be a list of strings")
        return consumer, tokens

    async def _health(self, request: Request) -> Response:
        health = {
            "home": self._settings.home,
            "version": version("sequin-pipeline"),
            "pid": os.getpid(),
            "records": len(self._feed.stream),
            "head": cursor_at(self._feed.stream.head),
        }
        return json_answer(health)

    async def _request_log(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._log.clear()
            self._requests = 0
            return Response(status_code=204)
        return json_answer({"count": self._requests, "requests": [asdict(entry) for entry in self._log]})

    async def _fault_plan(self, request: Request) -> Response:
        """Faults begin to count anew when they are set."""
        if request.method == "DELETE":
            self._plan = FaultPlan()
        elif request.method == "POST":
            try:
                faults = (await _json_object(request)).get("faults")
                if not isinstance(faults, list) or not all(isinstance(text, str) for text in faults):
                    raise invalid("faults", "must be a list of strings")
                self._plan = FaultPlan(faults)
            except ConfigurationError as error:
                return error_answer(invalid("faults", str(error)))
            except ApiError as error:
                return error_answer(error)
        return json_answer({"faults": self._plan.texts})

    async def _append(self, request: Request) -> Response:
        self._feed.catch_up()
        try:
            appended = append_lines(self._feed.stream, (await request.body()).split(b"\n"))
        except BadLine as error:
            return error_answer(ApiError(400, f"Nothing was appended: {error}"))
        self._stir()
        return json_answer({"appended": appended, "head": cursor_at(self._feed.stream.head)}, 201)


async def _http_error(request: Request, error: Exception) -> Response:
    """Paths and methods that do not exist."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    return error_answer(ApiError(error.status_code, error.detail))


async def _json_object(request: Request) -> dict[str, object]:
    """The body of a request; an empty one is an empty object."""
    text = await request.body()
    try:
        content = json.loads(text) if text else {}
    except ValueError as error:
        raise ApiError(400, "The body is not JSON") from error
    if not isinstance(content, dict):
        raise ApiError(400, "The body is not a JSON object")
    return content


def _whole_number(asked: Mapping[str, object], name: str, *, default: int, lowest: int, highest: int) -> int:
    text = str(asked.get(name, default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and lowest <= int(text) <= highest):
        raise invalid(name, f"must be a whole number from {lowest} to {highest}")
    return int(text)


def _messages_body(messages: list[Message], consumer: Consumer, *, form: object, is_old: bool) -> bytes:
    items = b",".join(
        b'{"ack_token":'
        + msgspec.json.encode(message.ack_token)
        + b',"record":'
        + (older_form(message.entry.body) if is_old else message.entry.body)
        + b"}"
        for message in messages
    )
    if form == "array":
        return b"[" + items + b"]"
    counts = {"num_pending": consumer.num_pending, "num_ack_pending": consumer.num_ack_pending}
    return b'{"data":[' + items + b'],"info":' + msgspec.json.encode(counts) + b"}"


def _described(sync: SyncInfo) -> Mapping[str, object]:
    """Times of this endpoint have no zone and mean UTC."""
    at = sync.initial_backfill_completed_at
    completed_at = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else None
    return asdict(sync) | {"initial_backfill_completed_at": completed_at}
