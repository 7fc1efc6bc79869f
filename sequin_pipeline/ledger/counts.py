"""This module counts what became of records."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """This value is the fate of every fetched record.

    `fetched` is the sum of the seven that follow it and of `forgotten`, which a CHECK in `merges` proves.

    `created` and `removed` are rows that the table gained and lost, `rewritten` those that changed at a version already stored.
    """

    fetched: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    stale: int = 0
    duplicate: int = 0
    rejected: int = 0
    created: int = 0
    removed: int = 0
    rewritten: int = 0
    forgotten: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))

    @property
    def accounted(self) -> int:
        """This is how many records have a fate: all that were fetched, once a batch has been counted."""
        return sum(getattr(self, fate) for fate in FATES)

    def values(self) -> tuple[int, ...]:
        """Returns the counts in the order of the fields."""
        return tuple(getattr(self, name) for name in COUNT_NAMES)


@dataclass(frozen=True)
class ChildCounts:
    """This value says what became of the elements of records that were written, and of rows whose elements are gone."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0

    def __add__(self, other: "ChildCounts") -> "ChildCounts":
        return ChildCounts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.removed + other.removed,
        )


COUNT_NAMES: tuple[str, ...] = tuple(Counts.__dataclass_fields__)

FATES = ("inserted", "updated", "deleted", "unchanged", "stale", "duplicate", "rejected", "forgotten")
"""Each fetched record has exactly one of these fates."""
