"""The part of Salesforce's REST API that the preset asks, on loopback: login, describe, SOQL by queryAll, pages of a query.

As Salesforce does, it refuses a field that an object has not, a request without the token, and pages of a query that it does not know; a
query's pages are those of the moment at which it was asked; a time has milliseconds and `+0000`.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = "/services/data/v62.0"
PAGE = 100
QUERY = re.compile(r"SELECT (?P<fields>[\w,]+) FROM (?P<name>\w+) WHERE (?P<where>.+) ORDER BY (?P<order>\w+)")
CONDITION = re.compile(r"(\w+) (>=|<) (\S+)")

Row = dict[str, Any]


def time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}+0000"


@dataclass
class SalesforceApi:
    """`objects` are rows by the name of their object; every key of a row but `attributes` is a field."""

    objects: dict[str, list[Row]]
    client: tuple[str, str] = ("client", "the-secret")
    token: str = "the-token"
    asked: list[str] = field(default_factory=list)
    queries: dict[str, list[Row]] = field(default_factory=dict)
    url: str = ""
    calls: int = 0

    def fields(self, name: str) -> list[str]:
        return list(dict.fromkeys(key for row in self.objects[name] for key in row if key != "attributes"))

    def change(self, name: str, row: Row, **values: object) -> None:
        """Changes a row as somebody in Salesforce would."""
        row.update(values)
        row["SystemModstamp"] = time_text(datetime.now(UTC))
        self.objects[name].sort(key=lambda one: str(one["SystemModstamp"]))

    def answer(self, path: str, params: dict[str, list[str]]) -> tuple[int, object]:
        if path.startswith(f"{VERSION}/sobjects/") and path.endswith("/describe"):
            name = path.split("/")[-2]
            return 200, {"name": name, "fields": [{"name": one, "type": "string"} for one in self.fields(name)]}
        if path == f"{VERSION}/queryAll":
            return self.query(params["q"][0])
        locator = re.fullmatch(rf"{VERSION}/query/(01g\d+)-(\d+)", path)
        if locator and locator[1] in self.queries:
            return 200, self.page(locator[1], int(locator[2]))
        return 404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]

    def query(self, soql: str) -> tuple[int, object]:
        parsed = QUERY.fullmatch(soql)
        if parsed is None:
            return 400, [{"errorCode": "MALFORMED_QUERY", "message": f"unexpected token: {soql[:40]}"}]
        names, name = parsed["fields"].split(","), parsed["name"]
        unknown = [one for one in names if one not in self.fields(name)]
        if unknown:
            return 400, [{"errorCode": "INVALID_FIELD", "message": f"No such column '{unknown[0]}' on entity '{name}'"}]
        rows = self.objects[name]
        for column, operator, value in CONDITION.findall(parsed["where"]):
            limit = datetime.fromisoformat(value)
            rows = [row for row in rows if (datetime.fromisoformat(row[column]) >= limit) == (operator == ">=")]
        rows = sorted(rows, key=lambda row: str(row[parsed["order"]]))
        query = f"01g{len(self.queries):015}"
        self.queries[query] = [{"attributes": row["attributes"], **{one: row.get(one) for one in names}} for row in rows]
        return 200, self.page(query, 0)

    def page(self, query: str, start: int) -> object:
        rows = self.queries[query]
        end = start + PAGE
        more = {"nextRecordsUrl": f"{VERSION}/query/{query}-{end}"} if end < len(rows) else {}
        return {"totalSize": len(rows), "done": not more, "records": rows[start:end], **more}


@contextmanager
def serving_salesforce(api: SalesforceApi) -> Iterator[SalesforceApi]:
    """The API at its `url` on loopback, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            given = parse_qs(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())
            is_right = (given.get("client_id"), given.get("client_secret")) == ([api.client[0]], [api.client[1]])
            is_asked = self.path == "/services/oauth2/token" and given.get("grant_type") == ["client_credentials"]
            if is_right and is_asked:
                self.reply(200, {"access_token": api.token, "instance_url": api.url, "token_type": "Bearer"})
            else:
                self.reply(400, {"error": "invalid_client", "error_description": "invalid client credentials"})

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            api.asked.append(parts.path)
            api.calls += 1
            if self.headers.get("authorization") != f"Bearer {api.token}":
                self.reply(401, [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}])
            else:
                self.reply(*api.answer(parts.path, parse_qs(parts.query)))

        def reply(self, status: int, body: object) -> None:
            content = json.dumps(body, ensure_ascii=False).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json;charset=UTF-8")
            self.send_header("Sforce-Limit-Info", f"api-usage={api.calls}/15000")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
