"""This module damages answers on their way out: wrong content, and connections that end or crawl.

What uvicorn would rightly refuse to send (a body shorter than its length, a reset) is written to the connection's own transport,
which `OpenProtocol` lays open to the application.
"""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sequin_pipeline.sandbox.answers import ApiError, error_answer
from sequin_pipeline.sandbox.faults import Fault

_TRANSPORT = "sequin_pipeline.transport"
_SLOW_PIECES = 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER is on, for 0 seconds: closing sends RST instead of FIN (socket(7))."""


class OpenProtocol(H11Protocol):
    """This is uvicorn's protocol, telling the application which transport a request came in on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in H11Protocol
        super().connection_made(transport)
        application = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = with_transport


def refusal(fault: Fault, now: datetime) -> Response:
    """Returns the answer of a `status` fault, with `Retry-After` where the fault names one."""
    answer = error_answer(ApiError(fault.value, phrase(fault.value)))
    asked_to_wait(answer, fault, now)
    return answer


def asked_to_wait(answer: Response, fault: Fault, now: datetime) -> None:
    """Adds `Retry-After` to the answer where the fault names one."""
    if fault.retry_after is not None:
        answer.headers["retry-after"] = str(fault.retry_after)
    if fault.retry_after_date is not None:
        answer.headers["retry-after"] = format_datetime(
            now.astimezone(UTC) + timedelta(seconds=fault.retry_after_date), usegmt=True
        )


def with_wrong_content(fault: Fault, answer: Response) -> Response:
    """Returns a sound answer whose content is not what was asked for."""
    body = bytes(answer.body)
    match fault.kind:
        case "html":
            return HTMLResponse("<!doctype html><title>Just a moment</title><h1>We will be back soon</h1>")
        case "json-cut":
            return Response(body[: len(body) // 2], media_type="application/json")
        case "not-object":
            return Response(b"[" + body + b"]", media_type="application/json")
        case "other-object":
            return Response(b'{"status":"maintenance"}', media_type="application/json")
        case "empty-body":
            return Response(b"", media_type="application/json")
        case _:
            packed = gzip.compress(body, mtime=0)
            broken = packed[:10] + bytes(byte ^ 0xFF for byte in packed[10:])
            return Response(broken, headers={"content-encoding": "gzip"}, media_type="application/json")


def sent_wrongly(fault: Fault, answer: Response) -> Response:
    """Returns the answer, but its connection fails or crawls."""
    if fault.kind == "slow":
        headers = dict(answer.headers)
        return StreamingResponse(_crawl(bytes(answer.body), fault.value / 1000), answer.status_code, headers)
    return _Broken(fault, answer)


async def _crawl(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    piece_bytes = max(1, -(-len(body) // _SLOW_PIECES))
    for start in range(0, len(body), piece_bytes):
        await asyncio.sleep(seconds / _SLOW_PIECES)
        yield body[start : start + piece_bytes]


class _Broken(Response):
    """This answer is written past uvicorn, after which the connection is gone."""

    def __init__(self, fault: Fault, answer: Response) -> None:
        super().__init__(bytes(answer.body), answer.status_code, dict(answer.headers))
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope[_TRANSPORT]
        transport.write(self._text())
        if self._fault.kind.startswith("reset"):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass

    def _text(self) -> bytes:
        if self._fault.kind == "reset-before":
            return b""
        body = bytes(self.body)
        promised_bytes = len(body) + (self._fault.value if self._fault.kind == "wrong-length" else 0)
        headers = {**self.headers, "content-length": str(max(0, promised_bytes))}
        lines = [f"HTTP/1.1 {self.status_code} {phrase(self.status_code)}", *(f"{k}: {v}" for k, v in headers.items())]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        return head + (body if self._fault.kind == "wrong-length" else body[: self._fault.value])


def phrase(status: int) -> str:
    """Returns the status' phrase; proxies answer with numbers of their own, such as 520."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
