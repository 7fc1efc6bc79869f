"""A project folder of a user, with databases of its own: what the real command is run in."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psycopg

from tests.orchestration.files import write
from tests.sources.stripe.shop import refuse_live
from tests.support.checkout import CHECKOUT
from tests.support.commands import Finished

TOKEN = "tok-4c1d9a7e"
"""Of the records API: nothing that anybody prints may hold it."""

COMMAND_SECONDS = 120.0
"""Far more than a sync of some records takes: a command that hangs must not hang the suite."""

PLAIN: Mapping[str, bool] = {"trust_env": False, "verify": False}
"""Options of a client that speaks plain HTTP to loopback."""

THIS_MONTH = f"{datetime.now(UTC):%Y-%m}-01"
"""Windows that start here are one: Dagster writes an event for each."""


@dataclass(frozen=True)
class Project:
    """A folder with dagster.yaml, and the variables that a user would set; both URLs are those of fresh databases."""

    folder: Path
    warehouse_url: str
    dagster_url: str
    api_url: str
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Of the command's process."""
        ours = {
            "WAREHOUSE_URL": self.warehouse_url,
            "DAGSTER_POSTGRES_URL": self.dagster_url,
            "SEQUIN_API_URL": self.api_url,
            "SEQUIN_API_TOKEN": TOKEN,
            "DAGSTER_HOME": str(self.folder),
            "COLUMNS": "200",
            "PYTHONUNBUFFERED": "1",
        }
        # Whoever runs the tests may have keys of his own.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
        return {**inherited, **ours, **{name: refuse_live(value) for name, value in self.variables.items()}}

    def declare(self, **providers: str) -> "Project":
        """Writes a defs.yaml for each and names their folder: as a user with collections of his own does."""
        self.variables.update(write(self.folder / "collections", **providers))
        return self

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """The real command, under way; whoever starts it ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "sequin_pipeline.cli", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The real command, to its end."""
        with self.start(*arguments) as process:
            try:
                stdout, stderr = process.communicate(timeout=COMMAND_SECONDS)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Rows of the warehouse."""
        with psycopg.connect(self.warehouse_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def execute(self, *statements: str) -> None:
        """Statements on the warehouse, each by itself."""
        with psycopg.connect(self.warehouse_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


MakeProject = Callable[[str], Project]


Command = Callable[..., Finished]


def build_project(folder: Path, *, warehouse_url: str, dagster_url: str, api_url: str) -> Project:
    """The folder gets the dagster.yaml of the checkout, and nothing else."""
    folder.mkdir()
    shutil.copy(CHECKOUT / "dagster.yaml", folder)
    return Project(folder, warehouse_url, dagster_url, api_url)


@contextmanager
def killed_at_the_end(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """The process does not outlive the block, whatever happens in it."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL, which no process can handle; returns when it is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class SandboxControls:
    """What a test asks of a running sandbox, over HTTP as everybody, but without loading the authorities of TLS each time."""

    url: str

    def page_requests(self) -> list[Mapping[str, str]]:
        """The queries of the requests for pages, in the order of their answers."""
        return self.requests("/v1/records")

    def requests(self, path: str) -> list[Mapping[str, str]]:
        """The queries of the requests whose path ends so, in the order of their answers."""
        answer = httpx2.get(f"{self.url}/_sandbox/requests", **PLAIN).json()
        return [entry["query"] for entry in answer["requests"] if entry["path"].endswith(path)]

    def arrived(self) -> int:
        """How many requests have come in, answered or not."""
        return int(httpx2.get(f"{self.url}/_sandbox/requests", **PLAIN).json()["count"])

    def forget_requests(self) -> None:
        httpx2.delete(f"{self.url}/_sandbox/requests", **PLAIN)

    def set_faults(self, *faults: str) -> None:
        httpx2.post(f"{self.url}/_sandbox/faults", json={"faults": list(faults)}, **PLAIN).raise_for_status()

    def append(self, lines: Iterable[bytes]) -> None:
        httpx2.post(f"{self.url}/_sandbox/records", content=b"\n".join(lines), **PLAIN).raise_for_status()


def everything_in(url: str) -> list[str]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        return [row[0] for (table,) in tables for row in connection.execute(f"select t::text from {table} t".encode())]
