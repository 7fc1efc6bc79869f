"""This module fails runs of a command that was killed: Dagster would take them for running for ever, and keep their places in the
pool.

A command holds a lock on a file for as long as it lives, and its runs name the file in a tag: whoever gets the lock knows that the
command is dead. Runs that Dagster's own launcher started have no such file; run monitoring ends those.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

LOCK_TAG = "sequin_pipeline/lock"

_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@contextmanager
def alive(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """Yields the tag for runs of this process: until the block ends, or the process dies, they are not abandoned."""
    folder = Path(instance.storage_directory())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="command-", suffix=".lock", dir=folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield {LOCK_TAG: lock.name}


def end_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """Fails the runs of killed commands and frees their places in the pool; two of them would stop every later run."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_AT_WORK)):
        lock = Path(run.tags.get(LOCK_TAG, ""))
        if lock.is_file() and _is_free(lock):
            instance.report_run_failed(
                run, "The command that this run belonged to was killed; the next run continues where it stopped."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            lock.unlink(missing_ok=True)


def _is_free(lock: Path) -> bool:
    try:
        with lock.open("rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False  # held by a command that lives, or another account's to judge
    return True
