"""An account holds what one sync has at its provider at the moment, so that new objects can refer to it.

It knows no provider: objects are JSON text here.
"""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.records import Change, SyncInfo

_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def object_of(change: Change) -> dict[str, Any]:
    """Returns the object that a change leaves existing; fractions keep every digit."""
    assert change.data is not None  # noqa: S101 - only a bare tombstone has none
    return _decoder.decode(change.data)


def json_of(made: object) -> bytes:
    """Returns the JSON text of an object."""
    return _encoder.encode(made)


class Account:
    """An account holds the objects that exist in one sync; deleted ones are gone from here, and nothing new refers to them."""

    def __init__(self, sync: SyncInfo) -> None:
        self.sync = sync
        self._changes: dict[tuple[str, str], Change] = {}
        self._ids: defaultdict[str, list[str]] = defaultdict(list)
        self._serials: defaultdict[str, int] = defaultdict(int)

    @property
    def slug(self) -> str:
        """This is the account's name as part of an address."""
        return self.sync.name.lower().replace(" ", "-")

    def next_serial(self, sequence: str) -> int:
        """Counts 1, 2, 3 … in each named sequence."""
        self._serials[sequence] += 1
        return self._serials[sequence]

    def put(self, kind: str, change: Change) -> None:
        """Keeps a change that leaves its object existing."""
        key = (kind, change.upstream_id)
        if key not in self._changes:
            self._ids[kind].append(change.upstream_id)
        self._changes[key] = change

    def remove(self, kind: str, upstream_id: str) -> None:
        """Forgets an object that exists."""
        del self._changes[kind, upstream_id]
        self._ids[kind].remove(upstream_id)

    def count(self, kind: str) -> int:
        """Counts the objects of the kind that exist."""
        return len(self._ids[kind])

    def pick_change(self, kind: str, dice: Dice) -> Change:
        """Picks the last change of one of the objects that exist; there must be one."""
        return self._changes[kind, dice.pick(self._ids[kind])]

    def pick(self, kind: str, dice: Dice) -> dict[str, Any]:
        """Picks one of the objects that exist; there must be one."""
        return object_of(self.pick_change(kind, dice))

    def objects(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yields every object of the kind that exists, oldest first."""
        for upstream_id in self._ids[kind]:
            yield object_of(self._changes[kind, upstream_id])
