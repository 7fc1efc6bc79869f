"""This module keeps the table of versions in docs/reliability.md: rows that were not run again stay as they are. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.matrix.cells import Cell

HEAD = "| Python | Postgres | day | passed | failed | skipped |\n| --- | --- | --- | --: | --: | --: |\n"
BLOCK = re.compile(r"(<!-- matrix -->\n).*?(<!-- /matrix -->)", re.DOTALL)


@dataclass(frozen=True)
class Ran:
    """The tests were run: the exact versions, the day as 2026-11-30, and how they ended."""

    python: str
    postgres: str
    day: str
    passed: int
    failed: int
    skipped: int

    @property
    def row(self) -> str:
        counts = " | ".join(f"{count:,}" for count in (self.passed, self.failed, self.skipped))
        return f"| {self.python} | {self.postgres} | {self.day} | {counts} |"


@dataclass(frozen=True)
class NotRun:
    """The tests could not be run, and why."""

    cell: Cell
    reason: str

    @property
    def row(self) -> str:
        return f"| {self.cell.python} | {self.cell.postgres} | not run here: {self.reason} | – | – | – |"


Outcome = Ran | NotRun


def rows_of(page: str) -> dict[Cell, str]:
    """The rows of the page's table. Raises ValueError where the page has no place for one."""
    found = BLOCK.search(page)
    if found is None:
        raise ValueError("the page has no lines '<!-- matrix -->' and '<!-- /matrix -->', between which the table stands")
    rows = {}
    for line in found[0].splitlines():
        if version := re.match(r"\| (\d+\.\d+)\S* \| (\d+)\S* \|", line):
            rows[Cell(version[1], int(version[2]))] = line
    return rows


def filled(page: str, outcomes: Mapping[Cell, Outcome]) -> str:
    """The page with a row for each outcome; what could not be run here leaves a row of a machine where it could."""
    rows = rows_of(page)
    for cell, outcome in outcomes.items():
        if isinstance(outcome, Ran) or "not run here" in rows.get(cell, "not run here"):
            rows[cell] = outcome.row
    table = HEAD + "".join(f"{rows[cell]}\n" for cell in sorted(rows))
    return BLOCK.sub(lambda mark: f"{mark[1]}{table}{mark[2]}", page)
