"""Processes that tests end, forked from one that has imported what they run: started afresh, each would import for two seconds."""

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import IO, NoReturn

from tests.support.checkout import CHECKOUT

PROGRAMS = ("tests.e2e.sync_process", "tests.faults.sync_process", "tests.runs.queue_process")
"""Modules with a function `main`, which takes the arguments of a command line."""


@dataclass
class Forked:
    """A process under way. `returncode` is None until its end is known, and as that of subprocess.Popen then."""

    pid: int
    _reports: IO[bytes]
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._reports], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._reports.readline())
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Returns when it is gone."""
        self._send(signal.SIGKILL)
        self.wait()

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Parent:
    """The process that the others are forked from, one after the other."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._reports = process.stdin, process.stdout

    @contextmanager
    def start(self, program: str, *arguments: str) -> Iterator[Forked]:
        """Runs `main` of one of PROGRAMS; the process does not outlive the block, whatever happens in it."""
        self._requests.write(json.dumps([program, *arguments]).encode() + b"\n")
        forked = Forked(int(self._reports.readline()), self._reports)
        try:
            yield forked
        finally:
            forked.kill()


@contextmanager
def running_parent() -> Iterator[Parent]:
    command = [sys.executable, "-m", "tests.support.forked"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield Parent(process)
        finally:
            process.kill()


def _serve() -> None:
    """Reads what to run, a line each; answers with the number of its process, and with its status when it has ended."""
    programs = {name: import_module(name) for name in PROGRAMS}
    for line in sys.stdin:
        program, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(programs[program].main, arguments)
        _answer(pid)
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _run(main: Callable[..., object], arguments: list[str]) -> NoReturn:
    os.dup2(2, 1)  # the parent's answers are on standard output, unmixed
    try:
        main(*arguments)
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
