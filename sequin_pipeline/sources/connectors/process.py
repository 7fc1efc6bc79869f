"""This module runs a connector as a child process, and hands over the lines that it writes.

Between the run and the connector stands guard.py, which ends the connector when the run closes the process or dies. What the connector
is told in files stands in a private folder, which is gone when the connector is. Nothing here knows what the lines mean.
"""

import contextlib
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sequin_pipeline.errors import SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sources.connectors import guard
from sequin_pipeline.sources.connectors.masking import Mask

LOGGER = logging.getLogger("sequin_pipeline.sources")

CHUNK_BYTES = 1 << 20
"""One read takes at most this much: as much as a pipe holds."""

POLL_MILLISECONDS = 200
"""A reader notices after this long that the run no longer wants what it waits for."""

TAIL_LINES, TAIL_BYTES = 20, 500
"""This much of what the connector wrote to its standard error is kept, for the message when it fails."""

PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
)
"""A connector gets these of the environment; whatever else it needs stands in its configuration."""

STATED = {"DO_NOT_TRACK": "1", "PYTHONIOENCODING": "utf-8"}


@dataclass(frozen=True)
class Limits:
    """These bound what a connector may do.

    It may be silent for `silence_seconds` (rate limits make it wait for an hour), and has `grace_seconds` to end after it was told to. A
    line of more than `line_bytes` is refused: Postgres holds no larger value, and one that never ends must not take all memory. So many
    `lines` are handed over together.
    """

    silence_seconds: float = 7200.0
    grace_seconds: float = 1.0
    line_bytes: int = 256 << 20
    lines: int = 1_000


class ReadStopped(SourceUnavailable):
    """The run no longer wants what it was reading; nobody sees this but the thread that was."""


