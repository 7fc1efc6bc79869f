"""This module writes an API's objects as records in the envelope of the records API.

The object itself stays as it came, byte for byte.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from sequin_pipeline.records.envelope import IdDeriver
from sequin_pipeline.sources.keyed.shape import Found, Shape, ValueReader
from sequin_pipeline.sources.keyed.times import MICROSECOND, SKEW, iso_of, micros, moment_of

FURTHEST_AHEAD = timedelta(days=1)
"""A version further ahead of our clock is a wrong time: believed, it would keep every later version of the object out."""

_NOT_GONE = re.compile(r"\s*(?:false|f|no|n|off|null|none|[-0:.TZ\s]*)\s*", re.IGNORECASE)
"""Texts that deny: some APIs write a flag as a text, or a column of MySQL that holds no time as one of zeros."""

_SKEW_MICROS = SKEW // MICROSECOND
_encode_id = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Written:
    """This value is what was written of some objects: the records, in their order, and the ids of those that have one.

    `unreadable` counts the records without: nobody can say which objects they are, and they become rejects.
    """

    records: tuple[bytes, ...] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    unreadable: int


class RecordWriter:
    """A writer writes objects of one collection, read since `started`. `floor` is the least version that a record gets."""

    def __init__(
        self,
        shape: Shape,
        *,
        collection_id: str,
        sync_id: str,
        started: datetime,
        floor: int,
        external_id: str | None = None,
    ) -> None:
        self._shape = shape
        self._reader = ValueReader(shape.paths)
        self._places = _places(shape)
        self._id_of = IdDeriver(sync_id, collection_id)
        self._has_one_key = len(shape.key) == 1
        self._started, self._started_text, self._floor = micros(started), started.isoformat(), floor
        belonging = {
            "collection_id": collection_id,
            "provider": collection_id.partition(":")[0],
            "sync": {"id": sync_id, "external_id": external_id, "metadata": {}},
        }
        self._belonging = msgspec.json.encode(belonging)[1:-1]
        self._latest = self._started + FURTHEST_AHEAD // MICROSECOND
        # Without a version in the object it is our own clock that tells versions apart, and that is behind nobody's.
        self._unversioned = max(floor, self._started if shape.version is None else self._started - _SKEW_MICROS)

    def write(self, objects: Sequence[bytes | msgspec.Raw], values: Sequence[Found | None] | None = None) -> Written:
        """Writes a record for each object; `values` are those of the shape's paths, where they have been read already."""
        records, ids = [], []
        for element, found in zip(objects, map(self._reader.read, objects) if values is None else values, strict=True):
            upstream_id = None if found is None else self._upstream_id(element, found)
            if found is None or upstream_id is None:
                records.append(self._write_unreadable(element))
                continue
            record_id = self._id_of(upstream_id)
            ids.append(record_id)
            records.append(self._write(element, found, record_id, upstream_id))
        return Written(tuple(records), tuple(ids), len(records) - len(ids))

    def ids(self, objects: Sequence[bytes | msgspec.Raw]) -> tuple[tuple[str, ...], int]:
        """Returns the ids of objects that are only counted as being there, and how many of them have none."""
        ids = []
        for element in objects:
            found = self._reader.read(element)
            upstream_id = None if found is None else self._upstream_id(element, found)
            if upstream_id is not None:
                ids.append(self._id_of(upstream_id))
        return tuple(ids), len(objects) - len(ids)

    def _upstream_id(self, element: bytes | msgspec.Raw, found: Found) -> str | None:
        """Returns the key as text: that of several values is a JSON array. None where one of them is absent, empty or no scalar."""
        if self._has_one_key:
            key = found[0]
            if type(key) is str:
                return key or None
            if type(key) is int:
                return str(key)
        keys = found[: len(self._shape.key)]
        if any(type(key) is float for key in keys):
            keys = (self._reader.read_exactly(bytes(element)) or ())[: len(self._shape.key)]
        texts = [key if isinstance(key, str) else str(key) if type(key) is int else "" for key in keys]
        if not texts or not all(texts):
            return None
        return texts[0] if self._has_one_key else _encode_id(keys)

    def _write(self, element: bytes | msgspec.Raw, found: Found, record_id: str, upstream_id: str) -> bytes:
        version_at, created_at, deleted_at = self._places
        version = created = created_text = version_text = None
        if version_at is not None and (version := moment_of(found[version_at])) is not None:
            version_text = iso_of(found[version_at], version)
        if created_at is not None and (created := moment_of(found[created_at])) is not None:
            created_text = iso_of(found[created_at], created)
        entered, entered_text = (version, version_text) if created is None else (created, created_text)
        if entered is None or entered_text is None or entered > self._started:
            entered_text = self._started_text
        return b'{"id":"%b","upstream_id":%b,"updated_idx":%d,"deleted":%b,"inserted_at":"%b"%b%b,%b,"data":%b}' % (
            record_id.encode(),
            msgspec.json.encode(upstream_id),
            self._unversioned if version is None else max(self._floor, min(version, self._latest)),
            b"true" if deleted_at is not None and _claims(found[deleted_at]) else b"false",
            entered_text.encode(),
            b"" if created_text is None else b',"upstream_created_at":"%b"' % created_text.encode(),
            b"" if version_text is None else b',"upstream_updated_at":"%b"' % version_text.encode(),
            self._belonging,
            element,
        )

    def _write_unreadable(self, element: bytes | msgspec.Raw) -> bytes:
        key = " and ".join(repr(".".join(path)) for path in self._shape.key)
        refused = f"the object has no usable key at {key}, where a string or a number was expected: fix `key`, or the object at its source"
        return b'{%b,"refused":%b,"data":%b}' % (self._belonging, msgspec.json.encode(refused), element)


def _places(shape: Shape) -> tuple[int | None, int | None, int | None]:
    """Returns where version, creation and deletion stand among the values read, None for each that is not declared."""
    places: list[int | None] = []
    at = len(shape.key)
    for path in (shape.version, shape.created, shape.deleted):
        places.append(None if path is None else at)
        at += path is not None
    return places[0], places[1], places[2]


def _claims(flag: Any) -> bool:  # Any: a flag is true or false, or a time of deletion, or something counted
    return _NOT_GONE.fullmatch(flag) is None if isinstance(flag, str) else bool(flag)


def write_page(records: Sequence[bytes]) -> bytes:
    """Writes the records as the text of an array."""
    return b"[" + b",".join(records) + b"]"
