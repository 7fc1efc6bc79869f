"""This module runs parts of a backfill, or of a first load, beside each other, each as a run of its own in a process of its own.

A process is started for each run that has a place in the source's pool. It tells this one how far it has come, and ends with it: a command
that is killed leaves runs that stopped where they were, as any killed run does. What a part is, operate/range_cut.py decides.
"""

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from uuid import uuid4

import dagster as dg

from sequin_pipeline import threads
from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.assets import asset_key, run_name
from sequin_pipeline.orchestration.executor import RANGE_END_TAG, RANGE_START_TAG, most_at_once
from sequin_pipeline.orchestration.launch import FinishedRun, Groups, Request, run_groups
from sequin_pipeline.orchestration.run_config import SHARD_TAG, SYNC_ID_TAG
from sequin_pipeline.orchestration.schedules import job_name
from sequin_pipeline.runs.outcome import Progress
from sequin_pipeline.windows import KeyRange, asked_window, windows_between

CUT_TAG = "sequin_pipeline/cut"
"""All runs of one backfill in parts have the same value."""

CUT_RANGE_TAG = "sequin_pipeline/cut_range"
"""The windows that the whole backfill was asked for."""

PROGRESS = "sequin_pipeline.progress"
TOLD = ("sequin_pipeline.sources", "sequin_pipeline.warehouse")
"""What these loggers say is said again in the process of the command."""

INTERRUPTED = 130


@dataclass(frozen=True)
class Part:
    """A part is the windows, or the shard, of one collection that one run reads; `name` tells it from the others, as in `2 of 4`."""

    collection: Collection
    asked: KeyRange
    name: str
    request: Request

    @property
    def windows(self) -> str:
        """These are its windows in words."""
        return self.asked.first if self.asked.first == self.asked.last else f"{self.asked.first} to {self.asked.last}"

    @property
    def told(self) -> str:
        """This is the part in words."""
        return self.name if SHARD_TAG in self.request.marks else f"windows {self.windows}"


@dataclass(frozen=True)
class Unfinished:
    """This value is what is left of a backfill in parts: its id, and the keys of the windows that no run of it has completed."""

    cut: str
    keys: tuple[str, ...]


def begin(collection: Collection, asked: KeyRange) -> Unfinished:
    """Returns a backfill of which nothing has been done."""
    return Unfinished(uuid4().hex, _keys_of(collection, asked))


def resume(instance: dg.DagsterInstance, collection: Collection, asked: KeyRange, request: Request) -> Unfinished:
    """Returns what the latest backfill in parts of this collection over exactly these windows has left.

    Raises ConfigurationError where there was none.
    """
    sync = {} if request.sync_id is None else {SYNC_ID_TAG: request.sync_id}
    of_range = dg.RunsFilter(job_name=job_name(run_name([collection])), tags={CUT_RANGE_TAG: _range_text(asked), **sync})
    key = asset_key(collection)
    cuts = [
        run.tags[CUT_TAG]
        for run in instance.get_runs(of_range)
        if key in (run.asset_selection or ()) and run.tags.get(SYNC_ID_TAG) == request.sync_id
    ]
    if not cuts:
        raise ConfigurationError(
            f"{collection.label}: no backfill in parts over {asked.first} to {asked.last} has been begun, so there is none to resume: "
            "leave out --resume, or name the same windows as then"
        )
    done: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(tags={CUT_TAG: cuts[0]}, statuses=[dg.DagsterRunStatus.SUCCESS])):
        if key in (run.asset_selection or ()):
            done.update(_keys_of(collection, KeyRange(run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG])))
    return Unfinished(cuts[0], tuple(one for one in _keys_of(collection, asked) if one not in done))


