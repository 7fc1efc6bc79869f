#!/usr/bin/env bash
# What surprises: httpx2 ends a gzip body at its first member. The rest of a body of several members, which RFC 1952 (2.2) allows and which
#   `cat a.gz b.gz`, bgzip, pigz and appended logs make, is dropped without an error, with status 200. A body whose last eight bytes, the
#   checksum and the length, were cut off is taken for whole, and `Content-Encoding: x-gzip`, which RFC 9110 (8.4.1.3) makes the same as
#   gzip, is handed on packed. For zstd all frames are read, and a missing end raises DecodingError.
# Who meets it: whoever downloads with httpx2 from object stores, CDNs and log archives that serve such files with Content-Encoding: gzip, and
#   takes lines or records one by one: they are short, and nothing says so.
# Version: httpx2 2.16.2.
# Source: https://www.rfc-editor.org/rfc/rfc1952#page-5, https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3; httpx2/_decoders.py.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx2[zstd]==2.16.2'
"$folder/venv/bin/python" - <<'PYTHON'
import gzip
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

FIRST, SECOND = b'{"id": 1}\n', b'{"id": 2}\n'
BODIES = {
    "/one": ("gzip", gzip.compress(FIRST + SECOND)),
    "/members": ("gzip", gzip.compress(FIRST) + gzip.compress(SECOND)),
    "/cut": ("gzip", gzip.compress(FIRST + SECOND)[:-8]),
    "/x-gzip": ("x-gzip", gzip.compress(FIRST + SECOND)),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        coding, body = BODIES[self.path]
        self.send_response(200)
        self.send_header("content-encoding", coding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"httpx2 {httpx2.__version__}")
expected = {"/one": FIRST + SECOND, "/members": FIRST, "/cut": FIRST + SECOND, "/x-gzip": BODIES["/x-gzip"][1]}
as_described = True
with httpx2.Client(trust_env=False) as client:
    for path, content in expected.items():
        answer = client.get(f"http://127.0.0.1:{server.server_port}{path}")
        print(f"{path:9} status {answer.status_code}, read {answer.content!r}")
        as_described = as_described and (answer.status_code, answer.content) == (200, content)
server.shutdown()
sys.exit(0 if as_described else 1)
PYTHON
