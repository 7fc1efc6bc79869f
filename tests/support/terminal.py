"""A real terminal of some width, for programs that ask what they write to: a pseudo-terminal of the kernel."""

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COLUMNS, ROWS = 80, 24
PATIENCE_SECONDS = 120.0
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;5;\d+)m")


@dataclass(frozen=True)
class Shown:
    """What came to the terminal, with its control sequences and without, and how the program ended."""

    status: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """What a person could read, line by line."""
        return CONTROL.sub("", self.raw).split("\n")

    @property
    def has_colours(self) -> bool:
        return COLOUR.search(self.raw) is not None


class Terminal:
    """A program that runs in a terminal of its own."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        columns: int = COLUMNS,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`variables` are added to the environment, out of which what would overrule the terminal is taken before."""
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (ROWS, columns))
        surroundings = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env={**surroundings, "TERM": "xterm-256color", **(variables or {})},
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""

    def type(self, text: str) -> None:
        """As a person at the keyboard."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Reads until that has been shown."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.raw:
            assert time.monotonic() < deadline, f"{text!r} was not shown, but {self.raw!r}"
            assert self._read(), f"{text!r} was not shown, but {self.raw!r}"

    def finish(self) -> Shown:
        """Reads to the end of the program."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while self._read():
                assert time.monotonic() < deadline, f"the program does not end: {self.raw!r}"
        finally:
            if self.process.poll() is None and time.monotonic() >= deadline:
                self.process.kill()
            os.close(self._ours)
        return Shown(self.process.wait(), self.raw)

    def _read(self) -> bool:
        """False at the end; the kernel reports the close of the other side as an error of input."""
        if not select.select([self._ours], [], [], 1.0)[0]:
            return True
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:
            return False
        self.raw += chunk.decode(errors="replace")
        return bool(chunk)
