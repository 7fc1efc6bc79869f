"""This module asks a source for one object by the provider's id, and compares it with what is stored.

Sources without a lookup are read page by page in explain.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import pandas as pd

from sequin_pipeline.catalog import Collection
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.records.forgotten import Subject
from sequin_pipeline.sources import LooksUp, Source
from sequin_pipeline.table.target import collection_target


@dataclass(frozen=True)
class Looked:
    """This value is what a source answered about one object.

    `record_id` None: it does not have it, or, with a `reason`, its record would be rejected. `is_as_stored` says whether the stored
    object is equal to it; None where that cannot be told. `subjects` are what its record could be forgotten by.
    """

    record_id: str | None = None
    reason: str | None = None
    is_as_stored: bool | None = None
    subjects: tuple[Subject, ...] = field(default=(), repr=False)


def look_up(
    source: Source,
    collection: Collection,
    record_id: str,
    *,
    upstream_id: str,
    sync_id: str | None,
    stored: Mapping[str, str | None],
) -> Looked | None:
    """Asks for the object with that id; None where the source has no lookup for it. Raises SourceError.

    `stored` is the row as text, by the table's own names; empty: there is none.
    """
    if not isinstance(source, LooksUp):
        return None
    page = source.look_up(collection.id, upstream_id, sync_id=sync_id)
    if page is None:
        return None
    normalized = Normalizer(collection)(page.records)
    for reject in normalized.rejects:
        return Looked(reason=reject.reason)
    frame = normalized.frame
    of_record = frame[frame["id"] == record_id] if stored else frame
    if not len(of_record):
        return Looked()
    found = of_record.iloc[0]
    subjects = subjects_of(collection, str(found["id"]), found["sync_id"], found["internal_id"])
    return Looked(str(found["id"]), is_as_stored=is_as_stored(collection, found["data"], stored), subjects=subjects)


def subjects_of(collection: Collection, record_id: str, sync_id: object, internal_id: object) -> tuple[Subject, ...]:
    """Returns by what a record of a frame could be forgotten."""
    found = [Subject("record", record_id, collection.label)]
    found += [Subject("internal_id", internal_id)] if isinstance(internal_id, str) else []
    found += [Subject("sync_id", sync_id)] if isinstance(sync_id, str) else []
    return tuple(found)


def is_as_stored(collection: Collection, found: object, stored: Mapping[str, str | None]) -> bool | None:
    """Says whether the object of a frame is equal to that of the row, which is told as text by the table's own names.

    It is None where one of the two has none. In a `json` column only the same bytes are equal.
    """
    target = collection_target(collection)
    data = stored.get(target.column(target.data).table_name) if target.data and target.is_stored(target.data) else None
    if data is None or found is None or found is pd.NA:
        return None
    return data == str(found) if collection.data_type == "json" else _read(data) == _read(str(found))


def _read(text: str) -> object:
    return json.loads(text, parse_float=Decimal)
