"""A shelf holds the objects of one class in one account, in the order in which Stripe lists them."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

Shown = dict[str, Any]
"""This is an object as the account's own API version shows it; Any, because its form is up to Stripe."""

_Place = tuple[int, int, str]


@dataclass(frozen=True)
class Bounds:
    """These bounds of the time of creation are seconds: `lower` <= created < `upper`."""

    lower: int = 0
    upper: int = 2**60


EVERYTHING = Bounds()


@dataclass(frozen=True)
class Page:
    """This value is a page in the order of the list, newest first; `has_more` is said of the direction in which it was read."""

    objects: list[Shown]
    has_more: bool


class Shelf:
    """Objects stand in the order of their creation; those of one second in the order in which they came here."""

    def __init__(self) -> None:
        self._objects: dict[str, Shown] = {}
        self._places: dict[str, _Place] = {}
        self._order: list[_Place] = []
        self._count = 0

    def get(self, object_id: str) -> Shown | None:
        return self._objects.get(object_id)

    def put(self, object_id: str, shown: Shown, *, created: int) -> None:
        """Puts an object in, or the newer state of one that is there, which keeps its place."""
        if object_id not in self._places:
            self._count += 1
            self._places[object_id] = place = (created, self._count, object_id)
            insort(self._order, place)
        self._objects[object_id] = shown

    def remove(self, object_id: str) -> None:
        """Takes out an object that is there."""
        del self._objects[object_id]
        del self._order[bisect_left(self._order, self._places.pop(object_id))]

    def forget_before(self, second: int) -> None:
        """Takes out everything that was created before that second."""
        count = bisect_left(self._order, (second,))
        for *_, object_id in self._order[:count]:
            del self._objects[object_id], self._places[object_id]
        del self._order[:count]

    def page(
        self,
        takes: Callable[[Shown], bool],
        *,
        limit: int,
        bounds: Bounds = EVERYTHING,
        after: str | None = None,
        before: str | None = None,
    ) -> Page:
        """Returns the page behind the object `after`, or in front of `before`; each, if given, must be there."""
        start = bisect_left(self._order, (bounds.lower,))
        end = bisect_left(self._order, (bounds.upper,))
        if before is not None:
            start = max(start, bisect_left(self._order, self._places[before]) + 1)
            newer = self._found(range(start, max(start, end)), takes, limit + 1)
            return Page(newer[:limit][::-1], len(newer) > limit)
        if after is not None:
            end = min(end, bisect_left(self._order, self._places[after]))
        older = self._found(range(end - 1, start - 1, -1), takes, limit + 1)
        return Page(older[:limit], len(older) > limit)

    def _found(self, indexes: Iterable[int], takes: Callable[[Shown], bool], limit: int) -> list[Shown]:
        return list(islice(filter(takes, self._at(indexes)), limit))

    def _at(self, indexes: Iterable[int]) -> Iterator[Shown]:
        return (self._objects[self._order[index][2]] for index in indexes)
