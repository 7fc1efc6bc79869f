"""`/_sandbox/…` is what a test or a launcher asks of the sandbox itself.

It is not part of the records API, and asks for no password: it is reachable on loopback only.
"""

import os
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.answers import ApiError, error_answer, invalid, json_answer
from sequin_pipeline.sandbox.faults import FaultSchedule
from sequin_pipeline.sandbox.feeds import BadLine, Feed, append_lines
from sequin_pipeline.sandbox.parameters import json_object, strings
from sequin_pipeline.sandbox.queue_routes import News
from sequin_pipeline.sandbox.request_log import RequestLog
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stream import cursor_at


class Controls:
    """The controls look into one sandbox and change it while it runs."""

    def __init__(self, feed: Feed, settings: Settings, *, schedule: FaultSchedule, log: RequestLog, news: News) -> None:
        self._feed = feed
        self._settings = settings
        self._schedule = schedule
        self._log = log
        self._news = news

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/health", self._health),
            Route("/_sandbox/requests", self._requests, methods=["GET", "DELETE"]),
            Route("/_sandbox/faults", _answering(self._faults), methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/records", _answering(self._append), methods=["POST"]),
        ]

    async def _health(self, request: Request) -> Response:
        health = {
            "home": self._settings.home,
            "version": version("sequin-pipeline"),
            "pid": os.getpid(),
            "records": len(self._feed.stream),
            "head": cursor_at(self._feed.stream.head),
        }
        return json_answer(health)

    async def _requests(self, request: Request) -> Response:
        """Lists the requests; DELETE begins to count anew."""
        if request.method == "DELETE":
            self._log.clear()
            return Response(status_code=204)
        return json_answer(self._log.described())

    async def _faults(self, request: Request) -> Response:
        """Replaces the faults by POST `{"faults": ["status:503,at=2"]}`, and they begin to count anew."""
        if request.method == "DELETE":
            self._schedule.replace(())
        elif request.method == "POST":
            try:
                self._schedule.replace(strings(await json_object(request), "faults"))
            except ConfigurationError as error:
                raise invalid("faults", str(error)) from error
        return json_answer({"faults": self._schedule.texts})

    async def _append(self, request: Request) -> Response:
        """Appends the body's lines of JSON, each the newest version of its record."""
        self._feed.catch_up()
        try:
            appended = append_lines(self._feed.stream, (await request.body()).split(b"\n"))
        except BadLine as error:
            raise ApiError(400, f"Nothing was appended: {error}") from error
        self._news.announce()
        return json_answer({"appended": appended, "head": cursor_at(self._feed.stream.head)}, 201)


def _answering(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except ApiError as error:
            return error_answer(error)

    return answered
