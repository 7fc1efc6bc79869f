"""This module ends runs in this process at once on Ctrl-C, as if the process had been killed, which every run is built to survive.

Left to Dagster, an interrupted step counts as failed, and is retried after half a minute.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import click

from sequin_pipeline import threads

Result = TypeVar("Result")

INTERRUPTED = 130
"""This is 128 and the number of SIGINT, as shells have it."""


def interruptible(work: Callable[[], Result]) -> Result:
    """Runs `work` in a thread, where Dagster leaves signals alone; an interrupt ends the process."""
    outcome = threads.start(work, "sequin-runs")
    try:
        return outcome.result()
    except KeyboardInterrupt:
        _leave()


def _leave() -> NoReturn:
    click.echo("\nInterrupted. What has been committed stays; the next run continues after it.", err=True)
    sys.stdout.flush()
    os._exit(INTERRUPTED)
