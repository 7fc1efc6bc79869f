"""A real HTTP server on loopback that gives scripted replies, one per request, and remembers what it was asked."""

import gzip
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """One answer. `then`: `keep` the connection; `cut` the body after half of its bytes; `reset` before any answer; stay `silent`;
    `trickle` one byte at a time for ever."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    then: Literal["keep", "cut", "reset", "silent", "trickle"] = "keep"


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it; `connection` counts from 1, `content` is the JSON of its body."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    connection: int
    content: object = None


class ScriptedServer(ThreadingHTTPServer):
    """Replies in the order of `script`; a request beyond its end is answered 418, which no client repeats."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Reply] = []
        self.asked: list[Asked] = []
        self.connections = 0
        self.is_over = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def cursors_asked(self) -> list[str | None]:
        return [asked.query.get("after_cursor") for asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        self.connection_number = self.server.connections

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, content: object) -> None:
        parts = urlsplit(self.path)
        position = len(self.server.asked)
        self.server.asked.append(
            Asked(
                parts.path,
                dict(parse_qsl(parts.query, keep_blank_values=True)),
                dict(self.headers),
                self.connection_number,
                content,
            )
        )
        reply = self.server.script[position] if position < len(self.server.script) else Reply(418)
        if reply.then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif reply.then == "silent":
            self.server.is_over.wait()
            self.close_connection = True
        else:
            self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.then == "trickle":
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
            while not self.server.is_over.is_set():
                self.wfile.write(b" ")
            return
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.then == "cut":
            self.wfile.write(reply.body[: len(reply.body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(reply.body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def finish(self) -> None:
        if self.connection.fileno() != -1:
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Nothing: tests read `asked`."""


@contextmanager
def scripted_server(*script: Reply, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.scheme = "https"
        server.script.extend(script)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            server.shutdown()
            thread.join()


def page(*records: object, cursor: object = None, **headers: str) -> Reply:
    """A page of the records API."""
    return Reply(body=json.dumps({"records": list(records), "cursor": cursor}).encode(), headers={**JSON_HEADERS, **headers})


def zipped(reply: Reply) -> Reply:
    return Reply(reply.status, gzip.compress(reply.body), {**reply.headers, "Content-Encoding": "gzip"})
