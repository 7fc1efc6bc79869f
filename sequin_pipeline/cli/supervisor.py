"""This module runs child processes that belong together: it passes on their output by line, and none outlives the others.

Each child leads a session of its own: Ctrl-C in a terminal reaches us alone, and a child is ended together with everything that it has
started, by its number. What the children are does not matter here.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from sequin_pipeline.errors import ProcessEnded

END_SECONDS = 20.0
"""A child gets this long between being asked to end and being killed.

Dagster's processes take one to three seconds, on a busy machine more.
"""
LOOK_SECONDS = 0.1
"""A child that has ended may go unnoticed for this long."""
KEPT_LINES = 15
"""This many of a child's last lines are kept, for the message about its end."""
PR_SET_PDEATHSIG = 1


@dataclass
class _Child:
    name: str
    process: "subprocess.Popen[bytes]"
    unfinished_line: bytes = b""
    last_lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None  # noqa: S101 - every child is started with a pipe
        return self.process.stdout


class Supervisor:
    """A supervisor starts children and tends them in the caller's thread; leaving the context ends them all, whatever happened in it.

    `report` gets the name of a child and a line that it wrote.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, *, report: Callable[[str, str], None]) -> None:
        self._environment = environment
        self._directory = directory
        self._report = report
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_all()
        self._selector.close()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Starts a child and returns at once; what becomes of it shows while it is tended."""
        process = subprocess.Popen(  # noqa: S603 - the caller's own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self._environment),
            cwd=self._directory,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        child = _Child(name, process)
        os.set_blocking(child.output.fileno(), False)
        self._children.append(child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def tend(self, *, until: Callable[[], bool]) -> None:
        """Passes output on until the claim holds, which is looked at ten times a second; raises ProcessEnded when a child ends."""
        while not until():
            self._relay(LOOK_SECONDS)
            for child in self._children:
                status = child.process.poll()
                if status is not None:
                    self._relay(0)
                    said = "\n".join(f"  {line}" for line in child.last_lines) or "  nothing"
                    raise ProcessEnded(
                        f"the {child.name} (process {child.process.pid}) ended by itself with {_described(status)}, so the others "
                        f"are ended too. It last said:\n{said}"
                    )

    def _relay(self, timeout_seconds: float) -> None:
        for key, _ in self._selector.select(timeout_seconds):
            child: _Child = key.data
            chunk = child.output.read(65536)
            if not chunk:
                self._selector.unregister(child.output)
            *lines, child.unfinished_line = (child.unfinished_line + (chunk or b"\n")).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if text:
                    child.last_lines = [*child.last_lines, text][-KEPT_LINES:]
                    self._report(child.name, text)

    def _end_all(self) -> None:
        for child in self._children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and any(_lives(child) for child in self._children):
            # A child that cannot write its last words would wait for ever.
            self._relay(LOOK_SECONDS) if self._selector.get_map() else time.sleep(LOOK_SECONDS)
        for child in self._children:
            _signal_group(child, signal.SIGKILL)
            child.process.wait()
            child.output.close()


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields a claim that tells whether Ctrl-C, TERM or a closed terminal has come; inside the block they end nothing."""
    requests: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        requests.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lives(child: _Child) -> bool:
    """Says whether the child, or something that it started, is still there."""
    child.process.poll()
    return _signal_group(child, 0)


def _signal_group(child: _Child, number: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)
        return True
    return False


def _described(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _end_with_parent() -> None:
    """Has the kernel send TERM when whoever started the child dies without having ended it (kill -9)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
