"""This module writes the JSON text of a record once when its version comes in, reads its envelope, rewrites it to the older form.

`data` is only ever copied, never read: numbers, escapes and repeated keys go out exactly as they came in.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from sequin_pipeline.sandbox.records import Change
from sequin_pipeline.sandbox.stream import Entry

FIRST_VERSION = 2**33
"""Versions lie above what 32 bits hold, signed or not, as the documented samples do."""

_RECORD_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://api.sequin.io/v1/records")

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WHITESPACE = " \t\r\n"


def entry_of_change(change: Change, position: int) -> Entry:
    """Returns the record that a change leaves in the stream; its version follows from its position."""
    record_id = _record_id(change.sync.id, change.collection_id, change.upstream_id)
    envelope = {
        "id": record_id,
        "collection_id": change.collection_id,
        "provider": change.sync.provider,
        "stream_id": change.sync.stream_id,
        "sync": {"id": change.sync.id, "external_id": change.sync.external_id, "metadata": change.sync.metadata},
        "upstream_id": change.upstream_id,
        "updated_idx": FIRST_VERSION + position,
        "deleted": change.deleted,
        "inserted_at": _iso(change.changed_at),
        "upstream_created_at": _iso(change.upstream_created_at),
        "upstream_updated_at": _iso(change.upstream_updated_at),
    }
    body = msgspec.json.encode(envelope)[:-1] + b',"data":' + (change.data or b"null") + b"}"
    return Entry(position, record_id, change.collection_id, change.sync.id, change.sync.provider, body)


def entry_of_line(line: bytes, position: int) -> Entry:
    """Returns the record that a line of JSON is, in either form, kept byte for byte.

    Any JSON value is taken, so that a reader can be shown bad records: what cannot be told of it is None. Raises ValueError when
    the line is not JSON.
    """
    record = members_of(line)
    sync_id = _text(record.get("sync_id")) or _text(members_of(record.get("sync", b"null")).get("id"))
    collection_id = _text(record.get("collection_id")) or _text(record.get("collection"))
    upstream_id = _text(record.get("upstream_id"))
    provider = _text(record.get("provider")) or (collection_id.partition(":")[0] if collection_id else None)
    key = _text(record.get("id"))
    if key is None and sync_id and collection_id and upstream_id:
        key = _record_id(sync_id, collection_id, upstream_id)
    return Entry(position, key, collection_id, sync_id, provider, line)


def older_form(body: bytes) -> bytes:
    """Returns the record as the older API sent it: a flat `sync_id`, `collection`, `created_at`, no `id`, `provider`, `stream_id`."""
    record = members_of(body)
    if not record:
        return body
    renamed = {"collection_id": "collection", "inserted_at": "created_at"}
    older: dict[str, bytes] = {}
    for name, value in record.items():
        if name == "sync":
            older["sync_id"] = members_of(value).get("id", b"null")
        elif name not in ("id", "provider", "stream_id"):
            older[renamed.get(name, name)] = value
    return b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in older.items()) + b"}"


def sync_of(body: bytes) -> tuple[str | None, Mapping[str, object]]:
    """Returns `external_id` and `metadata` of the sync that a record names."""
    sync = members_of(members_of(body).get("sync", b"null"))
    metadata = json.loads(sync.get("metadata", b"null"))
    return _text(sync.get("external_id")), metadata if isinstance(metadata, dict) else {}


def members_of(text: bytes) -> dict[str, bytes]:
    """Returns an object's members by name, each as JSON text, or none for any other JSON value; raises ValueError."""
    if not text.isascii():
        text.decode()  # msgspec does not look into strings that it skips
    try:
        return {name: bytes(value) for name, value in _MEMBERS.decode(text).items()}
    except msgspec.ValidationError:
        return {}
    except msgspec.DecodeError:
        return _lenient_members(text.decode())


def _record_id(sync_id: str, collection_id: str, upstream_id: str) -> str:
    name = f"{sync_id}\n{collection_id}\n{upstream_id}"
    return str(uuid.uuid5(_RECORD_NAMESPACE, name.encode(errors="backslashreplace").decode()))


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None


def _text(value: bytes | None) -> str | None:
    decoded = json.loads(value) if value is not None and value.startswith(b'"') else None
    return decoded if isinstance(decoded, str) else None


def _lenient_members(text: str) -> dict[str, bytes]:
    """Reads with Python's parser what msgspec refuses but the JSON grammar allows: lone surrogates as escapes."""
    if not isinstance(json.loads(text, parse_int=str, parse_constant=_refuse_constant), dict):
        return {}
    decoder = json.JSONDecoder(parse_int=str)
    members: dict[str, bytes] = {}
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = decoder.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)
        _, end = decoder.raw_decode(text, start)
        members[name] = text[start:end].encode()
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return members


def _skip(text: str, position: int) -> int:
    while text[position] in _WHITESPACE:
        position += 1
    return position


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
