"""A stream that grows and changes: new records, newer versions with other lists, tombstones with and without an object, late copies, bad
ones."""

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from tests.support.builders import EPOCH, record
from tests.support.children import random_lists
from tests.support.fold import Fold, Record
from tests.support.versions import VersionsFold

IDS = 300
"""Few, so that versions meet; a stream of an hour comes back to each a hundred times."""


@dataclass
class GrowingStream:
    """Of `ids` records. `lines` are all records in the order of the stream, and `fold` what a table must hold that was given them,
    `versions` what its history table must."""

    chance: Random
    ids: int = IDS
    lines: list[Record] = field(default_factory=list)
    rejected: list[Record] = field(default_factory=list)
    fold: Fold = field(default_factory=lambda: Fold(removes=False, window_keys=(), window_starts=()))
    versions: VersionsFold = field(default_factory=VersionsFold)

    def grow(self, count: int) -> list[Record]:
        """So many more records."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Record:
        is_copy = bool(self.lines) and self.chance.random() < 0.1
        added = self.chance.choice(self.lines) if is_copy else self._version(len(self.lines) + 1)
        self.lines.append(added)
        if is_bad(added):
            self.rejected.append(added)
        else:
            self.fold.deliver(added)
            self.versions.deliver(added)
        return added

    def _version(self, number: int) -> Record:
        chance = self.chance
        drawn = record(
            f"r{chance.randrange(self.ids):03}",
            number,
            inserted_at=(EPOCH + timedelta(minutes=number)).isoformat(),
            marker=chance.choice("xyz"),
            data={"status": "active", "amount": number, **random_lists(chance)},
        )
        match chance.choices(("live", "full tombstone", "bare tombstone", "bad"), weights=(80, 6, 6, 8))[0]:
            case "full tombstone":
                return drawn | {"deleted": True}
            case "bare tombstone":
                return drawn | {"deleted": True, "data": None}
            case "bad":
                return drawn | {"data": {"status": "x", "amount": "no number"}}
            case _:
                return drawn


def is_bad(drawn: Record) -> bool:
    """Can it not be stored?"""
    data = drawn.get("data")
    return isinstance(data, dict) and data["amount"] == "no number"
