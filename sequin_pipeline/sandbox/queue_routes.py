"""These routes serve the queues: `/v1/http-consumers/{id}/…` and, as a self-hosted Sequin does, `…/{name}/receive`, ack, nack.

What a Sequin Stream's message holds is stream_messages.py; how messages are waited for and come again is the same for both.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sequin_pipeline.sandbox.answers import ApiError, json_answer
from sequin_pipeline.sandbox.consumers import Consumer, Message, opaque_token, uuid_token
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.parameters import choice, json_object, strings, whole_number
from sequin_pipeline.sandbox.settings import MESSAGE_FORMS, NEXT_FORMS, RECORD_FORMS, Settings
from sequin_pipeline.sandbox.stream_messages import ChangeMessages
from sequin_pipeline.sandbox.wire import older_form

MAX_BATCH_SIZE = 1000
MAX_WAIT_MS = 600_000
"""The contract names no limit; nobody's test waits longer than ten minutes."""

MIN_STREAM_WAIT_MS, MAX_STREAM_WAIT_MS = 500, 300_000
"""Outside of these a self-hosted Sequin refuses to wait."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class News:
    """This wakes those who wait for messages."""

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
    """These routes hold the consumers of one sandbox; a consumer comes into being when it first asks for messages."""

    def __init__(self, feed: Feed, settings: Settings, news: News, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._feed = feed
        self._settings = settings
        self._news = news
        self._consumers: dict[tuple[str, bool], Consumer] = {}
        self._changes: dict[str, ChangeMessages] = {}

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

    async def receive(self, request: Request) -> Response:
        asked: dict[str, object] = {**request.query_params, **await json_object(request)}
        asked.setdefault("max_batch_size", asked.get("batch_size", 1))
        batch_size = whole_number(asked, "max_batch_size", default=1, lowest=1, highest=MAX_BATCH_SIZE)
        wait_ms = 0
        if "wait_for" in asked:
            wait_ms = whole_number(asked, "wait_for", default=0, lowest=MIN_STREAM_WAIT_MS, highest=MAX_STREAM_WAIT_MS)
        form = choice(asked, "message_form", choices=MESSAGE_FORMS, default=self._settings.message_form)
        name = request.path_params["consumer_id"]
        consumer = self._consumer(name, of_stream=True)
        self._changes.setdefault(name, ChangeMessages(name, backfilled_to=self._feed.stream.head))
        messages = await self._messages(consumer, batch_size, wait_until=time.monotonic() + wait_ms / 1000)
        changes = self._changes[name]
        items = b",".join(changes.text(message, form) for message in messages)
        return Response(b'{"data":[' + items + b"]}", media_type="application/json")

    async def ack_received(self, request: Request) -> Response:
        self._known_consumer(request, of_stream=True).ack(await _ack_ids(request))
        self._news.announce()
        return json_answer({"success": True})

    async def nack_received(self, request: Request) -> Response:
        self._known_consumer(request, of_stream=True).nack(await _ack_ids(request))
        self._news.announce()
        return json_answer({"success": True})

    def _consumer(self, name: str, *, of_stream: bool = False) -> Consumer:
        consumer_id = (name, of_stream)
        if consumer_id not in self._consumers:
            self._consumers[consumer_id] = Consumer(
                self._feed.stream,
                ack_wait_seconds=self._settings.ack_wait_ms / 1000,
                max_ack_pending=self._settings.max_ack_pending,
                clock=self._clock,
                build_token=uuid_token if of_stream else opaque_token,
            )
        return self._consumers[consumer_id]

    def _known_consumer(self, request: Request, *, of_stream: bool = False) -> Consumer:
        consumer = self._consumers.get((request.path_params["consumer_id"], of_stream))
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


async def _ack_ids(request: Request) -> list[str]:
    """Reads the ids and refuses as the server itself does, which takes UUIDs only and no empty list."""
    ack_ids = strings(await json_object(request), "ack_ids")
    if not ack_ids or not all(map(_UUID.fullmatch, ack_ids)):
        raise ApiError(400, "Invalid ack_ids: send a list of UUIDs that is not empty")
    return ack_ids


def _message_text(message: Message, *, is_old: bool) -> bytes:
    record = older_form(message.entry.body) if is_old else message.entry.body
    return b'{"ack_token":' + msgspec.json.encode(message.ack_token) + b',"record":' + record + b"}"
