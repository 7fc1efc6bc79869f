#!/usr/bin/env bash
# What surprises: the Python SDK of Stripe retries connection errors, 409 and all of 5xx by itself (max_network_retries), but never a 429, though
#   the answer names the time to come back in Retry-After: the header decides only how long the pause before another kind of retry is.
#   More max_network_retries change nothing.
# Who meets it: a backfill or a listing over many pages of an account whose limit other programs use too: it ends at the first 429.
# Version: stripe 16.1.0, over http to loopback.
# Source: the SDK's README names automatic retries only for network problems and says nothing of 429; https://docs.stripe.com/rate-limits leaves
#   the retry of a 429 to the integration.
# Instead: catch stripe.RateLimitError, wait for error.headers["Retry-After"] where it is there, and ask again, with a limit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check stripe==16.1.0 requests
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

answers = []


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        status, headers = answers.pop(0) if answers else (200, {})
        body = {"object": "list", "data": [], "has_more": False} if status == 200 else {"error": {"type": "x", "message": "later"}}
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


def requests_after(status, headers, retries=3):
    asked.clear()
    answers[:] = [(status, headers)]
    client = stripe.StripeClient("sk_test_example", base_addresses={"api": f"http://127.0.0.1:{server.server_port}"}, max_network_retries=retries)
    try:
        client.v1.customers.list()
    except stripe.StripeError as error:
        return f"{type(error).__name__} after {len(asked)}"
    return f"a list after {len(asked)}"


asked = []
server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("stripe", stripe.VERSION)
CASES = [
    (503, {}, "a list after 2"),
    (409, {}, "a list after 2"),
    (429, {}, "RateLimitError after 1"),
    (429, {"Retry-After": "1"}, "RateLimitError after 1"),
]
as_described = True
for status, headers, expected in CASES:
    found = requests_after(status, headers)
    print(f"one {status} {headers or ''}: {found} requests")
    as_described &= found == expected
server.shutdown()
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
