#!/usr/bin/env bash
# What surprises: httpx2 drops the query of an address as soon as `params` are given with it, also when the client has any of its own:
#   get("/v1/subscription_items?subscription=sub_1", params={"starting_after": "si_2"}) asks for /v1/subscription_items?starting_after=si_2.
#   requests sends both. httpx did too up to 0.27; since 0.28.0 it does not, which its list of changes leaves out.
# Who meets it: whoever follows an address that an API gives and adds a cursor to it. Stripe's `url` of the items of a subscription is such an
#   address (that of an invoice's lines has no query): the rest of the items is refused with 400, or, where an API needs no parameter, is a
#   list of something else.
# Version: httpx2 2.16.2, beside requests 2.34.2.
# Source: https://github.com/pydantic/httpx2/issues/870; the form of `url`: https://docs.stripe.com/api/subscriptions/object (items.url).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx2==2.16.2' 'requests==2.34.2'
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import requests

ADDRESS = "/v1/subscription_items?subscription=sub_1"
MORE = {"limit": "100", "starting_after": "si_2"}
asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked.append(self.path)
        items = {"object": "list", "data": [{"id": "si_1"}, {"id": "si_2"}], "has_more": True, "url": ADDRESS}
        body = json.dumps(items).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
print(f"httpx2 {httpx2.__version__}, requests {requests.__version__}")
with httpx2.Client(base_url=base, trust_env=False) as client:
    url = client.get(ADDRESS).json()["url"]
    client.get(url, params=MORE)
with httpx2.Client(base_url=base, params={"limit": "100"}, trust_env=False) as client:
    client.get(url)
with requests.Session() as session:
    session.trust_env = False
    session.get(base + url, params=MORE)
server.shutdown()
first, with_params, with_client_params, by_requests = asked
print(f"httpx2, the address alone:           {first}")
print(f"httpx2, the address and params:      {with_params}")
print(f"httpx2, params of the client:        {with_client_params}")
print(f"requests, the address and params:    {by_requests}")
expected = [
    ADDRESS,
    "/v1/subscription_items?limit=100&starting_after=si_2",
    "/v1/subscription_items?limit=100",
    ADDRESS + "&limit=100&starting_after=si_2",
]
sys.exit(0 if asked == expected else 1)
PYTHON
