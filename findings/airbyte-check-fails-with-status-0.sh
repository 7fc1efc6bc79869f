#!/usr/bin/env bash
# What surprises: the `check` command of a connector made with Airbyte's CDK exits with status 0 though it found the connection FAILED (a refused token,
#   401); that stands only in a CONNECTION_STATUS message on its standard output, between log lines. `read` with the same token exits with 1.
# Who meets it: whoever runs connectors by himself (a shell script, Dagster's Pipes, a CI job) and lets `check && read` or `set -e` decide.
# Version: airbyte-cdk 7.39.1 (source-declarative-manifest).
# Source: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol: check answers by a message; of the exit status it says nothing.
# Instead: parse standard output, and ask for a CONNECTION_STATUS whose status is SUCCEEDED, beside the exit status.
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

ANSWERS = {"/items": (200, '{"items": [{"id": 1}]}'), "/refused": (401, '{"message": "bad token"}')}


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
found = {}
for path in ANSWERS:
    status, messages = run("check", path)
    said = [message["connectionStatus"]["status"] for message in messages if message["type"] == "CONNECTION_STATUS"]
    found[f"check {path}"] = (status, said)
    found[f"read {path}"] = run("read", path, "--catalog", "catalog.json")[0]
for command, answer in found.items():
    print(f"{command}: {answer}")
expected = {
    "check /items": (0, ["SUCCEEDED"]),
    "read /items": 0,
    "check /refused": (0, ["FAILED"]),
    "read /refused": 1,
}
server.shutdown()
print("as described" if found == expected else "behaves otherwise now")
sys.exit(0 if found == expected else 1)
PYTHON
