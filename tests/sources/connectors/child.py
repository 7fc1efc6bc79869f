"""A connector of ours for tests: what it does is written down step by step, and told to it in a file."""

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sequin_pipeline.reads import Connector, Variable
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.process import Limits
from tests.support import connector

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
    config = {"plan": str(file), "token": Variable("CHILD_TOKEN")}
    return Connector((sys.executable, str(connector.__file__), kind), config)


def installed(
    folder: Path, plan: Mapping[str, Sequence[Step]], *, kind: str = "airbyte", limits: Limits = QUICK
) -> InstalledConnector:
    return InstalledConnector(write_plan(folder, plan, kind=kind), {**os.environ, "CHILD_TOKEN": SECRET}, limits)


def never() -> threading.Event:
    return threading.Event()
