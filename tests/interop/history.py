"""A history of subscriptions, what must come of it, and the pipeline's part in it."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import uuid4

from sequin_pipeline.catalog import Collection
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from tests.interop.apps import App
from tests.support.builders import ListSource, live_run_config, record

Record = dict[str, object]
Row = dict[str, object]

CREATED_AT = datetime(2024, 3, 31, 0, 30, 0, 123_000, tzinfo=UTC)
"""In the night in which Europe changes its clocks: half an hour that Berlin does not have is among the next."""
PERIOD_END = 1_711_848_600
STATUSES = ("active", "past_due", "canceled")


def subscription(number: int, version: int) -> Record:
    """Of each eight, one ends as a bare tombstone, one as a full one, and one comes back."""
    is_deleted = (version >= 4 and number % 8 in (1, 2)) or (version == 4 and number % 8 == 3)
    is_bare = is_deleted and number % 8 != 2
    created_at = CREATED_AT + timedelta(minutes=30 * number)
    data = {
        "customer": f"cus_{number}",
        "status": STATUSES[version % 3],
        "items": {"data": [{"quantity": number + version, "price": {"id": f"price_{version}"}}]},
        "current_period_end": PERIOD_END + 86_400 * version + number,
        "metadata": {"it's": 'a "test"', "version": str(version)} if number % 2 else {},
    }
    return record(
        f"rec_{number:02}",
        3_000_000_000 + version,
        collection_id="stripe:subscription",
        provider="stripe",
        sync={"id": f"s{number % 3}", "external_id": f"tenant-{number % 3}" if number % 3 else None, "metadata": {}},
        upstream_id=f"sub_{number}",
        inserted_at=(created_at + timedelta(days=version)).isoformat(),
        upstream_created_at=created_at.astimezone().isoformat(),
        upstream_updated_at=None if version == 1 else (created_at + timedelta(hours=version, milliseconds=version)).isoformat(),
        deleted=is_deleted,
        data=({} if number % 2 else None) if is_bare else data,
    )


def history(numbers: Iterable[int], versions: Sequence[int]) -> list[Record]:
    """Version after version of all of them: what a stream would show somebody who reads along."""
    chosen = [*numbers]
    return [subscription(number, version) for version in versions for number in chosen]


def fold(records: Iterable[Record]) -> list[Row]:
    """The rows that must stand in the table in the end, by properties of the applications."""
    rows: dict[str, tuple[int, Row]] = {}
    for one in records:
        record_id, version = str(one["id"]), int(str(one["updated_idx"]))
        stored_version, stored = rows.get(record_id, (0, {}))
        if stored_version <= version:
            rows[record_id] = (version, {**stored, **_envelope(one), **_object(one)})
    return [row for _, (_, row) in sorted(rows.items())]


def _envelope(one: Record) -> Row:
    sync = one["sync"]
    assert isinstance(sync, dict)
    return {
        "id": one["id"],
        "upstreamId": one["upstream_id"],
        "internalId": sync["external_id"],
        "syncId": sync["id"],
        "updatedIdx": str(one["updated_idx"]),
        "deleted": one["deleted"],
        "upstreamCreatedAt": instant(one["upstream_created_at"]),
        "upstreamUpdatedAt": instant(one["upstream_updated_at"]),
    }


def _object(one: Record) -> Row:
    data = one["data"]
    if not data:
        return {}
    assert isinstance(data, dict)
    item = data["items"]["data"][0]
    return {
        "customerId": data["customer"],
        "status": data["status"],
        "planId": item["price"]["id"],
        "quantity": str(item["quantity"]),
        "currentPeriodEnd": datetime.fromtimestamp(data["current_period_end"], UTC),
        "metadata": data["metadata"],
    }


def instant(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text)).astimezone(UTC)


def seen(rows: Iterable[Row]) -> list[Row]:
    """What an application printed, in the fold's terms: camelCase, instants, whole numbers as strings, without the two stamps."""
    return [
        {
            name: _value(name, value)
            for printed, value in row.items()
            if (name := re.sub(r"_([a-z])", lambda letter: letter[1].upper(), printed)) not in ("insertedAt", "updatedAt")
        }
        for row in rows
    ]


def _value(name: str, value: object) -> object:
    if name.endswith("At") or name == "currentPeriodEnd":
        return instant(value)
    return str(value) if name in ("updatedIdx", "quantity") and value is not None else value


@cache
def collection_of(folder: Path) -> Collection:
    """As the defs.yaml of an example declares it."""
    return load_collections({"SEQUIN_COLLECTIONS": str(folder)})["stripe/subscription"]


def deliver(app: App, records: Sequence[Record]) -> SyncOutcome:
    """One run of the pipeline that reads them from the beginning, in small pages and batches."""
    pages = [records[start : start + 10] for start in range(0, len(records), 10)]
    stream = RecordStream(live_run_config(collection_of(app.collections), full_refresh=True), ListSource(pages))
    return run_sync(stream, Warehouse(app.url), run_id=str(uuid4()), batch_records=10)
