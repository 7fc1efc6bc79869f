"""A stream that changes and is compacted, what was delivered of it, and what must therefore stand in the warehouse.

Plain Python, and the fold of tests/support/fold.py: nothing here asks the code under test what it did. Of a source it is known
which pages it
gave, of a run at which page it was stopped.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sequin_pipeline.catalog import Collection, Column, DataType, parse_path
from sequin_pipeline.sources import Page, ReadRequest, TimeWindow
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.fold import Fold, is_bare, row_of

Record = dict[str, object]

SYNCS = {"a": "s1", "b": "s1", "c": "s2", "d": "s2"}
"""The sync of each record."""

OBJECTS: tuple[Record, ...] = (
    {"status": "one", "amount": 1, "size": 4},
    {"status": "two", "amount": 2, "size": "big", "length": 40},
    {"status": "one", "amount": 3},
    {"status": "two", "amount": "many", "size": 5, "length": "long"},
    {"status": "three", "amount": None, "size": None, "length": 41},
)

STATUS = Column("status", parse_path("status"), "text")
AMOUNT = Column("amount", parse_path("amount"), "bigint")
DECLARATIONS: Mapping[str, tuple[Column, ...]] = {
    "plain": (STATUS, AMOUNT),
    "a column more": (STATUS, AMOUNT, Column("size", parse_path("size"), "integer")),
    "found elsewhere": (STATUS, AMOUNT, Column("size", parse_path("length"), "integer")),
    "fixed": (STATUS, Column("amount_text", parse_path("amount"), "text")),
}


def derived(columns: Sequence[Column], data: object) -> tuple[dict[str, object], bool]:
    """The values of the columns, null where one does not fit, and whether all of them do."""
    found = data if isinstance(data, dict) else {}
    values: dict[str, object] = {}
    fits = True
    for column in columns:
        value = found.get(str(column.path.steps[0]))
        if column.type == "text":
            values[column.name] = None if value is None else str(value)
        else:
            values[column.name] = value if isinstance(value, int) else None
            fits = fits and (value is None or isinstance(value, int))
    return values, fits


class Stopped(BaseException):
    """The process was killed while it waited for a page."""


@dataclass
class StreamSource(ListSource):
    """The log from a cursor on, in pages; a cursor is a position, valid for ever. `given` are the pages that it gave.

    Before the page of that number `at_page` calls what it holds, once everything given until then has been committed.
    """

    log: Sequence[tuple[int, Record]] = ()
    size: int = 2
    at_page: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    given: list[list[Record]] = field(default_factory=list)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        after = int(request.after or 0)
        wanted = [
            (position, each)
            for position, each in self.log
            if position > after and (request.sync_ids is None or SYNCS[str(each["id"])] in request.sync_ids)
        ]
        for start in range(0, len(wanted) + 1, self.size):
            if start // self.size in self.at_page:
                self.at_page[start // self.size]()
            part = wanted[start : start + self.size]
            if part or not self.given:
                after = part[-1][0] if part else after
                self.given.append([each for _, each in part])
                records = b"[" + b",".join(json.dumps(each).encode() for _, each in part) + b"]"
                yield Page(records, str(after) if after else None, datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class World:
    """`edited` are rows whose status somebody changed, at which version; `lost` is how many rows somebody deleted; `swept` how many
    went when `on_delete` became `remove`. `rejects` says of each record that did not fit whether it waits, `unfilled` is the row and
    version of each value that did not fit when its column was filled."""

    chance: random.Random
    log: list[tuple[int, Record]] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    clock: datetime = datetime(2024, 1, 10, tzinfo=UTC)
    position: int = 0
    version: int = 10
    cursor: int = 0
    columns: tuple[Column, ...] = DECLARATIONS["plain"]
    filled_by: tuple[Column, ...] = ()
    removes: bool = False
    edited: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    swept: int = 0
    rejects: dict[bytes, bool] = field(default_factory=dict)
    unfilled: set[tuple[str, int]] = field(default_factory=set)
    cases: set[str] = field(default_factory=set)
    data_type: DataType = "jsonb"

    def __post_init__(self) -> None:
        run_config = live_run_config(self.collection)
        self.fold = Fold(False, run_config.partition_keys, run_config.window_starts)

    @property
    def collection(self) -> Collection:
        """As it is declared now."""
        return replace(
            collection(columns=self.columns, on_delete="remove" if self.removes else "mark"),
            reject_limit_records=10_000,
            data_type=self.data_type,
        )

    # What happens at the source

    def change(self, record_id: str) -> None:
        """A new version of the record, live or deleted; the old entry is taken out of the log."""
        self.version += 2
        self.newest[record_id] = self.version
        self.log = [entry for entry in self.log if entry[1]["id"] != record_id]
        self._append(record_id, self.version)

    def move(self, record_id: str) -> None:
        """The same version once more, at the end."""
        if any(each["id"] == record_id for _, each in self.log):
            self.log = [entry for entry in self.log if entry[1]["id"] != record_id]
            self._append(record_id, self.newest[record_id])
            self.cases.add("a record that moves")

    def come_late(self, record_id: str) -> None:
        """An older version than the newest, behind it in the log."""
        if record_id in self.newest:
            self._append(record_id, self.newest[record_id] - 1)
            self.cases.add("a late older copy")

    def compact(self) -> None:
        """An entry is taken out whose record has a newer one."""
        outranked = [entry for entry in self.log if entry[1]["updated_idx"] != self.newest[str(entry[1]["id"])]]
        if outranked:
            self.log.remove(self.chance.choice(outranked))

    def _append(self, record_id: str, version: int) -> None:
        """One version has one content, whenever it comes."""
        content = random.Random(f"{record_id} {version}")
        deleted = content.random() < 0.35
        data = content.choice((*OBJECTS, None, {}) if deleted else (*OBJECTS, *OBJECTS, None))
        self.clock += timedelta(hours=self.chance.randrange(0, 200))
        inserted_at = self.clock - timedelta(minutes=self.chance.randrange(0, 20))
        self.position += self.chance.randint(1, 3)
        sync = {"id": SYNCS[record_id], "external_id": None, "metadata": {}}
        built = record(record_id, version, deleted=deleted, data=data, sync=sync, inserted_at=inserted_at.isoformat())
        self.log.append((self.position, built))

    # What a run does before it reads

    def prepare(self, *, rows_in_ledger: int) -> None:
        """What every run does first: sweeps marked rows when they are to be removed from now on, and fills columns that are new."""
        if self.removes and not self.fold.removes:
            for record_id in [record_id for record_id, row in self.fold.rows.items() if row.is_deleted]:
                self.fold.removed[record_id] = self.fold.rows.pop(record_id).version
                self.edited.pop(record_id, None)
                self.swept += 1
                self.cases.add("a sweep")
        self.fold.removes = self.removes
        known = {column.name: column.fingerprint for column in self.filled_by}
        waiting = [column for column in self.columns if known.get(column.name) != column.fingerprint]
        self.filled_by = self.columns
        if not waiting or not rows_in_ledger:
            return
        for record_id, row in self.fold.rows.items():
            if row.data is None:
                continue
            self.cases.add("a column that is filled")
            _, fits = derived(self.columns, row.data)
            if fits:
                self.unfilled = {each for each in self.unfilled if each[0] != record_id}
            else:
                self.unfilled.add((record_id, row.version))
                self.cases.add("a value that does not fit when its column is filled")

    # What is delivered

    def deliver(self, records: Sequence[Record]) -> None:
        """These records were committed, in this order, as they are declared now."""
        for each in records:
            record_id, incoming = str(each["id"]), row_of(each)
            if incoming.data is not None and not derived(self.columns, incoming.data)[1]:
                self.rejects[json.dumps(each).encode()] = True
                continue
            stored = self.fold.rows.get(record_id)
            if not is_bare(each) and incoming.version > self.edited.get(record_id, incoming.version):
                self.edited.pop(record_id, None)
            self.fold.deliver(each)
            if record_id not in self.fold.rows:
                self.edited.pop(record_id, None)
            if stored is not None and stored != self.fold.rows.get(record_id):
                self.cases.add("a row that changes")

    def finish(self) -> None:
        """What every run does last: rejects are settled of which as good or better has been stored."""
        for raw, is_open in self.rejects.items():
            refused = json.loads(raw)
            if is_open and self._reached(refused["id"]) >= refused["updated_idx"]:
                self.rejects[raw] = False
                self.cases.add("a reject that was outdated")
        for record_id, version in list(self.unfilled):
            row = self.fold.rows.get(record_id)
            if (row is not None and row.version > version) or self.fold.removed.get(record_id, 0) >= version:
                self.unfilled.remove((record_id, version))

    def replay(self) -> None:
        """All that waits is tried once more, as it is declared now."""
        for raw in sorted(
            (raw for raw, is_open in self.rejects.items() if is_open), key=lambda raw: json.loads(raw)["updated_idx"]
        ):
            self.rejects[raw] = False
            self.deliver([json.loads(raw)])
            if not self.rejects[raw]:
                self.cases.add("a reject that was fixed")

    def _reached(self, record_id: str) -> int:
        row = self.fold.rows.get(record_id)
        return max(row.version if row else 0, self.fold.removed.get(record_id, 0))

    def inside(self, records: Sequence[Record], window: TimeWindow | None) -> list[Record]:
        """Those of the window, and what does not fit, whose time nobody knows."""
        return [each for each in records if self.is_unfit(each) or window is None or _is_in(each, window)]

    def is_unfit(self, each: Record) -> bool:
        data = row_of(each).data
        return data is not None and not derived(self.columns, data)[1]


def _is_in(each: Record, window: TimeWindow) -> bool:
    at = datetime.fromisoformat(str(each["inserted_at"]))
    return (window.start is None or window.start <= at) and at < window.end
