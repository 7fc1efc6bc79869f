"""This module shows the progress of runs in this process, as bars on a terminal or a line a second, and what was retried.

It listens to the logger that the IO manager tells about each page, and draws in a thread of its own, so that a page that takes long
looks like one.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from sequin_pipeline.runs.outcome import Progress

LOGGER = "sequin_pipeline.progress"
WARNINGS = ("sequin_pipeline.sources", "sequin_pipeline.warehouse")
"""These loggers report what is retried.

Dagster takes them over during a run, so that nobody else would print them.
"""
EVERY_SECONDS = 1.0


@dataclass
class _Board(logging.Handler):
    """The board keeps the last word of each collection, and which have changed since somebody looked."""

    latest: dict[str, Progress] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(level=logging.DEBUG)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        if isinstance(progress, Progress):
            self.latest[progress.label] = progress
            self.heard_at[progress.label] = time.monotonic()


class _Printer(logging.Handler):
    """This handler prints warnings as lines of the console, above whatever moves there."""

    def __init__(self, console: Console) -> None:
        super().__init__(level=logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Shows what runs in this process report, until the block ends."""
    board, printer = _Board(), _Printer(console)
    progress_logger = logging.getLogger(LOGGER)
    level, propagates = progress_logger.level, progress_logger.propagate
    progress_logger.setLevel(logging.DEBUG)
    progress_logger.propagate = False
    progress_logger.addHandler(board)
    for name in WARNINGS:
        logging.getLogger(name).addHandler(printer)
    try:
        if console.is_terminal:
            with Live(get_renderable=lambda: _table(board), console=console, refresh_per_second=4, transient=True):
                yield
        else:
            with _lines(board, console):
                yield
    finally:
        for name in WARNINGS:
            logging.getLogger(name).removeHandler(printer)
        progress_logger.removeHandler(board)
        progress_logger.setLevel(level)
        progress_logger.propagate = propagates


def _table(board: _Board) -> Table:
    table = Table.grid(padding=(0, 2))
    now = time.monotonic()
    for label, progress in list(board.latest.items()):
        is_moving = now - board.heard_at[label] < 2 * EVERY_SECONDS
        table.add_row(Spinner("dots") if is_moving else "✓", label, *_columns(progress))
    return table


def _columns(progress: Progress) -> tuple[str, str, str]:
    pages = "1 page" if progress.pages == 1 else f"{progress.pages:,} pages"
    if not progress.records:
        return "0 records", pages, ""
    rate = progress.records / progress.seconds if progress.seconds else 0.0
    return f"{progress.records:,} records", pages, f"{rate:,.0f} records/s"


@contextmanager
def _lines(board: _Board, console: Console) -> Iterator[None]:
    stopping = threading.Event()
    printed: dict[str, Progress] = {}

    def print_changes() -> None:
        for label, progress in list(board.latest.items()):
            if printed.get(label) != progress:
                printed[label] = progress
                console.print(f"{label}: {', '.join(filter(None, _columns(progress)))}", highlight=False)

    def keep_printing() -> None:
        while not stopping.wait(EVERY_SECONDS):
            print_changes()
        print_changes()

    printer = threading.Thread(target=keep_printing, name="sequin-progress", daemon=True)
    printer.start()
    try:
        yield
    finally:
        stopping.set()
        printer.join()
