"""This module writes an API's objects as records in the envelope of the records API: the object itself stays as it came, byte for
byte."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.sources.keyed.shape import Found, Shape, ValueReader
from sequin_pipeline.sources.keyed.times import MICROSECOND, SKEW, iso, micros, moment_of

FURTHEST_AHEAD = timedelta(days=1)
"""A version further ahead of our clock is a wrong time: believed, it would keep every later version of the object out."""

_SKEW_MICROS = SKEW // MICROSECOND
_encode_id = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Written:
    """What was written of some objects: the records, in their order, and the ids of those that have one.

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
        optional = (shape.version, shape.created, shape.deleted)
        self._reader = ValueReader([*shape.key, *(path for path in optional if path is not None)])
        self._places = _places(shape)
        self._collection_id, self._sync_id = collection_id, sync_id
        self._started, self._floor = micros(started), floor
        belonging = {
            "collection_id": collection_id,
            "provider": collection_id.partition(":")[0],
            "sync": {"id": sync_id, "external_id": external_id, "metadata": {}},
        }
        self._belonging = msgspec.json.encode(belonging)[1:-1]
        self._latest = self._started + FURTHEST_AHEAD // MICROSECOND
        # Without a version in the object it is our own clock that tells versions apart, and that is behind nobody's.
        self._unversioned = max(floor, self._started if shape.version is None else self._started - _SKEW_MICROS)

    def write(self, objects: Sequence[bytes | msgspec.Raw]) -> Written:
        """Writes a record for each object."""
        records, ids = [], []
        for element in objects:
            found = self._reader.read(element)
            upstream_id = None if found is None else self._upstream_id(found)
            if found is None or upstream_id is None:
                records.append(self._write_unreadable(element))
                continue
            record_id = derived_id(self._sync_id, self._collection_id, upstream_id)
            ids.append(record_id)
            records.append(self._write(element, found, record_id, upstream_id))
        return Written(tuple(records), tuple(ids), len(records) - len(ids))

    def ids(self, objects: Sequence[bytes | msgspec.Raw]) -> tuple[tuple[str, ...], int]:
        """Returns the ids of objects that are only counted as being there, and how many of them have none."""
        ids = []
        for element in objects:
            found = self._reader.read(element)
            upstream_id = None if found is None else self._upstream_id(found)
            if upstream_id is not None:
                ids.append(derived_id(self._sync_id, self._collection_id, upstream_id))
        return tuple(ids), len(objects) - len(ids)

    def _upstream_id(self, found: Found) -> str | None:
        """Returns the key as text: that of several values is a JSON array. None where one of them is absent, empty or no scalar."""
        keys = found[: len(self._shape.key)]
        texts = [key if isinstance(key, str) else str(key) if type(key) is int else "" for key in keys]
        if not all(texts):
            return None
        return texts[0] if len(texts) == 1 else _encode_id(keys)

    def _write(self, element: bytes | msgspec.Raw, found: Found, record_id: str, upstream_id: str) -> bytes:
        version_at, created_at, deleted_at = self._places
        version = None if version_at is None else moment_of(found[version_at])
        created = None if created_at is None else moment_of(found[created_at])
        entered = min(next((moment for moment in (created, version) if moment is not None), self._started), self._started)
        index = self._unversioned if version is None else max(self._floor, min(version, self._latest))
        return b'{"id":"%b","upstream_id":%b,"updated_idx":%d,"deleted":%b,"inserted_at":%b%b%b,%b,"data":%b}' % (
            record_id.encode(),
            msgspec.json.encode(upstream_id),
            index,
            b"true" if deleted_at is not None and _claims(found[deleted_at]) else b"false",
            _quoted(entered) or _quoted(self._started),
            _member(b"upstream_created_at", created),
            _member(b"upstream_updated_at", version),
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
    return flag not in ("", "false") if isinstance(flag, str) else bool(flag)


def _quoted(moment: int) -> bytes:
    text = iso(moment)
    return b"" if text is None else b'"%b"' % text.encode()


def _member(name: bytes, moment: int | None) -> bytes:
    quoted = b"" if moment is None else _quoted(moment)
    return b',"%b":%b' % (name, quoted) if quoted else b""


def write_page(records: Sequence[bytes]) -> bytes:
    """Writes the records as the text of an array."""
    return b"[" + b",".join(records) + b"]"
