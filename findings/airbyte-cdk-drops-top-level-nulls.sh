#!/usr/bin/env bash
# What surprises: a connector made with Airbyte's CDK (a declarative manifest, as most of the catalogue is now) leaves a field out of its RECORD when the
#   API says null for it at the top level of the object; a null one level deeper stays. A value that was cleared at the source is so the same
#   as one that the source did not tell, and the declared schema, which allows null, changes nothing.
# Who meets it: whoever merges these records into a table by the keys that are there (partial updates, `data || excluded.data`, a jsonb patch), or
#   compares the copy with the source: the old value stays for ever.
# Version: airbyte-cdk 7.39.1 (source-declarative-manifest).
# Source: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol has the record as the source's data and does not name the rule; it
#   comes from writing messages without their empty members, which goes into the data as well.
# Instead: take a field of the stream's schema that a record does not have as null, and replace rows whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check airbyte-cdk==7.39.1
cd "$folder"
"$folder/venv/bin/python" - "$folder/venv/bin/source-declarative-manifest" <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

ITEM = {"id": 1, "note": None, "nested": {"note": None, "tags": [None]}}
ANSWERS = {"/items": (200, json.dumps({"items": [ITEM]}))}


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()


def manifest(path):
    requester = {"type": "HttpRequester", "url_base": f"http://127.0.0.1:{server.server_port}", "path": path, "http_method": "GET"}
    selector = {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["items"]}}
    properties = {"id": {"type": "integer"}, "note": {"type": ["string", "null"]}}
    schema = {"type": "object", "additionalProperties": True, "properties": properties}
    stream = {
        "type": "DeclarativeStream",
        "name": "items",
        "primary_key": ["id"],
        "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
        "retriever": {"type": "SimpleRetriever", "requester": requester, "record_selector": selector},
    }
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["items"]},
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}, "additionalProperties": True}},
        "streams": [stream],
    }


def run(verb, path, *options):
    """The exit status and the messages of one command of the connector."""
    Path("config.json").write_text(json.dumps({"__injected_declarative_manifest": manifest(path)}))
    done = subprocess.run([sys.argv[1], verb, "--config", "config.json", *options], capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


print("airbyte-cdk", version("airbyte-cdk"))
stream = {"name": "items", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
catalog = {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}]}
Path("catalog.json").write_text(json.dumps(catalog))
status, messages = run("read", "/items", "--catalog", "catalog.json")
found = [message["record"]["data"] for message in messages if message["type"] == "RECORD"]
print("the API says ", json.dumps(ITEM))
print("the record is", *map(json.dumps, found))
expected = [{"id": 1, "nested": {"note": None, "tags": [None]}}]
server.shutdown()
print("as described" if found == expected else "behaves otherwise now")
sys.exit(0 if found == expected else 1)
PYTHON
