"""`/v1/http-consumers/{id}/…`: next, ack and nack, and the waiting of long polls."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sequin_pipeline.sandbox.answers import ApiError
from sequin_pipeline.sandbox.consumers import Consumer, Message
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.parameters import choice, json_object, strings, whole_number
from sequin_pipeline.sandbox.settings import NEXT_FORMS, RECORD_FORMS, Settings
from sequin_pipeline.sandbox.wire import older_form

MAX_BATCH_SIZE = 1000
MAX_WAIT_MS = 600_000
"""The contract names no limit; nobody's test waits longer than ten minutes."""


class News:
    """Wakes those who wait for messages."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, at_most_seconds: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), at_most_seconds)
        except TimeoutError:
            return


class QueueRoutes:
    """The consumers of one sandbox; a consumer comes into being when it first asks for messages."""

    def __init__(self, feed: Feed, settings: Settings, news: News) -> None:
        self._feed = feed
        self._settings = settings
        self._news = news
        self._consumers: dict[str, Consumer] = {}

    async def next(self, request: Request) -> Response:
        asked: dict[str, object] = {**request.query_params, **await json_object(request)}
        batch_size = whole_number(asked, "batch_size", default=1, lowest=1, highest=MAX_BATCH_SIZE)
        wait_ms = whole_number(asked, "wait_for", default=0, lowest=0, highest=MAX_WAIT_MS)
        form = choice(asked, "next_form", choices=NEXT_FORMS, default=self._settings.next_form)
        record_form = choice(asked, "form", choices=RECORD_FORMS, default=self._settings.form)
        consumer = self._consumer(request.path_params["consumer_id"])
        messages = await self._messages(consumer, batch_size, wait_until=time.monotonic() + wait_ms / 1000)
        items = b",".join(_message_text(message, is_old=record_form == "old") for message in messages)
        if form == "array":
            return Response(b"[" + items + b"]", media_type="application/json")
        counts = {"num_pending": consumer.num_pending, "num_ack_pending": consumer.num_ack_pending}
        body = b'{"data":[' + items + b'],"info":' + msgspec.json.encode(counts) + b"}"
        return Response(body, media_type="application/json")

    async def ack(self, request: Request) -> Response:
        consumer = self._known_consumer(request)
        consumer.ack(strings(await json_object(request), "ack_tokens"))
        self._news.announce()
        return Response(status_code=204)

    async def nack(self, request: Request) -> Response:
        consumer = self._known_consumer(request)
        consumer.nack(strings(await json_object(request), "ack_tokens"))
        self._news.announce()
        return Response(status_code=204)

    def _consumer(self, consumer_id: str) -> Consumer:
        if consumer_id not in self._consumers:
            self._consumers[consumer_id] = Consumer(
                self._feed.stream,
                ack_wait_seconds=self._settings.ack_wait_ms / 1000,
                max_ack_pending=self._settings.max_ack_pending,
                clock=time.monotonic,
            )
        return self._consumers[consumer_id]

    def _known_consumer(self, request: Request) -> Consumer:
        consumer = self._consumers.get(request.path_params["consumer_id"])
        if consumer is None:
            raise ApiError(404, "There is no such consumer")
        return consumer

    async def _messages(self, consumer: Consumer, batch_size: int, *, wait_until: float) -> Sequence[Message]:
        messages = consumer.next_messages(batch_size)
        while not messages and (left_seconds := wait_until - time.monotonic()) > 0:
            chances = (left_seconds, consumer.seconds_to_redelivery(), self._feed.seconds_to_next_change())
            await self._news.wait(min(seconds for seconds in chances if seconds is not None))
            self._feed.catch_up()
            messages = consumer.next_messages(batch_size)
        return messages


def _message_text(message: Message, *, is_old: bool) -> bytes:
    record = older_form(message.entry.body) if is_old else message.entry.body
    return b'{"ack_token":' + msgspec.json.encode(message.ack_token) + b',"record":' + record + b"}"
