"""An API on loopback for real connectors: orders, page by page, and as much of GitHub's as a tap asks for one repository's issues."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE_RECORDS = 2


@dataclass
class Shop:
    """`orders` and `issues` are what there is, by id. `fails_at` is the page at which the list of orders answers with 404."""

    orders: dict[str, dict[str, object]] = field(default_factory=dict)
    issues: dict[int, dict[str, object]] = field(default_factory=dict)
    fails_at: int | None = None
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""

    def put(self, name: str, day: int, amount: object = 1) -> None:
        self.orders[name] = {
            "id": name,
            "updated": f"2026-01-{day:02}T00:00:00Z",
            "status": "active",
            "amount": amount,
            "note": None,
        }

    def put_issue(self, number: int, day: int, title: str = "title") -> None:
        self.issues[number] = {
            "id": number,
            "number": number,
            "title": title,
            "state": "open",
            "body": None,
            "type": None,
            "created_at": "2025-01-01T00:00:00Z",
            "updated_at": f"2026-01-{day:02}T00:00:00Z",
            "ours": "no schema of the tap has it",
        }

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, object]:
        if path == "/orders":
            return self._orders(query.get("since", [""])[0], int(query.get("after", ["0"])[0]))
        if path == "/graphql":
            return 200, {"data": {"repo0": {"nameWithOwner": "octo/alpha", "databaseId": 1}, "rateLimit": {"cost": 1}}}
        if path == "/repos/octo/alpha":
            times = {"updated_at": "2026-01-01T00:00:00Z", "created_at": "2025-01-01T00:00:00Z"}
            return 200, {"id": 1, "name": "alpha", "full_name": "octo/alpha", "owner": {"login": "octo", "id": 2}, **times}
        if path == "/repos/octo/alpha/issues":
            since = query["since"][0][:19]
            found = [one for one in self.issues.values() if str(one["updated_at"]) >= since]
            return 200, sorted(found, key=lambda one: str(one["updated_at"]))
        return 404, {}

    def _orders(self, since: str, after: int) -> tuple[int, object]:
        page = after // PAGE_RECORDS
        if page == self.fails_at:
            return 404, {}
        found = sorted((one for one in self.orders.values() if str(one["updated"]) >= since), key=lambda one: str(one["updated"]))
        end = after + PAGE_RECORDS
        return 200, {"orders": found[after:end], "next": str(end) if end < len(found) else None}


@contextmanager
def running_shop() -> Iterator[Shop]:
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            shop.tokens.add(self.headers.get("Authorization"))
            parts = urlsplit(self.path)
            status, answer = shop.answer(parts.path, parse_qs(parts.query))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
