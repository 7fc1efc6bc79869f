"""This module prints tables whole: on a terminal the first form of a table that fits its width, elsewhere the widest.

A number is never cut: rich would shorten it to `…` once a table is too wide.
"""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

from sequin_pipeline.ledger.counts import COUNT_NAMES

NUMBERS = frozenset({*COUNT_NAMES, "rows", "seconds", "records", "seen", "newest record", "open rejects", "rejects"})
"""Columns with these headings stand to the right."""
ENDLESS = 100_000
PIPE_COLUMNS = 160
WRAPPED_COLUMNS = 40
"""A text that wraps is to have this many columns more than its longest word."""


def build_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, wraps: Sequence[str] = ()) -> Table:
    """Returns a table in which the columns named in `wraps` give way where there is too little room."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading in NUMBERS else "left", no_wrap=heading not in wraps, overflow="fold"
        )
    for row in rows:
        table.add_row(*row)
    return table


def print_table(whole: Table, *narrower: RenderableType, pipe_columns: int = PIPE_COLUMNS) -> None:
    """Prints the first form that fits a terminal, else the last; where it is no terminal, the whole one, as wide as it needs to be."""
    console = Console()
    if console.is_terminal:
        forms = (whole, *narrower)
        console.print(next((form for form in forms if _needed(console, form) <= console.width), forms[-1]), highlight=False)
        return
    Console(width=max(pipe_columns, _needed(console, whole))).print(whole, highlight=False)


def _needed(console: Console, form: RenderableType) -> int:
    """Returns how many columns the form needs; texts that wrap get along with fewer than they could fill."""
    width = Measurement.get(console, console.options.update(max_width=ENDLESS), form)
    does_wrap = isinstance(form, Table) and any(not column.no_wrap for column in form.columns)
    return min(width.maximum, width.minimum + WRAPPED_COLUMNS) if does_wrap else width.maximum
