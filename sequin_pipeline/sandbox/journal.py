"""The journal records when the changes of a running sandbox happened, so that a restarted sandbox repeats them and goes on.

The changes themselves are not kept: the same seed and the same times give the same changes.
"""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from sequin_pipeline.errors import ConfigurationError


@dataclass(frozen=True)
class Run:
    """A run is one life of the sandbox: change number n of it, from 1, happened n / `rate` seconds after `started_at`."""

    started_at: datetime
    rate: float
    changes: int = 0

    def change_at(self, number: int) -> datetime:
        return self.started_at + timedelta(seconds=number / self.rate)


class Journal:
    """A journal holds the runs of one sandbox; without a file they are forgotten with the process.

    Raises ConfigurationError when the file belongs to another seed, to a sandbox that is still alive, or cannot be understood.
    """

    def __init__(self, seed: int, path: Path | None = None) -> None:
        self._seed = seed
        self._path = path
        self._runs: tuple[Run, ...] = ()
        self._began_at: datetime | None = None
        self._lock = _lock(path) if path else None
        if path and path.exists():
            try:
                self._runs = _read(path, seed)
            except ConfigurationError:
                self.close()
                raise

    def close(self) -> None:
        if self._lock:
            self._lock.close()

    def changes_at(self) -> Iterator[datetime]:
        """Yields the times of every change so far, in order."""
        return (run.change_at(number) for run in self._runs for number in range(1, run.changes + 1))

    def begin_run(self, now: datetime, rate: float, *, not_before: datetime) -> None:
        """Begins a run where the last one ended, and not before `not_before`: the stream's time does not go back.

        From there on only what the clock has moved counts, whatever it says.
        """
        last = self._runs[-1] if self._runs else None
        ended_at = last.change_at(last.changes) if last and last.changes else not_before
        self._runs = (*(run for run in self._runs if run.changes), Run(max(now, ended_at, not_before), rate))
        self._began_at = now

    def due_at(self, now: datetime) -> list[datetime]:
        """Returns the times of the changes that should have happened by now and are not recorded."""
        run = self._runs[-1]
        due = int(self._seconds_run(now) * run.rate)
        return [run.change_at(number) for number in range(run.changes + 1, due + 1)]

    def seconds_to_next(self, now: datetime) -> float | None:
        """Returns the time to the next change, or None where this run makes no changes."""
        run = self._runs[-1]
        return max(0.0, (run.changes + 1) / run.rate - self._seconds_run(now)) if run.rate else None

    def _seconds_run(self, now: datetime) -> float:
        if self._began_at is None:
            raise ValueError("no run has begun: call begin_run first")
        return (now - self._began_at).total_seconds()

    def record(self, count: int) -> None:
        """Records that the next `count` changes of this run are happening."""
        run = self._runs[-1]
        self._runs = (*self._runs[:-1], replace(run, changes=run.changes + count))
        if self._path:
            text = json.dumps({"seed": self._seed, "runs": [asdict(run) for run in self._runs]}, default=datetime.isoformat)
            partial = self._path.with_name(self._path.name + ".partial")
            partial.write_text(text)
            partial.replace(self._path)


def _lock(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigurationError(
            f"the sandbox's state {str(path)!r} is in use by a sandbox that is still running: stop it, or name another file with --state"
        ) from error
    return lock


def _read(path: Path, seed: int) -> tuple[Run, ...]:
    try:
        state = json.loads(path.read_text())
        runs = tuple(Run(_utc(run["started_at"]), float(run["rate"]), int(run["changes"])) for run in state["runs"])
        found_seed = state["seed"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigurationError(
            f"the sandbox's state {str(path)!r} cannot be read ({error}): remove it to start from the beginning"
        ) from error
    if found_seed != seed:
        raise ConfigurationError(
            f"the sandbox's state {str(path)!r} belongs to seed {found_seed}, and seed {seed} was asked for: "
            "name another file with --state, or remove this one"
        )
    return runs


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
