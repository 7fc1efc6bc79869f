"""This app serves the records API under `/v1/`, and the queue of a self-hosted Sequin under `/api/`.

Every request is counted, meets the faults that were asked for, and is answered. What a fault does is in damage.py and pages.py, what a
page is in pages.py, the queues are in queue_routes.py, the sandbox's own controls in controls.py.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.answers import ApiError, compressed, error_answer, json_answer
from sequin_pipeline.sandbox.controls import Controls
from sequin_pipeline.sandbox.damage import refusal, sent_wrongly, with_wrong_content
from sequin_pipeline.sandbox.faults import CONTENT_FAULTS, PAGE_FAULTS, WIRE_FAULTS, Fault, FaultSchedule
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.pages import faulty_page_body, page_body, page_request
from sequin_pipeline.sandbox.queue_routes import News, QueueRoutes
from sequin_pipeline.sandbox.records import SyncInfo
from sequin_pipeline.sandbox.request_log import RequestLog
from sequin_pipeline.sandbox.settings import Settings

_Answer = Callable[[Request], Awaitable[Response]]


def build_app(feed: Feed, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> Starlette:
    """Builds one sandbox; its state lives in one event loop and is touched from nowhere else.

    By `clock` deliveries of a queue expire. Raises ConfigurationError for a fault that is not understood.
    """
    schedule, log, news = FaultSchedule(settings.faults), RequestLog(), News()
    api = _Api(feed, settings, schedule=schedule, log=log)
    queue = QueueRoutes(feed, settings, news, clock=clock)
    routes = [
        Route("/v1/records", api.served(api.records)),
        Route("/v1/syncs", api.served(api.syncs)),
        Route("/v1/collections/{credential_id}", api.served(api.collections)),
        Route("/v1/http-consumers/{consumer_id}/next", api.served(queue.next), methods=["GET", "POST"]),
        Route("/v1/http-consumers/{consumer_id}/ack", api.served(queue.ack), methods=["POST"]),
        Route("/v1/http-consumers/{consumer_id}/nack", api.served(queue.nack), methods=["POST"]),
        *(
            Route(f"/api/{name}/{{consumer_id}}/{verb}", api.served(answer), methods=methods)
            for name in ("http_pull_consumers", "sequin_streams")
            for verb, answer, methods in (
                ("receive", queue.receive, ["GET", "POST"]),
                ("ack", queue.ack_received, ["POST"]),
                ("nack", queue.nack_received, ["POST"]),
            )
        ),
        *Controls(feed, settings, schedule=schedule, log=log, news=news).routes(),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


class _Api:
    """This class holds what every request of the API goes through, and the endpoints that read."""

    def __init__(self, feed: Feed, settings: Settings, *, schedule: FaultSchedule, log: RequestLog) -> None:
        self._feed = feed
        self._settings = settings
        self._schedule = schedule
        self._log = log

    def served(self, answer: _Answer) -> _Answer:
        """Returns the endpoint, counted, checked, and with the fault that its number calls for."""

        async def serve(request: Request) -> Response:
            number = request.state.number = self._log.arrived()
            fault: Fault | None = None
            try:
                fault = request.state.fault = self._fault(request)
                response = await self._answered(request, fault, answer)
            except ApiError as error:
                response = error_answer(error)
            response = _encoded(request, fault, response)
            self._log.answered(request, number, fault=fault, status=response.status_code, body_bytes=len(response.body))
            return sent_wrongly(fault, response) if fault and fault.kind in WIRE_FAULTS else response

        return serve

    def _fault(self, request: Request) -> Fault | None:
        query = request.query_params
        try:
            return self._schedule.strike(request.url.path, query.get("collection_id"), asked=query.getlist("fault"))
        except ConfigurationError as error:
            raise ApiError(400, str(error)) from error

    async def _answered(self, request: Request, fault: Fault | None, answer: _Answer) -> Response:
        if fault and fault.kind == "status":
            return refusal(fault, datetime.now(UTC))
        token = self._settings.token
        sent = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            raise ApiError(401, "The API key is missing or wrong")
        self._feed.catch_up()
        return await answer(request)

    async def records(self, request: Request) -> Response:
        fault: Fault | None = request.state.fault
        page = page_request(request.query_params, self._feed.stream, self._settings)
        if self._settings.delay_ms:
            await asyncio.sleep(self._settings.delay_ms / 1000)
        if fault and fault.kind in PAGE_FAULTS:
            body = faulty_page_body(fault.kind, page, self._feed.stream, mark=request.state.number)
        else:
            body = page_body(page, self._feed.stream)
        return Response(body, media_type="application/json")

    async def syncs(self, request: Request) -> Response:
        return json_answer({"data": [_described(sync) for sync in self._feed.syncs()]})

    async def collections(self, request: Request) -> Response:
        """Describes the collections of a credential, which is what one sync connects with: it goes by the sync's id here."""
        credential_id = request.path_params["credential_id"]
        for sync in self._feed.syncs():
            if sync.id == credential_id:
                return json_answer({"data": [self._collection(collection_id) for collection_id in sync.collection_ids]})
        raise ApiError(404, "There is no such credential")

    def _collection(self, collection_id: str) -> Mapping[str, object]:
        name = collection_id.partition(":")[2]
        return {"id": collection_id, "upstream_id": name, "name": name, "fields": self._feed.fields(collection_id)}


def _encoded(request: Request, fault: Fault | None, response: Response) -> Response:
    """Encodes the response, unless its content is wrong: compressing that would hide the fault behind another layer."""
    if fault and fault.kind in CONTENT_FAULTS:
        return with_wrong_content(fault, response)
    return compressed(request, response)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answers for paths and methods that do not exist."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    return error_answer(ApiError(error.status_code, error.detail))


def _described(sync: SyncInfo) -> Mapping[str, object]:
    """Describes a sync; times of this endpoint have no zone and mean UTC."""
    at = sync.initial_backfill_completed_at
    completed_at = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else None
    return asdict(sync) | {"initial_backfill_completed_at": completed_at}