class ConnectorProcess:
    """This process is started by `with`, read by `lines`, and gone at the end of the block.

    `files` are written as JSON, and their paths stand in `arguments` in place of `{name}`. `stop` ends a wait for lines.
    """

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        files: Mapping[str, object],
        *,
        environment: Mapping[str, str],
        mask: Mask,
        stop: threading.Event,
        limits: Limits = Limits(),
    ) -> None:
        self._command = [str(Path(part).expanduser()) if part.startswith("~/") else part for part in command]
        self._arguments, self._files = arguments, files
        self._environment = {name: environment[name] for name in PASSED_ON if environment.get(name)} | STATED
        self._mask, self._stop, self._limits = mask, stop, limits
        self._said: deque[str] = deque(maxlen=TAIL_LINES)
        self.name = Path(self._command[0]).name

    def __enter__(self) -> "ConnectorProcess":
        program = shutil.which(self._command[0], path=self._environment.get("PATH"))
        if program is None:
            raise SourceRefused(
                f"the connector's command {self._command[0]!r} is not a program that can be run: install the connector in an environment "
                "of its own, and name the program there by its whole path in `connector.command`"
            )
        folder = Path(tempfile.mkdtemp(prefix="sequin-connector-"))
        try:
            self._start(folder, program)
        except BaseException:
            # Also when interrupted: the folder holds secrets, and nobody else knows of it yet. Raised again.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self

    def _start(self, folder: Path, program: str) -> None:
        self._folder = folder
        paths = {name: _write(folder / f"{name}.json", value) for name, value in self._files.items()}
        scratch = folder / "tmp"
        scratch.mkdir(mode=0o700)
        arguments = [
            paths[part[1:-1]] if part[1:-1] in paths and part == f"{{{part[1:-1]}}}" else part for part in self._arguments
        ]
        watcher = [sys.executable, "-I", "-S", guard.__file__, str(folder), str(self._limits.grace_seconds)]
        self._process = subprocess.Popen(  # noqa: S603 - what the user declared is what is meant to be run
            [*watcher, program, *self._command[1:], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._environment, "TMPDIR": str(scratch)},
            start_new_session=True,
            bufsize=0,
        )
        self._listener = threading.Thread(target=self._listen, name="sequin-connector-stderr", daemon=True)
        self._listener.start()

    def __exit__(self, *exception: object) -> None:
        """Ends the connector, and waits until it is gone."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._limits.grace_seconds + 10.0)
        self._listener.join(timeout=1.0)
        # Gone already, unless the process between was killed itself.
        shutil.rmtree(self._folder, ignore_errors=True)

    def lines(self) -> Iterator[list[bytes]]:
        """Yields the lines that are there, without their ends, until the connector closes its output; none while it is silent.

        What stands behind the last end of a line comes last, by itself. Raises SourceUnavailable after a silence, and SourceFault for a
        line that is too long.
        """
        most = self._limits.lines
        unfinished: list[bytes] = []
        size = 0
        for chunk in self._chunks():
            if not chunk:
                yield []
                continue
            head, *others = chunk.split(b"\n")
            unfinished.append(head)
            size += len(head)
            if size > self._limits.line_bytes:
                raise SourceFault(f"the connector {self.name!r} wrote a line of more than {self._limits.line_bytes:,} bytes")
            if others:
                *whole, rest = others
                lines = [b"".join(unfinished), *whole]
                for start in range(0, len(lines), most):
                    yield lines[start : start + most]
                unfinished, size = [rest], len(rest)
        if size:
            yield [b"".join(unfinished)]

    def _chunks(self) -> Iterator[bytes]:
        """Yields what is there, and never blocks: whoever stops the run does not wait for a connector that is silent."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        heard_at = time.monotonic()
        while True:
            if self._stop.is_set():
                raise ReadStopped(f"the run stopped reading the connector {self.name!r}")
            # Asked before the pipe is looked at: what was written before the end is in it by then.
            is_over = self._process.poll() is not None
            if not poll.poll(0 if is_over else POLL_MILLISECONDS):
                if is_over:
                    # Something that left the process group holds the pipe open.
                    return
                if time.monotonic() - heard_at > self._limits.silence_seconds:
                    raise SourceUnavailable(
                        f"the connector {self.name!r} wrote nothing for {self._limits.silence_seconds:,.0f} seconds, and was "
                        f"ended{self.tail()}"
                    )
                yield b""
                continue
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
            heard_at = time.monotonic()

    def status(self) -> int:
        """Returns how the connector ended, once its output is read: its exit status, or 128 and the number of a signal.

        Raises SourceUnavailable where it closes its output and goes on all the same.
        """
        deadline = time.monotonic() + self._limits.silence_seconds
        while time.monotonic() < deadline:
            if self._stop.is_set():
                raise ReadStopped(f"the run stopped reading the connector {self.name!r}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(POLL_MILLISECONDS / 1000)
                self._listener.join(timeout=1.0)
                return status
        raise SourceUnavailable(f"the connector {self.name!r} closed its output, but did not end, and was ended{self.tail()}")

    def tail(self) -> str:
        """Returns what the connector last wrote to its standard error, masked, as the end of a message."""
        # Of a traceback the lines that only point at a place say nothing here.
        said = [line.strip() for line in self._said if line.strip(" ^~-=|")]
        return f"; the last that it said: {' | '.join(said[-5:])}" if said else ""

    def _listen(self) -> None:
        """Keeps the last lines, each cut, of what may be gigabytes."""
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        most = TAIL_BYTES + self._mask.longest + 1
        with self._process.stderr as stderr:
            held = b""
            while chunk := os.read(stderr.fileno(), CHUNK_BYTES):
                *whole, rest = (held + chunk).split(b"\n")
                wanted = whole if LOGGER.isEnabledFor(logging.DEBUG) else whole[-TAIL_LINES:]
                for line in wanted:
                    self._said.append(self._mask.of_bytes(line, TAIL_BYTES))
                    LOGGER.debug("the connector %s writes: %s", self.name, self._said[-1])
                # Of a line without end its beginning is enough.
                held = rest[:most]
            if held:
                self._said.append(self._mask.of_bytes(held, TAIL_BYTES))


def describe_status(status: int) -> str:
    """Returns how a process ended, in words."""
    if status > guard.BY_SIGNAL:
        number = status - guard.BY_SIGNAL
        reason = ": the system ends what takes too much memory in this way" if number == 9 else ""
        return f"ended by signal {number}{reason}"
    return f"ended with status {status}"


def _write(path: Path, value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, since the mode is told when it is opened
        file.write(text)
    return str(path)
