"""This module declares the record's own fields, once.

The frame's schema, the readers of pages, a table's columns and the records that the pipeline writes itself derive from this
table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True)
class RecordField:
    """This value is a field of every record: `name` is its column, `path` where it stands in the record.

    `is_always_given`: in the usual form of a record it has a value; null is the older form, or a fault. `is_nullable` is the column's.
    """

    name: str
    path: tuple[str, ...]
    type: Literal["text", "bigint", "boolean", "timestamptz"]
    description: str
    is_always_given: bool = True
    is_nullable: bool = True


FIELDS = (
    RecordField("id", ("id",), "text", "the record's id in the stream, unique across syncs and providers", is_nullable=False),
    RecordField(
        "upstream_id", ("upstream_id",), "text", "id of the object at the provider, unique only within one sync and collection"
    ),
    RecordField(
        "internal_id",
        ("sync", "external_id"),
        "text",
        "the sync's external_id: the id of the tenant in your system",
        is_always_given=False,
    ),
    RecordField(
        "sync_id", ("sync", "id"), "text", "the sync that delivered the record: one connection to one account of the provider"
    ),
    RecordField("updated_idx", ("updated_idx",), "bigint", "version of the record: greater is newer", is_nullable=False),
    RecordField(
        "deleted",
        ("deleted",),
        "boolean",
        "true once the object was deleted at the provider (a tombstone)",
        is_always_given=False,
        is_nullable=False,
    ),
    RecordField("record_inserted_at", ("inserted_at",), "timestamptz", "when this version entered the stream"),
    RecordField(
        "upstream_created_at",
        ("upstream_created_at",),
        "timestamptz",
        "when the object was created at the provider",
        is_always_given=False,
    ),
    RecordField(
        "upstream_updated_at",
        ("upstream_updated_at",),
        "timestamptz",
        "when the object last changed at the provider",
        is_always_given=False,
    ),
)
"""These stand in the order of the frame's columns and of a table's."""

FIELD_NAMES = tuple(field.name for field in FIELDS)

STAMPS: Mapping[str, str] = {
    "inserted_at": "when the row was created in this table; never changes",
    "updated_at": "when the row last changed in this table; moves only when something changed",
}
"""The record does not bring these columns: they take the present moment."""

VALIDITY: Mapping[str, str] = {
    "valid_from": "since when this version has held, by the provider's time where it tells one",
    "valid_to": "until when this version held: since then the next one has; null: it holds",
}
"""A history table has these columns beside those of its table."""

RECORD_COLUMNS: Mapping[str, str] = {
    **{field.name: field.description for field in FIELDS[:6]},
    **STAMPS,
    **{field.name: field.description for field in FIELDS[6:]},
    "data": "the provider's object, whole",
    "content_hash": "hash of everything written from the record: equal means unchanged",
}
"""Every managed table has these columns, with these comments; a declared column must not take one of their names."""

CHILD_COLUMNS: Mapping[str, str] = {
    "parent_id": "the id of the record in whose object the element stands",
    "position": "where the element stands in its list, from 0 on",
    "name": "the name of the member",
    "sync_id": "the parent's sync_id",
    "internal_id": "the parent's internal_id",
    "updated_idx": "the parent's version with which this row was last written",
    "deleted": "true once the parent was deleted",
    **STAMPS,
    "data": "the element, whole",
}
"""Child tables have these columns, with these comments; a declared column of a child must not take one of their names."""


def compose_envelope(collection_id: str, values: Mapping[str, object]) -> dict[str, Any]:
    """Returns a record of these values by column, without an object, as the source would have sent it."""
    envelope: dict[str, Any] = {"id": values["id"], "collection_id": collection_id, "sync": {"id": values["sync_id"]}}
    for field in FIELDS:
        *parents, name = field.path
        place = envelope
        for parent in parents:
            place = place[parent]
        value = values[field.name]
        place[name] = value.isoformat() if isinstance(value, datetime) else value
    return envelope
