"""This module says whose records are forgotten: by hashes, since the ledger must not keep the names of those who have left.

A record belongs to a tenant (`sync.external_id`), to a sync, and is one of a collection. Any of the three may be forgotten. Pure; the
hashes stand in the ledger's table `forgets`, and forgets.py reads them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

SubjectKind = Literal["internal_id", "sync_id", "record"]

HASH_BYTES = 16


@dataclass(frozen=True)
class Subject:
    """This value is who, or what, is to be forgotten: a tenant, a sync, or one record of the collection with that label."""

    kind: SubjectKind
    value: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.label} {self.value}" if self.kind == "record" else f"{self.kind} {self.value}"

    def hashed(self, salt: bytes) -> bytes:
        """Returns what the ledger keeps of it."""
        text = "\0".join((self.kind, self.label, self.value)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=salt, digest_size=HASH_BYTES).digest()


@dataclass(frozen=True)
class Origin:
    """This value is what a record says of its origin; None where it does not tell."""

    label: str
    record_id: str | None
    upstream_id: str | None
    sync_id: str | None
    internal_id: str | None

    def is_of(self, subject: Subject) -> bool:
        """Tells whether the record is one of those that are to be forgotten."""
        match subject.kind:
            case "internal_id":
                return self.internal_id == subject.value
            case "sync_id":
                return self.sync_id == subject.value
            case "record":
                return (self.label, self.record_id) == (subject.label, subject.value)


@dataclass(frozen=True)
class Forgotten:
    """This value knows what is forgotten, as of one `generation` of the ledger's table; 0 where nothing ever was.

    `labels` are the collections of which single records are forgotten.
    """

    generation: int = 0
    salt: bytes = field(default=b"", repr=False)
    hashes: frozenset[bytes] = field(default=frozenset(), repr=False)
    labels: frozenset[str] = frozenset()

    def holds(self, subject: Subject) -> bool:
        """Tells whether just this is forgotten."""
        return bool(self.hashes) and subject.hashed(self.salt) in self.hashes

    def holds_tenant(self, internal_id: str | None, sync_id: str | None) -> bool:
        """Tells whether every record of the tenant or of the sync is forgotten."""
        return (internal_id is not None and self.holds(Subject("internal_id", internal_id))) or (
            sync_id is not None and self.holds(Subject("sync_id", sync_id))
        )

    def holds_record(self, label: str, record_id: str | None) -> bool:
        """Tells whether this one record is forgotten."""
        return record_id is not None and label in self.labels and self.holds(Subject("record", record_id, label))

    def holds_row(self, label: str, record_id: object, sync_id: object, internal_id: object) -> bool:
        """Tells whether a row with these values is forgotten; what is no text tells nothing."""
        if not self.hashes:
            return False
        texts = [one if isinstance(one, str) else None for one in (record_id, sync_id, internal_id)]
        return self.holds_tenant(texts[2], texts[1]) or self.holds_record(label, texts[0])

    def holds_raw(self, label: str, raw: bytes) -> bool:
        """Tells whether a record as it came is forgotten, by whatever it says of its origin."""
        if not self.hashes:
            return False
        origin = read_origin(label, raw)
        return self.holds_tenant(origin.internal_id, origin.sync_id) or self.holds_record(label, origin.record_id)

    def rest(self, label: str, raws: Iterable[bytes]) -> list[bytes]:
        """Returns the records, as they came, that are not forgotten."""
        return [raw for raw in raws if not self.holds_raw(label, raw)]


NOTHING_FORGOTTEN = Forgotten()


def read_origin(label: str, raw: bytes) -> Origin:
    """Reads what a record, sound or not, says of its origin; the rows of frames say it in columns."""
    # Here, so that commands which read the ledger do not wait for Arrow.
    from sequin_pipeline.records.envelope import derived_id

    fields = _members(raw)
    sync = _members(fields.get("sync", b""))
    sync_id = _text(sync.get("id", fields.get("sync_id", b"null")))
    internal_id = _text(sync.get("external_id", fields.get("internal_id", b"null")))
    record_id, upstream_id = _text(fields.get("id", b"null")), _text(fields.get("upstream_id", b"null"))
    if "id" not in fields and sync_id and upstream_id:
        record_id = derived_id(sync_id, label.replace("/", ":", 1), upstream_id)
    return Origin(label, record_id, upstream_id, sync_id, internal_id)


def _members(raw: bytes) -> dict[str, bytes]:
    from sequin_pipeline.records import json_text

    try:
        return json_text.members(raw)
    except (ValueError, RecursionError):
        return {}


def _text(raw: bytes) -> str | None:
    """Returns a text as it is, and of anything else how it is written: 42 is forgotten as `42`."""
    if raw == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except ValueError:
        return raw.decode("utf-8", "replace")
