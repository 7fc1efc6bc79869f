"""Ctrl-C during runs in this process: at once, as if the process had been killed, which is what every run is built to survive.

Left to Dagster, an interrupted step is taken for one that failed, and is tried again after half a minute.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import click

from sequin_pipeline import threads

Result = TypeVar("Result")

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def interruptible(work: Callable[[], Result]) -> Result:
    """Runs `work` in a thread, where Dagster leaves signals alone; an interrupt ends the process."""
    outcome = threads.start(work, "sequin-runs")
    try:
        return outcome.result()
    except KeyboardInterrupt:
        _leave()


def _leave() -> NoReturn:
    click.echo("\nInterrupted. What has been committed stays; the next run goes on behind it.", err=True)
    sys.stdout.flush()
    os._exit(INTERRUPTED)
