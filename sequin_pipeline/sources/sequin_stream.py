"""This source drains Sequin Stream, the queue of a self-hosted Sequin, and turns each change of a Postgres table into a record.

A collection is `schema:table`. What the messages do not say is decided here: the record's id, its tenant and its version.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.records.partial import partial_data
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.queue import (
    DEFAULT_OPTIONS,
    DELIVERY_MESSAGES,
    WAIT_MILLISECONDS,
    Message,
    QueueSource,
    member,
    text_member,
)
from sequin_pipeline.sources.sequin_stream_keys import OldKeyUnclear, may_have_changed, old_key

VERSIONS_A_COMMIT = 4096
"""The versions of two neighbouring log positions lie this far apart, so that 64 bits hold the log's first 2 PB.

A transaction of more changes runs on into the versions of later positions, which is harmless: another transaction that changes the
same row commits at least 64 bytes of log later, so that its versions are greater unless the first had 262,144 changes, and then too
wherever more log than that lies between them."""

UNCHANGED_TOAST = b'"unchanged_toast"'
"""This stands in an update for a large value that it did not touch, unless the table's replica identity is full."""

EXAMPLES = 8
"""These are other messages of a table that tell the columns of its key, where one alone does not."""

Change = Mapping[str, bytes]
"""These are the members of a message's `data`, as JSON texts."""

DELETED = {"insert": False, "update": False, "read": False, "delete": True}


class SequinStreamSource(QueueSource):
    """This source drains the Sequin Stream sink `consumer` of the server at `url`, with bearer `token`."""

    ack_field = "ack_ids"

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        consumer: str,
        wait_milliseconds: int = WAIT_MILLISECONDS,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> None:
        endpoint = Endpoint(url, token, url_variable="SEQUIN_STREAM_URL", token_variable="SEQUIN_STREAM_TOKEN")  # noqa: S106
        super().__init__(
            endpoint, f"/api/http_pull_consumers/{quote(consumer, safe='')}", wait_milliseconds=wait_milliseconds, options=options
        )
        self.identity = SourceIdentity("sequin_stream", endpoint.base_url, consumer)
        self._examples: dict[str, deque[Change]] = {}

    def _receive(self, http: HttpClient) -> Answer[list[Message]]:
        # Servers of either age take `batch_size`; only newer ones take the name that their documentation gives it.
        content = {"batch_size": DELIVERY_MESSAGES, "max_batch_size": DELIVERY_MESSAGES, "wait_for": self._wait_milliseconds}
        return http.post(f"{self._path}/receive", content, purpose=self._purpose, read=self._read)

    def _message(self, element: bytes) -> Message:
        members = json_text.members(element)
        ack_id = text_member(members, "ack_id")
        try:
            change = json_text.members(members["data"]) if "data" in members else members
            return Message(ack_id, b",".join(records_of_change(change, stream=self.identity.stream, examples=self._examples)))
        except ValueError:
            # Whatever this is, it names no table: it is handed on as it came, and kept as a record that cannot be placed.
            return Message(ack_id, members.get("data", element))


