"""These dice are the sandbox's chance: the same draws for the same seed on every version of Python.

Only `Random.random` is promised to give the same sequence in later versions (documentation of `random`, "Notes on
Reproducibility"), so everything is drawn from it and nothing from `choice`, `randrange` or `sample`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

Item = TypeVar("Item")

DIGITS = "0123456789"
HEX = "0123456789abcdef"
BASE62 = DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Dice:
    """The draws depend on the seed and on what was drawn before, and on nothing else."""

    def __init__(self, *seed: object) -> None:
        self._random = Random("/".join(map(str, seed))).random

    def below(self, bound: int) -> int:
        """Draws a number from 0 to `bound` - 1."""
        return int(self._random() * bound)

    def between(self, lowest: int, highest: int) -> int:
        """Draws a number between the two, both included."""
        return lowest + int(self._random() * (highest - lowest + 1))

    def chance(self, share: float) -> bool:
        """Returns True in `share` of the draws, 0 to 1."""
        return self._random() < share

    def pick(self, items: Sequence[Item]) -> Item:
        """Picks one of at least one item, each as likely as the others."""
        return items[int(self._random() * len(items))]

    def maybe(self, share: float, item: Item) -> Item | None:
        """Returns the item in `share` of the draws, else None."""
        return item if self._random() < share else None

    def token(self, length: int, alphabet: str = BASE62) -> str:
        """Draws characters of the alphabet, as in the ids that providers give."""
        draw, size = self._random, len(alphabet)
        return "".join([alphabet[int(draw() * size)] for _ in range(length)])

    def moment(self, start: datetime, end: datetime) -> datetime:
        """Draws a time in [start, end), to the millisecond."""
        span_milliseconds = (end - start) // timedelta(milliseconds=1)
        return start + timedelta(milliseconds=self.below(span_milliseconds))
