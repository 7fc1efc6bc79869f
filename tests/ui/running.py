"""`sequin-pipeline ui` as a process of its own, what it is asked over GraphQL, and waiting for what it does in its own time."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from sequin_pipeline.environment.settings import VARIABLES

READY_SECONDS = 180.0
END_SECONDS = 40.0
POLL_SECONDS = 1.0
CHILDREN = {"dagster", "dagster-webserver", "dagster-daemon"}


@dataclass(frozen=True)
class RunningUi:
    """A UI that has said it is ready. `log` holds everything that it and its processes wrote."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    directory: Path
    variables: Mapping[str, str]

    def ask(self, query: str, **variables: object) -> Any:  # what a query answers is known to who wrote it
        """The `data` of a GraphQL answer without errors."""
        body = {"query": query, "variables": variables}
        answer = httpx2.post(f"{self.url}/graphql", json=body, timeout=60, trust_env=False).raise_for_status().json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def children(self) -> dict[str, int]:
        """The three processes that it has started, by the program's name, as soon as the machine shows them."""
        wait_for(
            lambda: self._listed().keys() >= CHILDREN,
            READY_SECONDS,
            what=lambda: f"{sorted(CHILDREN)} among {self._listed()}; the UI said:\n{self.log.read_text()}",
        )
        return self._listed()

    def _listed(self) -> dict[str, int]:
        command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {Path(line.split()[2]).name: int(line.split()[0]) for line in listed.splitlines()}


@contextmanager
def running_ui(directory: Path, variables: Mapping[str, str]) -> Iterator[RunningUi]:
    """Starts it in `directory`, where dagster.yaml is, waits until it is ready, and ends it if it has not ended."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {**inherited, **variables}
    log = directory / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sequin_pipeline.cli", "ui", "--port", str(port)],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ui = RunningUi(f"http://127.0.0.1:{port}", process, log, directory, variables)
        wait_for(
            lambda: process.poll() is not None or f"The UI is ready at {ui.url}" in log.read_text(),
            READY_SECONDS,
            what=lambda: f"the UI to be ready; it said:\n{log.read_text()}",
        )
        assert process.poll() is None, log.read_text()
        yield ui
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=END_SECONDS)


def wait_for(claim: Callable[[], object], seconds: float, *, what: Callable[[], str]) -> None:
    """Looks until the claim holds: for what other processes do in their own time, and tell nobody."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} seconds for {what()}"
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def processes_of_session(session_id: int) -> list[str]:
    """Commands of the processes that still belong to a session."""
    done = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "-s", str(session_id)], check=False, capture_output=True, text=True)
    return done.stdout.splitlines()
