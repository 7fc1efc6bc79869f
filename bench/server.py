"""A process that serves page files as the records API does: `python -m bench.server FOLDER`.

Pages are made ready, compressed included, when a variant is chosen, so that answering costs next to nothing on a machine that is
being measured. It prints its address, then takes one JSON object a line on stdin (`Serving`), and confirms each by a line of its own.
"""

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
    """What is served from now on: a variant, compressed or not, each page `delay_seconds` after it was asked for."""

    variant: str
    encoding: str = "zstd"
    delay_seconds: float = 0.0
    records: int | None = None


@dataclass
class Stream:
    """The pages of the chosen variant. A cursor is the number of pages before it; the page at the end is empty."""

    folder: Path
    serving: Serving = Serving("new")
    bodies: list[bytes] = field(default_factory=list)

    def choose(self, serving: Serving) -> None:
        """Makes every page ready."""
        files = page_files(self.folder, serving.variant, records=serving.records)
        compress = COMPRESS[serving.encoding]
        bodies = [compress(b'{"records":%s,"cursor":"%d"}' % (file.read_bytes(), at + 1)) for at, file in enumerate(files)]
        self.bodies = [*bodies, compress(b'{"records":[],"cursor":"%d"}' % len(bodies))]
        self.serving = serving


class Handler(BaseHTTPRequestHandler):
    """`GET /v1/records`, for whoever asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    stream: Stream

    def do_GET(self) -> None:
        after = parse_qs(urlsplit(self.path).query).get("after_cursor", ["0"])[0]
        body = self.stream.bodies[min(int(after), len(self.stream.bodies) - 1)]
        time.sleep(self.stream.serving.delay_seconds)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-encoding", self.stream.serving.encoding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name; its arguments are of any type
        """Nothing: a line for each request would be measured too."""


def main(folder: Path) -> None:
    stream = Stream(folder)
    handler = type("StreamHandler", (Handler,), {"stream": stream})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        for line in sys.stdin:
            stream.choose(Serving(**json.loads(line)))
            print("serving", flush=True)
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
