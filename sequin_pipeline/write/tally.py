"""This module reads the answer of the merge statement. Pure."""

from dataclasses import asdict, dataclass, replace

from sequin_pipeline.ledger.counts import Counts


@dataclass(frozen=True)
class Tally:
    """This value is one row of the merge statement's answer: how many rows of a window were staged, and what became of them."""

    window: int
    staged: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    stale: int
    created: int
    removed: int
    rewritten: int
    gone: int

    @property
    def is_settled(self) -> bool:
        """This is true where each staged row has a fate: none was taken by a concurrent writer, or left out."""
        told = self.inserted + self.updated + self.deleted + self.unchanged + self.stale
        return self.staged == told and self.gone == self.removed

    def settled(self, equal_now: int) -> "Tally":
        """Returns the tally with what a second look found.

        Rows that a concurrent writer took between the snapshot and their lock came back from nowhere. The second look is exact,
        for this transaction now holds those rows: what stands there as staged is unchanged, the rest has been outranked.
        """
        deleted = self.deleted - self.gone + self.removed
        applied = self.inserted + self.updated + deleted
        unchanged = max(0, equal_now - applied)
        return replace(
            self,
            deleted=deleted,
            unchanged=unchanged,
            stale=self.staged - applied - unchanged,
            rewritten=min(self.rewritten, self.updated + deleted),
        )

    def counts(self) -> Counts:
        """Returns the counts as the ledger has them."""
        fates = {name: value for name, value in asdict(self).items() if name not in ("window", "staged", "gone")}
        return Counts(**fates)
