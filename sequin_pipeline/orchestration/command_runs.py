"""This module knows the runs that a command executes in its own process, which Dagster's daemon neither launches nor watches.

It fails those of a command that was killed: Dagster would take them for running for ever, and keep their places in the pool. A command
holds a lock on a file for as long as it lives, and its runs name the file in a tag: whoever gets the lock knows that the command is
dead. Runs that Dagster's own launcher started have no such file; run monitoring ends those.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

CODE_LOCATION = "sequin_pipeline"
"""This is the name of the code location in workspace.yaml and pyproject.toml, and of the one that `ui` starts."""

REPOSITORY = "__repository__"
"""Dagster calls the definitions of a code location so."""

LOCK_TAG = ".dagster/sequin_pipeline_lock"
"""Dagster's UI hides the tags that begin so."""

OLD_LOCK_TAG = "sequin_pipeline/lock"
"""Runs of earlier versions have it."""

MAX_RETRIES_TAG = "dagster/max_retries"

_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@contextmanager
def alive(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """Yields the tags for runs of this process: until the block ends, or the process dies, they are not abandoned.

    Nobody runs them again: whoever typed the command sees how it ended.
    """
    folder = Path(instance.storage_directory())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="command-", suffix=".lock", dir=folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield {LOCK_TAG: lock.name, MAX_RETRIES_TAG: "0"}


def end_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """Fails the runs of killed commands and frees their places in the pool; two of them would stop every later run."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_AT_WORK)):
        lock = Path(run.tags.get(LOCK_TAG, run.tags.get(OLD_LOCK_TAG, "")))
        # A run that somebody executes again in the UI keeps the tags, and lives without the command.
        if run.parent_run_id is None and lock.is_file() and _is_free(lock):
            instance.report_run_failed(
                run, "The command that this run belonged to was killed; the next run continues where it stopped."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            lock.unlink(missing_ok=True)


def belongs_to_command(run: dg.DagsterRun) -> bool:
    """Says whether a command executed the run, in its own process; one that somebody executes again in the UI keeps the tags."""
    return LOCK_TAG in run.tags and run.parent_run_id is None


@contextmanager
def standing_on_timeline(instance: dg.DagsterInstance, job: str) -> Iterator[None]:
    """Gives the runs of the job that this process creates meanwhile their place among those of the code location.

    Dagster's Timeline leaves out every run without one, and `execute_in_process` takes none.
    """
    create_run = instance.create_run_for_job
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), REPOSITORY), job)
    instance.create_run_for_job = partial(create_run, remote_job_origin=origin)  # type: ignore[method-assign]  # of this object alone
    try:
        yield
    finally:
        instance.create_run_for_job = create_run  # type: ignore[method-assign]


def _is_free(lock: Path) -> bool:
    try:
        with lock.open("rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False  # held by a command that lives, or another account's to judge
    return True
