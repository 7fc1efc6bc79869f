"""A tenant who leaves: records that are marked wherever a record can be, and those of others."""

from sequin_pipeline.records.forgotten import Subject
from tests.support.builders import record

MARKER = "Xq7Marker"
TENANT = Subject("internal_id", MARKER)
SYNC = Subject("sync_id", f"sync-{MARKER}")
ONE = Subject("record", f"one-{MARKER}", "demo/thing")


def theirs(record_id: str, version: int = 1, **overrides: object) -> dict[str, object]:
    """A record of the tenant who leaves, marked wherever a record can be."""
    marked = {"sync": {"id": f"sync-{MARKER}", "external_id": MARKER}, "upstream_id": f"up-{record_id}-{MARKER}"}
    values = {"data": {"status": f"of {MARKER}", "amount": version}, **marked, **overrides}
    return record(f"{record_id}-{MARKER}", version, **values)


def stays(record_id: str, version: int = 1, **overrides: object) -> dict[str, object]:
    return record(record_id, version, **overrides)
