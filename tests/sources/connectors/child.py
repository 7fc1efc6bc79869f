"""A connector of ours for tests: what it does is written down step by step, and told to it in a file."""

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sequin_pipeline.reads import Connector, StreamRead, Variable
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.feed import PAGE_SECONDS, ConnectorFeed, Spoken
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.process import Limits
from sequin_pipeline.sources.connectors.singer import Singer
from sequin_pipeline.sources.connectors.source import ConnectorSource
from tests.support import connector
from tests.support.builders import collection

SECRET = "s3cr3t/with+signs"
QUICK = Limits(silence_seconds=60.0, grace_seconds=0.2)

Step = Sequence[object]

CATALOG: Step = (
    "say",
    {
        "type": "CATALOG",
        "catalog": {
            "streams": [
                {
                    "name": "thing",
                    "json_schema": {
                        "properties": {
                            "id": {"type": "string"},
                            "updated": {"type": ["string", "null"], "format": "date-time"},
                            "amount": {"type": "integer"},
                        }
                    },
                    "supported_sync_modes": ["full_refresh", "incremental"],
                    "source_defined_cursor": True,
                    "default_cursor_field": ["updated"],
                    "source_defined_primary_key": [["id"]],
                }
            ]
        },
    },
)

TAP_CATALOG: Step = (
    "say",
    {
        "streams": [
            {
                "tap_stream_id": "thing",
                "stream": "thing",
                "schema": {"properties": {"id": {"type": "string"}, "updated": {"type": "string", "format": "date-time"}}},
                "metadata": [
                    {
                        "breadcrumb": [],
                        "metadata": {
                            "table-key-properties": ["id"],
                            "valid-replication-keys": ["updated"],
                            "inclusion": "available",
                        },
                    },
                    {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
                ],
            }
        ]
    },
)


def write_plan(folder: Path, plan: Mapping[str, Sequence[Step]], *, kind: str = "airbyte") -> Connector:
    """Returns the declaration of a connector that follows the plan; its configuration holds a secret."""
    file = folder / "plan.json"
    catalog = CATALOG if kind == "airbyte" else TAP_CATALOG
    file.write_text(json.dumps({"discover": [catalog], **plan}))
    # Without packages an interpreter starts in half the time.
    return Connector((sys.executable, "-I", "-S", str(connector.__file__), kind, str(file)), {"token": Variable("CHILD_TOKEN")})


def installed(
    folder: Path, plan: Mapping[str, Sequence[Step]], *, kind: str = "airbyte", limits: Limits = QUICK
) -> InstalledConnector:
    return InstalledConnector(write_plan(folder, plan, kind=kind), {**os.environ, "CHILD_TOKEN": SECRET}, limits)


def never() -> threading.Event:
    return threading.Event()


START = datetime(2026, 1, 2, tzinfo=UTC)
THING = replace(collection(observes_time=True), lists_from_a_start=True)
"""The collection that reads the child's stream."""


def open_child(
    folder: Path,
    *steps: Step,
    kind: str = "airbyte",
    now: datetime = START,
    read: StreamRead = StreamRead("thing"),  # noqa: B008 - a frozen value
    limits: Limits = QUICK,
    plan: Mapping[str, Sequence[Step]] | None = None,
    page_seconds: float = PAGE_SECONDS,
) -> ConnectorSource:
    """A source over the connector that takes these steps when it is read."""
    connector = installed(folder, plan or {"read": steps}, kind=kind, limits=limits)
    protocol: Spoken = Airbyte(connector) if kind == "airbyte" else Singer(connector)
    feed = ConnectorFeed(protocol, {"thing": read}, page_seconds=page_seconds)
    return ConnectorSource(feed, SourceIdentity(kind, "child"), now=lambda: now)


def thing(name: str, second: int, amount: object = 1) -> dict[str, object]:
    return {"id": name, "updated": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "status": "active", "amount": amount}


def good_read(*objects: dict[str, object], state: object = None) -> list[Step]:
    """The steps of a read that ends well."""
    return [
        ["records", "thing", *objects],
        ["state", "thing", state or {"version": "x"}, len(objects)],
        ["status", "thing", "COMPLETE"],
    ]
