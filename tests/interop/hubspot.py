"""HubSpot as `backlot` plays it, over objects of the sandbox, and what a proxy of ours adds to its answers.

Backlot knows associations by an address of their own only; HubSpot also puts those that are asked for into each object, but not into what
a search finds. Nor does backlot list the properties of an object.
"""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sequin_pipeline.sandbox.population import Population
from tests.interop.stand_ins import free_port, python_packages, running
from tests.support.altering_proxy import AlteringProxy, Asked, serving

TOKEN = "admin-service-token"
OBJECTS = {"company": "companies", "contact": "contacts", "deal": "deals"}
COUNTS = {"company": 40, "contact": 104, "deal": 60}
"""More contacts than one page has."""
EVERY_ARCHIVED = 50


@dataclass(frozen=True)
class HubSpot:
    """The stand-in: `url` is that of the proxy, `database` what backlot serves."""

    proxy: AlteringProxy
    database: Path

    @property
    def url(self) -> str:
        return f"{self.proxy.url}/hubspot"

    def requests(self) -> list[str]:
        """What was asked since the last time."""
        lines = [asked.line.replace("/hubspot/crm/v3/objects", "") for asked in self.proxy.asked]
        self.proxy.asked.clear()
        return lines

    def change(self, name: str, **properties: str) -> str:
        """Changes the first object that is not archived, now, as somebody in HubSpot would; returns its id."""
        with sqlite3.connect(self.database) as connection:
            object_id, text = connection.execute(
                "select id, properties from hubspot_objects where object_type = ? and not coalesce(archived, 0) order by id limit 1",
                (OBJECTS[name],),
            ).fetchone()
            now = datetime.now(UTC)
            modified = "lastmodifieddate" if name == "contact" else "hs_lastmodifieddate"
            time_text = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z"
            changed = {**json.loads(text), **properties, modified: time_text}
            statement = "update hubspot_objects set properties = ?, updated_ts = ? where id = ?"
            connection.execute(statement, (json.dumps(changed), now.timestamp(), object_id))
        return str(object_id)

    def archive(self, name: str) -> str:
        """Archives the last object that is not, as the recycle bin does; returns its id."""
        with sqlite3.connect(self.database) as connection:
            (object_id,) = connection.execute(
                "select max(id) from hubspot_objects where object_type = ? and not coalesce(archived, 0)", (OBJECTS[name],)
            ).fetchone()
            connection.execute("update hubspot_objects set archived = 1 where id = ?", (object_id,))
        return str(object_id)


@contextmanager
def running_hubspot(folder: Path) -> Iterator[HubSpot]:
    """The stand-in with objects in every collection, of which each column of the shipped definitions has a value."""
    python = python_packages("backlot")
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in _corpus()), encoding="utf-8")
    data = folder / "data"
    quiet = {"DO_NOT_TRACK": "1", "BACKLOT_TELEMETRY": "0"}
    command = [str(python), "-m", "backlot", "import", str(folder / "corpus.jsonl"), "--data-dir", str(data)]
    subprocess.run(command, check=True, timeout=120, capture_output=True, env=quiet)
    port = free_port()
    with (
        running(
            [python, "-m", "backlot", "serve", "--port", str(port), "--data-dir", data], port, log=folder / "backlot.log", **quiet
        ),
        serving(AlteringProxy(f"http://127.0.0.1:{port}", answer=_answer, alter=_alter)) as proxy,
    ):
        yield HubSpot(proxy, data / "db.sqlite")


@cache
def _corpus() -> tuple[dict[str, Any], ...]:
    """Made once: the sandbox takes seconds for it."""
    return tuple(_made())


def _made() -> Iterator[dict[str, Any]]:
    counts = dict.fromkeys(OBJECTS, 0)
    owner = {
        "group": "sales",
        "visibility": "public",
        "author_email": "o@example.com",
        "author_name": "O",
        "author_groups": ["sales"],
    }
    for change in Population(1).initial():
        name = change.collection_id.removeprefix("hubspot:")
        if (
            name not in OBJECTS
            or change.data is None
            or not change.collection_id.startswith("hubspot")
            or counts[name] == COUNTS[name]
        ):
            continue
        number = counts[name]
        counts[name] += 1
        made = json.loads(change.data)
        links = {"company": [], "contact": ["company"], "deal": ["company", "contact"]}[name]
        yield {
            "source_type": "hubspot",
            "doc_id": f"{name}-{number}",
            "object_type": OBJECTS[name],
            "title": f"{name} {number}",
            "content": "-",
            "properties": made["properties"],
            "created": made["createdAt"],
            "updated": made["updatedAt"],
            "archived": number % EVERY_ARCHIVED == EVERY_ARCHIVED - 1,
            "associations": [{"to": f"{other}-{number % COUNTS[other]}"} for other in links],
            **owner,
        }


def _answer(proxy: AlteringProxy, asked: Asked) -> Any | None:
    kind = asked.path.removeprefix("/hubspot/crm/v3/properties/")
    if kind not in OBJECTS.values():
        return None
    return {"results": [{"name": name, "type": "string"} for name in _properties(kind)]}


def _properties(kind: str) -> list[str]:
    found = (made["properties"] for made in _corpus() if made["object_type"] == kind)
    return list(dict.fromkeys(name for properties in found for name in properties))


def _alter(proxy: AlteringProxy, asked: Asked, body: Any) -> Any:
    wanted = asked.params.get("associations", "")
    if not wanted or asked.method != "GET":
        return body
    kind = asked.path.split("/objects/")[1].split("/")[0]
    for made in body.get("results", [body]):
        found = {}
        for other in wanted.split(","):
            linked = proxy.get(f"/hubspot/crm/v4/objects/{kind}/{made['id']}/associations/{other}")["results"]
            if linked:
                found[other] = {"results": [{"id": str(one["toObjectId"]), "type": f"{kind}_to_{other}"} for one in linked]}
        if found:
            made["associations"] = found
    return body
