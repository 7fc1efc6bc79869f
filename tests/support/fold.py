"""What a table must hold, and what each batch must count, in plain Python: the promise of the merge, written down a second time.

Knows nothing of frames, SQL or batches' inner life. One record after another: for each id the greatest version stands, and of equal
ones the last delivered. Where versions are times of observation, a row that a batch leaves as it was keeps its version and time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

Record = Mapping[str, object]
Tally = dict[str, Counter[str]]


@dataclass(frozen=True)
class Row:
    """What stands in the table: the version, the object with the columns that come from it, and when the provider made it."""

    version: int
    is_deleted: bool
    inserted_at: datetime | None
    marker: object
    data: object
    created_at: object = None

    def columns(self) -> tuple[object, ...]:
        """As the tests read it back: version, deleted, time, marker, status, amount, data."""
        found = self.data if isinstance(self.data, dict) else {}
        return (
            self.version,
            self.is_deleted,
            self.inserted_at,
            self.marker,
            found.get("status"),
            found.get("amount"),
            self.data,
        )


@dataclass
class Fold:
    """The rows, and the versions of removed ones; `reached` is the greatest version of each id that was delivered, and `cases` are the
    special cases met on the way."""

    removes: bool
    window_keys: Sequence[str]
    window_starts: Sequence[datetime]
    rows: dict[str, Row] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    rejected: set[bytes] = field(default_factory=set)
    cases: set[str] = field(default_factory=set)
    observes_time: bool = False

    def deliver(self, record: Record) -> None:
        """One record that can be stored."""
        record_id, incoming = str(record["id"]), row_of(record)
        self.reached[record_id] = max(incoming.version, self.reached.get(record_id, 0))
        stored = self.rows.get(record_id)
        floor = max(stored.version if stored else 0, self.removed.get(record_id, 0))
        if incoming.version < floor:
            self._note_late(stored)
            return
        self._note(record_id, stored, incoming)
        if incoming.is_deleted and self.removes:
            self.rows.pop(record_id, None)
            self.removed[record_id] = incoming.version
            return
        if is_bare(record):
            incoming = replace(incoming, data=stored.data if stored else None)
        self.rows[record_id] = incoming

    def deliver_batch(self, records: Sequence[Record], rejected: Sequence[bytes]) -> Tally:
        """A batch as a whole; returns its counts by key of the window, without those that are zero."""
        before, gone_before = dict(self.rows), dict(self.removed)
        newest: dict[str, Record] = {}
        tally: Tally = {}
        for record in records:
            self.deliver(record)
            rival = newest.setdefault(str(record["id"]), record)
            if rival is record:
                continue
            loser = rival if row_of(record).version >= row_of(rival).version else record
            newest[str(record["id"])] = record if loser is rival else rival
            tally.setdefault(self.window_of(loser), Counter()).update(fetched=1, duplicate=1)
        if self.observes_time:
            self._keep_times(before, gone_before)
        for record_id, record in newest.items():
            fate = self._fate(record, before.get(record_id), gone_before.get(record_id))
            tally.setdefault(self.window_of(record), Counter()).update({"fetched": 1, **fate})
        if rejected:
            self.rejected.update(rejected)
            latest = max((self.window_of(record) for record in newest.values()), default=self.window_keys[-1])
            tally.setdefault(latest, Counter()).update(fetched=len(rejected), rejected=len(rejected))
        if len({self.window_of(record) for record in newest.values()}) > 1:
            self.cases.add("a batch over several windows")
        self._note_carried(records, newest)
        return tally

    def _keep_times(self, before: Mapping[str, Row], gone_before: Mapping[str, int]) -> None:
        """What came and went within the batch was never there."""
        for record_id, stored in before.items():
            found = self.rows.get(record_id)
            if found is None or found != replace(stored, version=found.version, inserted_at=found.inserted_at):
                continue
            self.rows[record_id] = stored
            self.removed.pop(record_id, None)
            if record_id in gone_before:
                self.removed[record_id] = gone_before[record_id]
            if found.version > stored.version:
                self.cases.add("an equal content at a newer time")

    def window_of(self, record: Record) -> str:
        """The last window that starts at or before the record's time; without a time, the first."""
        inserted_at = row_of(record).inserted_at
        begun = [
            key
            for key, start in zip(self.window_keys, self.window_starts, strict=True)
            if inserted_at is not None and start <= inserted_at
        ]
        return begun[-1] if begun else self.window_keys[0]

    def _fate(self, record: Record, before: Row | None, gone: int | None) -> dict[str, int]:
        incoming, after = row_of(record), self.rows.get(str(record["id"]))
        if (before and before.version > incoming.version) or (self.removes and gone is not None and gone > incoming.version):
            return {"stale": 1}
        if self.removes and incoming.is_deleted:
            if before is None and gone == incoming.version:
                return {"unchanged": 1}
            return {"deleted": 1, "removed": 1} if before else {"deleted": 1}
        if before is None:
            return {"deleted" if incoming.is_deleted else "inserted": 1, "created": 1}
        if before == after:
            self.cases.add("a known record again")
            return {"unchanged": 1}
        is_deletion = incoming.is_deleted and not (before.is_deleted and before.version == incoming.version)
        rewritten = {"rewritten": 1} if before.version == incoming.version else {}
        return {"deleted" if is_deletion else "updated": 1, **rewritten}

    def _note_late(self, stored: Row | None) -> None:
        self.cases.add("a late older copy of a stored row" if stored else "a late older copy of a removed row")

    def _note(self, record_id: str, stored: Row | None, incoming: Row) -> None:
        gone = self.removed.get(record_id)
        if not incoming.is_deleted and stored is None and gone is not None:
            self.cases.add("a removed row back" if incoming.version > gone else "a removed row back at its own version")
        if stored is None:
            return
        if stored.is_deleted and not incoming.is_deleted and incoming.version > stored.version:
            self.cases.add("resurrection")
        if incoming.version == stored.version and incoming != stored:
            self.cases.add("one version with two contents")
        if incoming.is_deleted and incoming.data is None and stored.data is not None and not self.removes:
            self.cases.add("a bare tombstone that keeps an object")
        if incoming.is_deleted and incoming.data is not None:
            self.cases.add("a full tombstone")
        if not incoming.is_deleted and incoming.data is None:
            self.cases.add("a live record without an object")

    def _note_carried(self, records: Sequence[Record], newest: Mapping[str, Record]) -> None:
        for record_id, record in newest.items():
            others = [other for other in records if other["id"] == record_id and other is not record]
            if is_bare(record) and any(not is_bare(other) and row_of(other).data for other in others):
                self.cases.add("a bare tombstone and an object in one batch")


def row_of(record: Record) -> Row:
    """The record as it would stand there alone."""
    written_at = record.get("inserted_at")
    return Row(
        version=int(str(record["updated_idx"])),
        is_deleted=bool(record.get("deleted", False)),
        inserted_at=datetime.fromisoformat(str(written_at)) if written_at is not None else None,
        marker=record.get("marker"),
        data=None if is_bare(record) else record.get("data"),
        created_at=record.get("upstream_created_at"),
    )


def is_bare(record: Record) -> bool:
    """A tombstone without an object: null, absent or empty."""
    return bool(record.get("deleted", False)) and not record.get("data")
