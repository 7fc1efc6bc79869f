"""This launcher starts, finds and stops a sandbox that outlives the command which needed it, through files in one folder.

    sandbox.json    url and pid of the one that was started last; stays, so that the next one gets the same url
    sandbox.lock    held while somebody looks, starts or stops
    sandbox.log     what it said

Only a process that answers as the sandbox of this folder is ever adopted or stopped.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from sequin_pipeline.environment import embedded
from sequin_pipeline.errors import ConfigurationError, SourceUnavailable
from sequin_pipeline.sandbox.listening import listening_socket, url_of

_START_SECONDS = 120
"""A sandbox makes its objects up within seconds; a busy machine may take longer."""

_ANSWER_SECONDS = 10
_STOP_SECONDS = 10


@dataclass(frozen=True)
class _Answer:
    """This value is what the health endpoint of a sandbox says of it."""

    pid: int
    version: str


def default_home(environ: Mapping[str, str]) -> Path:
    """Returns the sandbox's folder below the pipeline's own."""
    return embedded.find_home(environ).root / "sandbox"


def ensure_running(home: Path) -> str:
    """Returns the URL of this folder's sandbox: a running one, or one started now, whose made-up objects stand still.

    One of another version of the pipeline is replaced. Raises ConfigurationError with what the sandbox said when it does not start.
    """
    with _locked(home):
        url = _recorded_url(home)
        answer = _ask(url, home) if url else None
        if url and answer and answer.version == version("sequin-pipeline"):
            return url
        if url and answer:
            _terminate(url, home, answer.pid)
        return _start(home)


def running_url(home: Path) -> str | None:
    """Returns the URL of the sandbox of this folder, when one runs."""
    url = _recorded_url(home)
    return url if url and _ask(url, home) else None


def stop(home: Path) -> bool:
    """Stops the sandbox of this folder and waits until it is gone; returns False where none was running."""
    with _locked(home):
        url = _recorded_url(home)
        answer = _ask(url, home) if url else None
        if url and answer:
            _terminate(url, home, answer.pid)
        return answer is not None


def leave_parent() -> None:
    """Goes on in a child process; the parent ends, which tells whoever waits for it that the start went well."""
    if os.fork():
        os._exit(0)


def _start(home: Path) -> str:
    with _listener(home) as listener, (home / "sandbox.log").open("wb") as log:
        url = url_of(listener)
        arguments = ["sandbox", "--home", str(home), "--listener", str(listener.fileno())]
        try:
            outcome = subprocess.run(  # noqa: S603 - our own interpreter and arguments
                [sys.executable, "-m", "sequin_pipeline.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
                timeout=_START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SourceUnavailable(f"the sandbox in {str(home)!r} did not start within {_START_SECONDS} seconds") from error
    answer = _ask(url, home)
    if outcome.returncode != 0 or answer is None:
        said = (home / "sandbox.log").read_text(errors="replace").strip()
        raise ConfigurationError(f"the sandbox in {str(home)!r} did not start; it said: {said[-2000:] or 'nothing'}")
    record = home / "sandbox.json.partial"
    record.write_text(json.dumps({"url": url, "pid": answer.pid}))
    record.replace(home / "sandbox.json")
    return url


def _listener(home: Path) -> socket.socket:
    """Opens a socket on the port of the sandbox before, where it is free: synced rows belong to the URL that they came from."""
    url = _recorded_url(home)
    if url and (port := urlsplit(url).port):
        with suppress(ConfigurationError):
            return listening_socket(port)
    return listening_socket()


def _ask(url: str, home: Path) -> _Answer | None:
    """Asks for the health of the sandbox; None means that nobody answers, or somebody who is not the sandbox of this folder."""
    try:
        health = httpx2.get(f"{url}/_sandbox/health", timeout=_ANSWER_SECONDS, trust_env=False).json()
        return _Answer(int(health["pid"]), str(health["version"])) if health["home"] == str(home) else None
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return None


def _terminate(url: str, home: Path, pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _ask(url, home) is not None:
        if time.monotonic() > deadline:
            raise SourceUnavailable(f"the sandbox in {str(home)!r} (process {pid}) did not stop within {_STOP_SECONDS} seconds")
        time.sleep(0.05)


def _recorded_url(home: Path) -> str | None:
    try:
        return str(json.loads((home / "sandbox.json").read_text())["url"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "sandbox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
