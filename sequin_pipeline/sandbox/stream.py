"""The compacted stream knows where each record stands, and reads on from a position.

Each record stands in the stream once; a newer version of it goes to the end. Positions count up from 1, are never used again, and stay
valid when the record that stood there has moved on. What a record looks like is in wire.py.
"""

import base64
import binascii
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

START = 0
"""This is the position before the earliest record."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry is one version of a record at its position; `body` is its JSON text, ready to be sent.

    `key` is what the versions of one record share; None: nothing will ever replace this entry.
    """

    position: int
    key: str | None
    collection_id: str | None
    sync_id: str | None
    provider: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection says which records a reader wants; None means all."""

    collection_id: str | None = None
    sync_id: str | None = None
    provider: str | None = None

    def takes(self, entry: Entry) -> bool:
        return (
            self.collection_id in (None, entry.collection_id)
            and self.sync_id in (None, entry.sync_id)
            and self.provider in (None, entry.provider)
        )


EVERYTHING = Selection()


class _Index:
    """An index holds the entries of one selection by position.

    A removed entry leaves a hole, so that no removal moves the rest; the holes are closed when they outnumber the entries, which keeps
    a page's walk in proportion to the page.
    """

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._entries: list[Entry | None] = []
        self._holes = 0

    def append(self, entry: Entry) -> None:
        self._positions.append(entry.position)
        self._entries.append(entry)

    def remove(self, position: int) -> None:
        self._entries[bisect_left(self._positions, position)] = None
        self._holes += 1
        if self._holes > 1000 + len(self._entries) // 2:
            self._entries = [entry for entry in self._entries if entry is not None]
            self._positions = [entry.position for entry in self._entries if entry is not None]
            self._holes = 0

    def after(self, position: int) -> Iterator[Entry]:
        start = bisect_right(self._positions, position)
        return (entry for index in range(start, len(self._entries)) if (entry := self._entries[index]) is not None)

    def up_to(self, position: int) -> Iterator[Entry]:
        start = bisect_right(self._positions, position)
        return (entry for index in range(start - 1, -1, -1) if (entry := self._entries[index]) is not None)

    def count_after(self, position: int) -> int:
        following = self._entries[bisect_right(self._positions, position) :]
        return len(following) - following.count(None)


class Stream:
    """The stream holds the records of all syncs, in the order in which their versions came in.

    Not compacted, it keeps every version where it came in, which shows a reader the history that the real stream forgets. `follower`
    is told of every version when it comes in.
    """

    def __init__(self, *, is_compacted: bool = True, follower: Callable[[Entry], None] | None = None) -> None:
        self._is_compacted = is_compacted
        self._follower = follower
        self._newest: dict[str, Entry] = {}
        self._indexes: dict[Selection, _Index] = {EVERYTHING: _Index()}
        self._head = START

    def __len__(self) -> int:
        return self._indexes[EVERYTHING].count_after(START)

    @property
    def head(self) -> int:
        """This is the position of the last version that came in."""
        return self._head

    def append(self, entry: Entry) -> None:
        """Puts a version at the end and takes the record's earlier one out; `entry.position` must be `head + 1`."""
        if entry.position != self._head + 1:
            raise ValueError(
                f"the stream stands at {self._head}: the next entry has position {self._head + 1}, not {entry.position}"
            )
        superseded = self._newest.get(entry.key) if self._is_compacted and entry.key is not None else None
        for selection, index in self._indexes.items():
            if superseded is not None and selection.takes(superseded):
                index.remove(superseded.position)
            if selection.takes(entry):
                index.append(entry)
        if entry.key is not None:
            self._newest[entry.key] = entry
        self._head = entry.position
        if self._follower is not None:
            self._follower(entry)

    def after(self, position: int, limit: int, selection: Selection = EVERYTHING) -> list[Entry]:
        """Returns the next `limit` entries of the selection, in stream order."""
        return list(islice(self._index(selection).after(position), limit))

    def up_to(self, position: int, limit: int, selection: Selection = EVERYTHING) -> list[Entry]:
        """Returns the last `limit` entries of the selection that do not lie after `position`, in stream order."""
        return list(islice(self._index(selection).up_to(position), limit))[::-1]

    def count_after(self, position: int, selection: Selection = EVERYTHING) -> int:
        return self._index(selection).count_after(position)

    def holds(self, entry: Entry) -> bool:
        """Returns False once a newer version has taken the entry's place."""
        return not self._is_compacted or entry.key is None or self._newest[entry.key] is entry

    def _index(self, selection: Selection) -> _Index:
        """Returns the index of a selection, made when it is first asked for and kept up from then on."""
        if selection not in self._indexes:
            index = _Index()
            for entry in self._indexes[EVERYTHING].after(START):
                if selection.takes(entry):
                    index.append(entry)
            self._indexes[selection] = index
        return self._indexes[selection]


_CURSOR = re.compile(r"(\d{1,18})(?:\.\d+)?")


def cursor_at(position: int, mark: int | None = None) -> str:
    """Returns the opaque token of a position; different marks give different tokens of the same position."""
    text = str(position) if mark is None else f"{position}.{mark}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(cursor: str) -> int | None:
    """Returns the position of a cursor, or None when no sandbox ever made it."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    token = _CURSOR.fullmatch(text)
    return int(token[1]) if token else None
