"""A process that serves page files as a source does (feeds.py): `python -m bench.server FOLDER`.

Pages are made ready, compressed included, when a variant is chosen, so that answering costs next to nothing on a machine that is
being measured. It prints its address, then takes JSON on stdin, a line at a time (`Serving`, or null for nothing else), and answers each by
a line of its own: what was seen of the requests since the last one (`Seen`).
"""

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bench.feeds import FEEDS, Feed
from bench.records import page_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": lambda body: gzip.compress(body, 6),
    "zstd": zstd.compress,
}


@dataclass(frozen=True)
class Serving:
    """What is served from now on: a variant as a kind of source gives it, each answer `delay_seconds` after it was asked for.

    With `retry_after_seconds` the first request for each collection is refused by a 429 that says so.
    """

    variant: str
    encoding: str = "zstd"
    delay_seconds: float = 0.0
    records: int | None = None
    kind: str = "sequin"
    retry_after_seconds: int = 0


@dataclass
class Seen:
    """What there was of requests: refused ones, and those that came before the time that a refusal had named. `unacknowledged` are
    messages of a queue."""

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    refused: int = 0
    early: int = 0
    unacknowledged: int = 0


class Answering:
    """The chosen feed, and what is seen of the requests for it; shared by the threads that answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._feed: Feed = FEEDS["sequin"]((), COMPRESS["identity"])
        self._seen = Seen()
        self._welcome_at: dict[str, float] = {}
        self.serving = Serving("new")

    def choose(self, serving: Serving) -> None:
        """Makes every answer ready."""
        files = page_files(self._folder, serving.variant, records=serving.records)
        self._feed = FEEDS[serving.kind]([file.read_bytes() for file in files], COMPRESS[serving.encoding])
        self._welcome_at = {}
        self.serving = serving

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        return self._feed.answer(path, params, content)

    def is_refused(self, collection_id: str) -> bool:
        """The first request, and others that do not wait."""
        if not self.serving.retry_after_seconds:
            return False
        now = time.monotonic()
        with self._lock:
            if collection_id not in self._welcome_at:
                self._welcome_at[collection_id] = now + self.serving.retry_after_seconds
                self._seen.refused += 1
                return True
            is_early = now < self._welcome_at[collection_id]
            self._seen.early += is_early
            return is_early

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A request, from when it was read to when it has been answered."""
        with self._lock:
            self._seen.requests += 1
            self._seen.in_flight += 1
            self._seen.peak_in_flight = max(self._seen.peak_in_flight, self._seen.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._seen.in_flight -= 1

    def take_seen(self) -> Seen:
        """What was seen since the last time."""
        with self._lock:
            seen, self._seen = self._seen, Seen(in_flight=self._seen.in_flight)
        return replace(seen, unacknowledged=len(getattr(self._feed, "unacknowledged", ())))


class Handler(BaseHTTPRequestHandler):
    """Every path, for whoever asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    answering: Answering

    def do_GET(self) -> None:
        with self.answering.counted():
            self._answer()

    do_POST = do_GET  # noqa: N815 - the library calls it by this name

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", "0")))
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query))
        if self.answering.is_refused(params.get("collection_id", "")):
            self.send_response(429)
            self.send_header("retry-after", str(self.answering.serving.retry_after_seconds))
            self.send_header("content-length", "0")
            self.end_headers()
            return
        body = self.answering.answer(url.path, params, content)
        time.sleep(self.answering.serving.delay_seconds)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-encoding", self.answering.serving.encoding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name; its arguments are of any type
        """Nothing: a line for each request would be measured too."""


def main(folder: Path) -> None:
    answering = Answering(folder)
    handler = type("FeedHandler", (Handler,), {"answering": answering})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        for line in sys.stdin:
            seen = answering.take_seen()
            if chosen := json.loads(line):
                answering.choose(Serving(**chosen))
            print(json.dumps(asdict(seen)), flush=True)
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
