"""This module says what was forgotten, or would be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sequin_pipeline.records.forgotten import Subject


@dataclass(frozen=True)
class LeftTable:
    """This value is a table that is left as it is: why, and how many of its rows are the subject's (None: nobody can tell)."""

    table: str
    rows: int | None
    reason: str


@dataclass
class ForgetReport:
    """This class gathers what a call has removed, by place; of a dry run, what it would remove.

    `removed` counts the entries of each place, `kept` the rows of tables that a trigger has kept. `of_unknown_tenant` are entries of
    the ledger that were written before it knew whose they are.
    """

    subject: Subject
    is_dry_run: bool = False
    requested_at: datetime | None = None
    removed: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    left: list[LeftTable] = field(default_factory=list)
    of_unknown_tenant: int = 0

    @property
    def is_complete(self) -> bool:
        """This is true where nothing of the subject is left that anybody could tell."""
        return not self.kept and not self.left

    def told(self) -> dict[str, object]:
        """Returns what programs are told."""
        return {
            "kind": self.subject.kind,
            "collection": self.subject.label or None,
            "is_dry_run": self.is_dry_run,
            "is_complete": self.is_complete,
            "requested_at": self.requested_at,
            "removed": dict(sorted((+self.removed).items())),
            "kept_by_triggers": dict(sorted(self.kept.items())),
            "left": [{"table": one.table, "rows": one.rows, "reason": one.reason} for one in self.left],
            "of_unknown_tenant": self.of_unknown_tenant,
        }

    def lines(self) -> Iterator[str]:
        """Yields the report as text."""
        verb = "would be removed" if self.is_dry_run else "removed"
        counts = +self.removed
        for place, count in sorted(counts.items()):
            yield f"{count:>10,}  {place}"
        yield f"{counts.total():>10,}  {verb} in all"
        for table, count in sorted(self.kept.items()):
            yield f"{count:,} rows of {table} are still there: a trigger of the table keeps them"
        for one in self.left:
            rows = "" if one.rows is None else f", {one.rows:,} rows"
            yield f"left as it is: {one.table}{rows}: {one.reason}"
        if self.of_unknown_tenant:
            yield (
                f"{self.of_unknown_tenant:,} entries of the ledger were written before it noted whose they are; each holds an id "
                "and a version of a removed row, or what became of a record. `sequin-pipeline forget PROVIDER/NAME ID` removes those "
                "of one record"
            )
