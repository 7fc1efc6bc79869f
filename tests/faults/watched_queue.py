"""Who stands before a queue and sees on the wire what it hands out and what is acknowledged, and looks into the table meanwhile."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.reading import query

TOKENS = ("ack_tokens", "ack_ids")


@dataclass
class WatchedQueue:
    """An application in front of a sandbox's. `delivered` are the `upstream_id` and version of each message that went out whole, by its
    token; `acknowledged` those of each token that came back, and `too_early` those of them that nobody had stored by then."""

    app: ASGIApp
    is_stored: Callable[[str, int], bool]
    delivered: dict[str, tuple[str, int]] = field(default_factory=dict)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    too_early: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/ack"):
            body = (await receive())["body"]
            self._acknowledge(json.loads(body))
            receive = _once_more(body, receive)
        elif scope["type"] == "http" and scope["path"].endswith(("/next", "/receive")):
            # Nothing is compressed, so that what goes out can be read.
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
            send = self._remembering(send)
        await self.app(scope, receive, send)

    def _acknowledge(self, content: Mapping[str, list[str]]) -> None:
        for token in next(content[name] for name in TOKENS if name in content):
            message = self.delivered[token]
            self.acknowledged.append(message)
            if not self.is_stored(*message):
                self.too_early.append(message)

    def _remembering(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            # An answer that is damaged holds none, or leaves by another way.
            with suppress(ValueError, KeyError, TypeError):
                for one in json.loads(message.get("body", b""))["data"]:
                    self.delivered[one[_token_of(one)]] = _identified(one)
            await send(message)

        return sending


def _token_of(message: Mapping[str, Any]) -> str:
    return "ack_token" if "ack_token" in message else "ack_id"


def _identified(message: Mapping[str, Any]) -> tuple[str, int]:
    if "ack_token" in message:
        return message["record"]["upstream_id"], message["record"]["updated_idx"]
    metadata = message["data"]["metadata"]
    return metadata["record_pks"][0], metadata["commit_lsn"] * 4096 + metadata["commit_idx"]


def _once_more(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return waiting.pop() if waiting else await receive()

    return receiving


def stored_in(url: str, table: str) -> Callable[[str, int], bool]:
    """Is there a row of that version or a later one, or a reject of that version?"""

    def is_stored(upstream_id: str, version: int) -> bool:
        return bool(
            query(
                url,
                f"select from {table} where upstream_id = %s and updated_idx >= %s"
                " union all select from sequin_pipeline.rejects where position(%s::bytea in raw) > 0 and version = %s",
                *(upstream_id, version, f'"{upstream_id}"'.encode(), version),
            )
        )

    return is_stored
