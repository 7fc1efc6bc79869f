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
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from sequin_pipeline.runs.outcome import Progress as RunProgress

LOGGER = "sequin_pipeline.progress"
WARNINGS = ("sequin_pipeline.sources", "sequin_pipeline.warehouse", "sequin_pipeline.leftovers")
"""These loggers report what is retried, and which rows the source does not have.

Dagster takes them over during a run, so that nobody else would print them.
"""
EVERY_SECONDS = 1.0
BAR_COLUMNS = 16
SPEED_COLUMNS = 20
WIDE_COLUMNS = 100
REST_COLUMNS = BAR_COLUMNS + 36
"""All but name and speed takes this much, with counts of nine digits."""


@dataclass
class _Board(logging.Handler):
    """The board keeps the last word of each collection, and where in its stream the first one was."""

    latest: dict[str, RunProgress] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    began_at: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(level=logging.DEBUG)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        if isinstance(progress, RunProgress):
            self.latest[progress.label] = progress
            self.heard_at[progress.label] = time.monotonic()
            if progress.stream_time is not None:
                self.began_at.setdefault(progress.label, progress.stream_time)


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
            with Live(get_renderable=_Bars(board, console), console=console, refresh_per_second=4, transient=True):
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


class _Bars:
    """This object draws a bar for each collection: the share of its stream's time that lies behind, as far as that can be told.

    Where there are more than the terminal has lines, those that were heard last are shown. On a narrow one the speed is left out: rich
    would cut numbers.
    """

    def __init__(self, board: _Board, console: Console) -> None:
        is_wide = console.width >= WIDE_COLUMNS
        fields = ("records", "pages", *(["speed"] if is_wide else []))
        self._board = board
        self._most = max(1, console.height - 2)
        self._room = console.width - REST_COLUMNS - (SPEED_COLUMNS if is_wide else 0)
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_COLUMNS),
            *(TextColumn(f"{{task.fields[{name}]}}", justify="right") for name in fields),
        )

    def __call__(self) -> Progress:
        now, moment = time.monotonic(), datetime.now(UTC)
        heard = sorted(self._board.heard_at.copy().items(), key=lambda one: one[1])
        for label, at in heard:
            did = self._board.latest[label]
            has_ended = now - at >= 2 * EVERY_SECONDS
            total, completed = (1.0, 1.0) if has_ended else _way(self._board.began_at.get(label), did.stream_time, moment)
            records, pages, speed = _columns(did)
            name = label if len(label) <= self._room else f"{label[: self._room - 1]}…"
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(name, total=None, records="", pages="", speed="")
            is_shown = label in dict(heard[-self._most :])
            self._bars.update(
                self._tasks[label],
                total=total,
                completed=completed,
                visible=is_shown,
                records=records,
                pages=pages,
                speed=speed,
            )
        return self._bars


def _way(began_at: datetime | None, stream_time: datetime | None, now: datetime) -> tuple[float | None, float]:
    """Returns the whole way in seconds, None where it is not known, and how much of it lies behind."""
    if began_at is None or stream_time is None or stream_time <= began_at or now <= stream_time:
        return None, 0.0
    return (now - began_at).total_seconds(), (stream_time - began_at).total_seconds()


def _columns(progress: RunProgress) -> tuple[str, str, str]:
    pages = "1 page" if progress.pages == 1 else f"{progress.pages:,} pages"
    if not progress.records:
        return "0 records", pages, ""
    rate = progress.records / progress.seconds if progress.seconds else 0.0
    return f"{progress.records:,} records", pages, f"{rate:,.0f} records/s"


@contextmanager
def _lines(board: _Board, console: Console) -> Iterator[None]:
    stopping = threading.Event()
    printed: dict[str, RunProgress] = {}

    def print_changes() -> None:
        for label, progress in list(board.latest.items()):
            if printed.get(label) != progress:
                printed[label] = progress
                said = f"{label}: {', '.join(filter(None, _columns(progress)))}"
                console.print(said, highlight=False, markup=False, soft_wrap=True)

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
