"""A proxy that stands before somebody else's server and makes its answers more like those of the API that it stands in for."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

HOP_HEADERS = frozenset({"connection", "content-length", "transfer-encoding", "content-encoding", "keep-alive", "date", "server"})


@dataclass(frozen=True)
class Asked:
    """A request: its path without the query, and the query by name."""

    method: str
    path: str
    params: dict[str, str]

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class AlteringProxy:
    """`answer` may answer a request itself; `alter` changes a JSON answer. What was asked is in `asked`."""

    upstream: str
    answer: Callable[["AlteringProxy", Asked], Any | None] = lambda proxy, asked: None
    alter: Callable[["AlteringProxy", Asked, Any], Any] = lambda proxy, asked, body: body
    params: Callable[[Asked], dict[str, str]] = lambda asked: asked.params
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        """What the server behind answers to a GET with the credential of the last request."""
        status, _, body = self.forward("GET", path, self.headers, b"")
        assert status == 200, (path, status, body[:200])
        return json.loads(body)

    def forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        address = urlsplit(self.upstream)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def serve(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        asked = Asked(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)))
        self.asked.append(asked)
        self.headers = {name: value for name, value in headers.items() if name == "authorization"}
        own = self.answer(self, asked)
        if isinstance(own, tuple):
            return own
        if own is not None:
            return 200, {"Content-Type": "application/json"}, json.dumps(own).encode()
        query = urlencode(self.params(asked))
        status, answered, content = self.forward(method, parts.path + (f"?{query}" if query else ""), headers, body)
        if status == 200 and "json" in answered.get("Content-Type", answered.get("content-type", "")):
            content = json.dumps(self.alter(self, asked, json.loads(content)), ensure_ascii=False).encode()
        return status, answered, content


@contextmanager
def serving(proxy: AlteringProxy) -> Iterator[AlteringProxy]:
    """The proxy at its `url` on loopback, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {
                name.lower(): value
                for name, value in self.headers.items()
                if name.lower() not in ("connection", "accept-encoding")
            }
            status, answered, content = proxy.serve(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in answered.items():
                if name.lower() not in HOP_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
