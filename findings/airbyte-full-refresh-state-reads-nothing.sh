#!/usr/bin/env bash
# What surprises: the state that a connector of Airbyte's Python CDK sends for a stream it reads whole (full_refresh, no cursor) is not empty: it
#   says that the stream has been read. Given back to the next read, as the protocol has it for states, that read asks the API for nothing,
#   sends no record, and ends COMPLETE with status 0. Whoever keeps the last state of each stream sees one full copy, and then never a change;
#   whoever takes what a full read does not show for deleted deletes everything.
# Who meets it: whoever runs connectors without Airbyte's platform, which drops such states between two syncs.
# Version: airbyte-cdk 7.39.1 (HttpStream; the key is __ab_full_refresh_sync_complete).
# Source: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol says of states that a read goes on from them, and names no exception; the CDK's
#   airbyte_cdk/sources/streams/checkpoint/checkpoint_reader.py has the key.
# Instead: give no state back for a stream that was not read as incremental.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check airbyte-cdk==7.39.1
cd "$folder"
cat > connector.py <<'PYTHON'
import sys

from airbyte_cdk.entrypoint import launch
from airbyte_cdk.models import ConnectorSpecification
from airbyte_cdk.sources import AbstractSource
from airbyte_cdk.sources.streams.http import HttpStream


class Items(HttpStream):
    name = "items"
    primary_key = "id"
    url_base = sys.argv.pop(1)

    def path(self, **arguments):
        return "items"

    def next_page_token(self, response):
        return None

    def parse_response(self, response, **arguments):
        return response.json()["items"]

    def get_json_schema(self):
        return {"type": "object", "properties": {"id": {"type": "integer"}}}


class Source(AbstractSource):
    def spec(self, logger):
        return ConnectorSpecification(connectionSpecification={})

    def check_connection(self, logger, config):
        return True, None

    def streams(self, config):
        return [Items()]


launch(Source(), sys.argv[1:])
PYTHON
"$folder/venv/bin/python" - "$folder/venv/bin/python" <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

items, asked = [{"id": 1}, {"id": 2}], []


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        body = json.dumps({"items": items}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
stream = {"name": "items", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
catalog = {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}]}
Path("catalog.json").write_text(json.dumps(catalog))
Path("config.json").write_text("{}")


def read(*options):
    """How many records came, the last state, what the stream's status was in the end, and the exit status."""
    command = [sys.argv[1], "connector.py", f"http://127.0.0.1:{server.server_port}/", "read", "--config", "config.json"]
    done = subprocess.run([*command, "--catalog", "catalog.json", *options], capture_output=True, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    records = sum(message["type"] == "RECORD" for message in messages)
    states = [message["state"] for message in messages if message["type"] == "STATE"]
    statuses = [message["trace"]["stream_status"]["status"] for message in messages if "stream_status" in message.get("trace", {})]
    return records, states[-1], statuses[-1], done.returncode


print("airbyte-cdk", version("airbyte-cdk"))
records, state, *end = read()
print("first read:", records, "records,", *end, "- state", json.dumps(state["stream"]["stream_state"]))
items.append({"id": 3})
asked.clear()
Path("state.json").write_text(json.dumps([state]))
again, _, *end_again = read("--state", "state.json")
print("the API has 3 now; read with that state:", again, "records,", *end_again, "- requests:", len(asked))
server.shutdown()
is_so = (records, again, end, end_again, asked) == (2, 0, ["COMPLETE", 0], ["COMPLETE", 0], [])
print("as described" if is_so else "behaves otherwise now")
sys.exit(0 if is_so else 1)
PYTHON
