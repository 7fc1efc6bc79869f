"""This module holds what a feed is: where the objects of a keyed collection come from, and what it is asked."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec

from sequin_pipeline.sources import NO_COST, PageCost, TimeWindow
from sequin_pipeline.sources.keyed.shape import Found, Shape

Object = bytes | msgspec.Raw
"""This is the JSON text of one object, as the API wrote it."""


@dataclass(frozen=True)
class Reading:
    """A reading says what a feed is asked for.

    `state` is the feed's own, behind which it reads on; None: from the beginning. `lists`: everything that exists now is asked for, to
    find what is gone; then `known` is the state up to which changes have been read. `window` asks for the objects of a time window, as
    far as the API can tell; more may come. `started` is when the read began, by our clock. `stop` is set once nobody wants what comes:
    a feed that waits for something without end looks at it.
    """

    started: datetime
    state: bytes | None = None
    lists: bool = False
    known: bytes | None = None
    window: TimeWindow | None = None
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


@dataclass(frozen=True)
class Arrival:
    """An arrival holds objects that came together, and what came with them.

    `values` are those of the shape's paths for each object, where the feed has read them. `seen` are objects that are only counted as
    being there, in a listing. `state` is the feed's behind all that has arrived so far, None where there is none yet: JSON text, the
    same for the same place. `is_whole` is false where something that exists is in none of the arrivals. `ends_early` is true of the
    last one of a read that leaves the rest to the next run.
    """

    objects: Sequence[Object] = field(default=(), repr=False)
    state: bytes | None = None
    seen: Sequence[Object] = field(default=(), repr=False)
    is_whole: bool = True
    ends_early: bool = False
    values: Sequence[Found | None] | None = field(default=None, repr=False)
    cost: PageCost = NO_COST
    notes: tuple[str, ...] = ()


class Feed(Protocol):
    """A feed delivers the objects of collections, by the collection's name."""

    def shape(self, name: str) -> Shape:
        """Returns how the collection's objects tell their keys; raises SourceError where that has to be asked and is not answered."""
        ...

    def read(self, name: str, reading: Reading) -> Generator[Arrival, None, None]:
        """Yields what is asked for, each arrival fetched only when it is asked for; raises SourceError only.

        What it holds open it closes when the generator ends, fails or is closed.
        """
        ...
