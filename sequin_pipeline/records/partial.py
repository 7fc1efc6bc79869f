"""This module writes, reads and completes records whose message did not know all values of the object.

Such a record has no `data`. `partial` holds the members that are known, `unknown` names the others, and `refused` is the reason for the
reject that the record becomes unless an older version tells the missing values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from sequin_pipeline.records import json_text

MARK = b'"partial":'
"""This stands in every page that holds such a record, and in few others: to look for it costs nothing beside parsing the page."""

_APART = ("partial", "unknown", "refused", "data", "deleted", "updated_idx", "inserted_at")


def partial_data(known: Mapping[str, msgspec.Raw], unknown: Sequence[str], *, why: str) -> dict[str, object]:
    """Returns the members that such a record has in place of `data`."""
    return {"refused": why, "partial": known, "unknown": unknown, "data": False}


@dataclass(frozen=True)
class Version:
    """This value is one version of an object, as delivered or as stored; `values` are by member, None where it carries no object.

    `unknown` are the members that it has without telling their values. `since` are the versions that told values which are older than
    this one. `fields` are the record's own members but those named here; `inserted_at` is its JSON text.
    """

    number: int
    is_deleted: bool
    inserted_at: bytes
    values: Mapping[str, bytes] | None = field(repr=False)
    unknown: tuple[str, ...] = ()
    since: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def is_bare(self) -> bool:
        """This is true where it is a tombstone that leaves the object as it is."""
        return self.is_deleted and not self.values

    def told_at(self, name: str) -> int:
        """Returns the version that told the value of a member."""
        return self.since.get(name, self.number)

    def record(self) -> bytes:
        """Returns its JSON text, with all that is known of the object."""
        own = {
            "updated_idx": str(self.number).encode(),
            "deleted": b"true" if self.is_deleted else b"false",
            "inserted_at": self.inserted_at,
            "data": b"null" if self.values is None else _object(self.values),
        }
        return _object({**self.fields, **own})


def read_version(record: bytes) -> Version:
    """Reads a record; raises ValueError for one without a version, whose reject is not decided here."""
    members = json_text.members(record)
    raw = members.get("partial", members.get("data", b"null"))
    return Version(
        number=msgspec.json.decode(members.get("updated_idx", b"null"), type=int),
        is_deleted=members.get("deleted", b"false") == b"true",
        inserted_at=members.get("inserted_at", b"null"),
        values=json_text.members(raw) if raw[:1] == b"{" else None,
        unknown=tuple(msgspec.json.decode(members["unknown"], type=list[str])) if "partial" in members else (),
        fields={name: value for name, value in members.items() if name not in _APART},
    )


def put_behind(held: Version | None, came: Version) -> tuple[Version | None, Version | None]:
    """Returns what is held of an object once a version of it has come, and what to deliver in its place (None: as it came).

    Of each member the value of the greatest version that told it stands, in whichever order they come.
    """
    if held is not None and came.number < held.number:
        return _put_before(held, came)
    if came.is_bare:
        values, since = (None, {}) if held is None or held.values is None else (held.values, _told(held, held.values))
        return replace(came, values=values, since=since), None
    if not came.unknown:
        return came, None
    if held is None or held.values is None or not held.values.keys() >= {*came.unknown}:
        return held, None
    taken = {name: held.values[name] for name in came.unknown}
    whole = replace(came, values={**(came.values or {}), **taken}, unknown=(), since=_told(held, taken))
    return whole, whole


def _put_before(held: Version, late: Version) -> tuple[Version, Version | None]:
    """Takes from a late version what the newer one has from a version before it."""
    told = late.values or {}
    newer = {
        name: told[name]
        for name in held.values or {}
        if name in told and name not in late.unknown and held.told_at(name) < late.number
    }
    if not newer:
        return held, replace(late, unknown=()) if late.unknown else None
    since = {**held.since, **dict.fromkeys(newer, late.number)}
    better = replace(held, values={**(held.values or {}), **newer}, since=since, fields={**late.fields, **held.fields})
    return better, better


def _told(held: Version, names: Mapping[str, bytes]) -> dict[str, int]:
    return {name: held.told_at(name) for name in names}


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in members.items()) + b"}"