class _Database(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Metadata(msgspec.Struct):
    table_schema: str
    table_name: str
    commit_timestamp: str | None = None
    commit_lsn: int | None = None
    commit_idx: int | None = None
    record_pks: list[str | int] | None = None
    database: _Database | None = None
    database_name: str | None = None


_metadata_decoder = msgspec.json.Decoder(_Metadata)
_text_decoder = msgspec.json.Decoder(str | None)


def records_of_change(change: Change, *, stream: str, examples: dict[str, deque[Change]]) -> list[bytes]:
    """Returns the record of the row that a change tells of and, where an update has changed the key, the tombstone of the old row.

    `examples` keeps some changes of each table from one call to the next. Raises ValueError where the change names no table.
    """
    metadata, row, action = _metadata(change), member(change, "record"), _text_decoder.decode(change.get("action", b"null"))
    table = f"{metadata.table_schema}.{metadata.table_name}"
    known = examples.get(table)
    if known is None:
        known = examples[table] = deque(maxlen=EXAMPLES)
    key = _primary_key(metadata, row)
    records = [_record(change, metadata, key, stream=stream, action=action)]
    # Where the metadata tells no key, the column `id` stands for it, and nobody knows whether it is one.
    if action == "update" and metadata.record_pks and may_have_changed(key, row, change.get("changes", b"null")):
        records += _ended(change, metadata, key, known, stream=stream)
    known.append(change)
    return records


def record_of_change(change: Change, *, stream: str) -> bytes:
    """Turns a change's `record`, `action` and `metadata` into a record's JSON text; raises ValueError where they name no table.

    `upstream_id` is the row's primary key: from the metadata if it tells, else the column `id`; several columns become a JSON
    array. What is missing or unknown is left out, and the record is then rejected for it together with everything that came. Where
    the message does not know some of the row's values, the others are `partial`, and the record is rejected unless somebody
    completes it.
    """
    return records_of_change(change, stream=stream, examples={})[0]


def _record(change: Change, metadata: _Metadata, key: list[str], *, stream: str, action: str | None) -> bytes:
    row = change["record"]
    envelope = _envelope(metadata, key, stream=stream, action=action)
    if UNCHANGED_TOAST in row and action not in ("insert", "read", "delete"):
        changes, values = _changes(change), json_text.members(row)
        # An old value that is told is another one: then this is a text.
        unknown = [name for name, value in values.items() if value == UNCHANGED_TOAST and name not in changes]
        if unknown:
            known = {name: msgspec.Raw(value) for name, value in values.items() if name not in unknown}
            return msgspec.json.encode(envelope | partial_data(known, unknown, why=_why_unknown(metadata, unknown)))
    is_bare = envelope["deleted"] is True and _is_key_only(row, key)
    return msgspec.json.encode(envelope)[:-1] + b',"data":' + (b"null" if is_bare else row) + b"}"


def _ended(change: Change, metadata: _Metadata, key: list[str], examples: Iterable[Change], *, stream: str) -> list[bytes]:
    """Returns the tombstone of the row whose key an update has changed, at the update's version; a reject where that is not clear."""
    row, changes = json_text.members(member(change, "record")), _changes(change)
    told = ((_primary_key(_metadata(one), member(one, "record")), json_text.members(member(one, "record"))) for one in examples)
    try:
        ended = old_key(key, row, changes, told)
    except OldKeyUnclear as unclear:
        envelope = _envelope(metadata, [], stream=stream, action="update")
        # Without an id: nothing that is stored of the new key settles it.
        refused = {"refused": str(unclear), "key": key, "changes": msgspec.Raw(change["changes"]), "data": False}
        return [msgspec.json.encode(envelope | refused)]
    if ended is None:
        return []
    envelope = _envelope(metadata, ended, stream=stream, action="update")
    return [msgspec.json.encode(envelope | {"deleted": True, "data": None})]


def _metadata(change: Change) -> _Metadata:
    return _metadata_decoder.decode(member(change, "metadata"))


def _changes(change: Change) -> dict[str, bytes]:
    """Returns the old values of the columns that an update has changed, as far as it tells them."""
    raw = change.get("changes", b"null")
    return json_text.members(raw) if raw[:1] == b"{" else {}


def _envelope(metadata: _Metadata, key: list[str], *, stream: str, action: str | None) -> dict[str, object]:
    """Returns what a record of the change begins with; `key` empty: without an id.

    The order stays as it is: rejects are known again by their bytes.
    """
    # Messages of the kind `record` have no action: each is the row as it is.
    deleted: bool | str = DELETED.get(action, action) if action is not None else False
    envelope: dict[str, object] = {
        "collection_id": f"{metadata.table_schema}:{metadata.table_name}",
        "provider": metadata.table_schema,
        "stream_id": stream,
        "sync": {
            "id": (metadata.database and metadata.database.id) or metadata.database_name or stream,
            "external_id": None,
            "metadata": {},
        },
        "deleted": deleted,
        "inserted_at": metadata.commit_timestamp,
    }
    if key:
        envelope |= _named(envelope, key)
    version = version_of(metadata.commit_lsn, metadata.commit_idx, action=action)
    if version is not None:
        envelope["updated_idx"] = version
    return envelope


def _named(envelope: Mapping[str, object], key: list[str]) -> dict[str, object]:
    sync: Any = envelope["sync"]  # as _envelope made it
    upstream_id = key[0] if len(key) == 1 else msgspec.json.encode(key).decode()
    return {"id": derived_id(sync["id"], str(envelope["collection_id"]), upstream_id), "upstream_id": upstream_id}


def _why_unknown(metadata: _Metadata, unknown: list[str]) -> str:
    table = f"{metadata.table_schema}.{metadata.table_name}"
    return (
        f"of {', '.join(unknown)} the message leaves out the value, which its change did not touch, and no object stored here tells it: "
        f"set REPLICA IDENTITY FULL on the source table {table}, and have the row sent again. A table with managed: false stores "
        "objects only where its columns map data"
    )


def version_of(commit_lsn: int | None, commit_idx: int | None, *, action: str | None = None) -> int | None:
    """Returns the version of a row: greater for what was committed later, and within one transaction for what was changed later.

    A row of a backfill for which the server tells no position is older than any known change; any other change without a position
    has the version None.
    """
    if commit_lsn is None:
        return 0 if action == "read" else None
    return commit_lsn * VERSIONS_A_COMMIT + (commit_idx or 0)


def _primary_key(metadata: _Metadata, row: bytes) -> list[str]:
    """Returns the values of the key's columns as texts; the list is empty where they cannot be told."""
    if metadata.record_pks is not None:
        return [str(value) for value in metadata.record_pks]
    found = json_text.members(row).get("id", b"null")
    return [] if found == b"null" else [str(msgspec.json.decode(found, type=str | int))]


def _is_key_only(row: bytes, key: list[str]) -> bool:
    """Returns True where a delete carries only the key, as under REPLICA IDENTITY DEFAULT.

    Its nulls are not values and must not replace any.
    """
    values = [value for value in json_text.members(row).values() if value != b"null"]
    return all(value.strip(b'"').decode() in key for value in values)
