"""Both ends of the pipe to a contestant's process. Standard library only: peers run in an environment of their own.

A contestant is a process, so that its CPU seconds and its memory are its own. It says that it is ready once everything is imported;
then for each `Task` it prepares, waits for the word, works, and answers with what that cost. Preparing is not measured.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a contestant works: a database, a schema of its own in it, a folder for its files, and the API."""

    database_url: str = field(repr=False)
    schema: str
    scratch: str
    api_url: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # what only this contestant understands


@dataclass(frozen=True)
class Task:
    """One phase: the pages to write, as files, and how many records they hold. `options` go before those of the place."""

    phase: str
    pages: Sequence[str]
    records: int
    options: Mapping[str, Any] = field(default_factory=dict)  # as those of the place


@dataclass(frozen=True)
class Spent:
    """What a task took in the contestant's own process and those it started; `notes` is what only it can tell."""

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    notes: Mapping[str, float] = field(default_factory=dict)


class ContestantFailed(Exception):
    """A contestant's process ended, or said something else than it should; the message holds the end of what it printed."""


def compete(prepare: Callable[[Task], Callable[[], Mapping[str, float] | None]]) -> None:
    """The contestant's end: for each task, `prepare` returns the work to be measured, which may return notes."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        work = prepare(Task(**json.loads(line)))
        print(json.dumps("prepared"), flush=True)
        sys.stdin.readline()
        started, cpu_started = time.perf_counter(), _cpu_seconds()
        notes = work()
        spent = Spent(time.perf_counter() - started, _cpu_seconds() - cpu_started, _peak_rss_bytes(), notes or {})
        print(json.dumps(asdict(spent)), flush=True)


def place() -> Place:
    """What the process was started with."""
    return Place(**json.loads(sys.argv[1]))


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_rss_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit


class Contestant:
    """The bench's end of the pipe."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def prepare(self, task: Task) -> None:
        """Returns when the contestant waits for the word."""
        # A checkout of before (beside.py) knows no options.
        self._send(json.dumps({name: value for name, value in asdict(task).items() if name != "options" or value}))
        self.expect("prepared")

    def work(self) -> Spent:
        """Gives the word, and returns when the work is done."""
        self._send("go")
        answer = self._receive()
        if not isinstance(answer, dict):
            raise self._failed(f"said {answer!r}")
        return Spent(**answer)

    def expect(self, word: str) -> None:
        if (answer := self._receive()) != word:
            raise self._failed(f"said {answer!r} instead of {word!r}")

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failed("has ended") from error

    def _receive(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: object = json.loads(line)
        except ValueError as error:
            raise self._failed(f"said {line!r}" if line else "has ended") from error
        return answer

    def _failed(self, what: str) -> ContestantFailed:
        said = self._log.read_text(errors="replace").strip().splitlines()
        return ContestantFailed(f"the contestant {what}; the end of its log: {' | '.join(said[-3:])}")


@contextmanager
def contestant(command: Sequence[str], place: Place, *, environment: Mapping[str, str], directory: Path) -> Iterator[Contestant]:
    """Starts a contestant and waits until it is ready; ends it with the block. Raises ContestantFailed."""
    Path(place.scratch).mkdir(parents=True, exist_ok=True)
    log = Path(place.scratch) / "log.txt"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, json.dumps(asdict(place))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=directory,
            env={**os.environ, **environment},
        ) as process,
    ):
        started = Contestant(process, log)
        try:
            started.expect("ready")
            yield started
        finally:
            process.kill()