def parts_of_cut(
    collection: Collection, asked: KeyRange, unfinished: Unfinished, ranges: Sequence[KeyRange], request: Request
) -> list[Part]:
    """Returns the parts that these ranges are, each with the tags by which a later command knows what was done."""
    marks = {CUT_TAG: unfinished.cut, CUT_RANGE_TAG: _range_text(asked)}
    return [
        Part(collection, one, f"{number} of {len(ranges)}", replace(request, marks=marks))
        for number, one in enumerate(ranges, start=1)
    ]


def parts_of_load(collection: Collection, asked: KeyRange, shards: Sequence[int], request: Request) -> list[Part]:
    """Returns the parts that these shards of a first load are."""
    return [Part(collection, asked, f"shard {number}", replace(request, marks={SHARD_TAG: str(number)})) for number in shards]


def run_parts(parts: Sequence[Part]) -> Iterator[FinishedRun]:
    """Runs the parts, as many at once as the pool has places, and yields each when it has ended; none stops another."""
    if not parts:
        return
    with dg.DagsterInstance.get() as instance:
        at_once = most_at_once(instance, processors=len(parts))
    with ThreadPoolExecutor(at_once, thread_name_prefix="sequin-part") as waiting:
        for ended in as_completed([waiting.submit(_run, part) for part in parts]):
            yield ended.result()


def _run(part: Part) -> FinishedRun:
    # What takes seconds to import is imported once for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dagster_postgres", __name__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, dict(os.environ), there), name=f"{part.collection.label} {part.name}")
    process.start()
    there.close()
    finished: FinishedRun | None = None
    for told in _messages(here):
        if isinstance(told, FinishedRun):
            finished = told
        else:
            logging.getLogger(told.name).handle(told)
    process.join()
    label = part.collection.label
    if finished is None:
        failures = {label: f"its process ended with status {process.exitcode} before the run did"}
        finished = FinishedRun("", (part.collection,), failures)
    return replace(finished, failures={name: f"{part.told}: {said}" for name, said in finished.failures.items()})


def _messages(pipe: Connection) -> Iterator[FinishedRun | logging.LogRecord]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


def _work(part: Part, environment: Mapping[str, str], pipe: Connection) -> None:
    """Is what the process of a part does."""
    # That from which it was forked has the environment of the first part.
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command's own process answers it, and this one ends with that
    # As in the command itself: nothing that anybody could act on.
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - it has been started by one
    _tell_by(pipe, part)
    group: Groups = {(run_name([part.collection]), part.asked): (part.collection,)}
    # Not in the main thread, where Dagster would take signals for its own.
    running = threads.start(lambda: list(run_groups(group, part.request)), "sequin-part")
    ending = threads.start(lambda: wait([parent.sentinel]), "sequin-parent")
    ending.add_done_callback(lambda _: os._exit(INTERRUPTED))
    (finished,) = running.result()
    pipe.send(finished)
    pipe.close()


class _Teller(logging.Handler):
    """This handler sends what a logger says to the command's process."""

    def __init__(self, pipe: Connection, part: Part) -> None:
        super().__init__(logging.DEBUG)
        self._pipe = pipe
        self._part = part

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        told = logging.LogRecord(record.name, record.levelno, "", 0, record.getMessage(), None, None)
        if isinstance(progress, Progress):
            told.progress = replace(progress, label=f"{progress.label} ({self._part.name})")
        self._pipe.send(told)


def _tell_by(pipe: Connection, part: Part) -> None:
    teller = _Teller(pipe, part)
    progress_logger = logging.getLogger(PROGRESS)
    progress_logger.setLevel(logging.DEBUG)
    progress_logger.propagate = False
    for name in (PROGRESS, *TOLD):
        logging.getLogger(name).addHandler(teller)


def _range_text(asked: KeyRange) -> str:
    return f"{asked.first}...{asked.last}"


def _keys_of(collection: Collection, asked: KeyRange) -> tuple[str, ...]:
    bounds = asked_window(collection.windows, asked)
    return windows_between(collection.windows, bounds.start or collection.windows.start, bounds.end)
