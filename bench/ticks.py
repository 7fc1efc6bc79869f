"""What a schedule costs that ticks every minute: daemon, code server, runs and Postgres, as a user has them.

`python -m bench --only ticks` measures this checkout, with `--beside CHECKOUT` another one too. `python -m bench.ticks --collections 200
--minutes 10` lets quiet collections tick, and says whether every minute had its tick.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import yaml

from bench import processes
from bench.child import ContestantFailed
from bench.contestants import CHECKOUT
from bench.postgres import Postgres, running_postgres
from bench.rounds import Arena
from sequin_pipeline.cli.session import DAGSTER_EVENTS, KEPT_MEMORY
from sequin_pipeline.postgres.urls import psycopg2_url

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROVIDER = "quiet"
COLLECTIONS, FEW_COLLECTIONS = 20, 3
FULL_RECORDS = 5_000
"""Of a round: a smoke run has fewer."""
FIRST_RECORDS = 50
NEWS_RECORDS = 10
MINUTES = 2
WAIT_SECONDS = 600.0
POLL_SECONDS = 0.5
SETTLE_SECONDS = 5.0
"""After a run its processes end, and Dagster writes its last words."""

ALIVE = "runs where status in ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')"


@dataclass
class Stream:
    """What every collection has; `requests` counts those that were answered."""

    records: int = FIRST_RECORDS
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def grow(self, records: int) -> None:
        with self.lock:
            self.records += records

    def page(self, collection_id: str, after: int) -> bytes:
        with self.lock:
            self.requests += 1
            end = self.records
        found = [_record(collection_id, number) for number in range(after, end)]
        return json.dumps({"records": found, "cursor": str(end)}).encode()


def _record(collection_id: str, number: int) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "collection_id": collection_id,
        "provider": PROVIDER,
        "sync": {"id": "s1", "external_id": None, "metadata": {}},
        "upstream_id": f"u{number}",
        "updated_idx": number + 1,
        "deleted": False,
        "inserted_at": datetime.now(UTC).isoformat(),
        "data": {"number": number, "status": "active"},
    }


@contextmanager
def serving(stream: Stream) -> Iterator[str]:
    """Serves `/v1/records` on loopback, from this process, which is not measured; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            is_records = url.path == "/v1/records"
            body = stream.page(query["collection_id"], int(query.get("after_cursor", "0"))) if is_records else b"{}"
            self.send_response(200 if is_records else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name; its arguments are of any type
            """Nothing: a line for each request would be measured too."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@dataclass(frozen=True)
class Tick:
    """A tick of the schedule: when it was due (Unix time), after how many seconds it was done, and what was said of it."""

    status: str
    due_at: float
    seconds: float
    said: str


class Installation:
    """A code server and a daemon of one checkout, with databases of their own, and a schedule that ticks every minute."""

    def __init__(self, postgres: Postgres, checkout: Path, scratch: Path, *, api_url: str, collections: int) -> None:
        self._postgres = postgres
        self.name = scratch.name
        self._scratch = scratch
        scratch.mkdir(parents=True)
        warehouse_url, storage_url = (postgres.make_database(name) for name in (self.name, f"{self.name}_storage"))
        self._storage_url = storage_url
        self._environment = _environment(checkout, scratch, api_url=api_url, collections=collections) | {
            "WAREHOUSE_URL": warehouse_url,
            "DAGSTER_POSTGRES_URL": psycopg2_url(storage_url),
        }
        self._workspace = scratch / "workspace.yaml"
        self._processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Starts the processes, and ends them with the block. Raises ContestantFailed."""
        socket = self._scratch / "code.sock"
        server = {"grpc_server": {"socket": str(socket), "location_name": "ticks"}}
        self._workspace.write_text(yaml.safe_dump({"load_from": [server]}))
        with ExitStack() as stack, (self._scratch / "log.txt").open("wb") as log:

            def start(*command: str) -> None:
                process = subprocess.Popen(
                    [SCRIPTS / command[0], *command[1:]], env=self._environment, cwd=self._scratch, stdout=log, stderr=log
                )
                stack.callback(_end, process)
                self._processes.append(process)

            load = ("-m", "sequin_pipeline.definitions", "--location-name", "ticks", "--socket", str(socket))
            start("dagster", "code-server", "start", *load)
            self._wait(socket.exists, "the code server has started")
            start("dagster-daemon", "run", "-w", str(self._workspace))
            self._storage = stack.enter_context(psycopg.connect(self._storage_url, autocommit=True))
            self._wait(lambda: self.count("daemon_heartbeats") > 0, "the daemon is at work")
            yield

    def switch(self, word: str) -> None:
        """Has the schedule `start` or `stop`; the process that does it is not measured."""
        command = [str(SCRIPTS / "dagster"), "schedule", word, f"sync_{PROVIDER}_schedule", "-w", str(self._workspace)]
        subprocess.run(command, env=self._environment, cwd=self._scratch, check=True, capture_output=True)

    def cpu_seconds(self) -> float:
        """Of all its processes, ended ones too, and of Postgres."""
        server = self._postgres.server_cpu_seconds() or 0.0
        ours = [pid for process in self._processes for pid in processes.tree(process.pid)]
        return server + sum(processes.cpu_seconds(pid, with_reaped=True) for pid in ours)

    def count(self, what: str) -> int:
        row = self._storage.execute(f"select count(*) from {what}".encode()).fetchone()
        return int(row[0]) if row else 0

    def ticks(self) -> list[Tick]:
        """Those of the schedule that are done, in their order."""
        rows = self._storage.execute(
            "select status, tick_body from job_ticks where type = 'SCHEDULE' and status <> 'STARTED' order by id"
        ).fetchall()
        bodies = [(str(status), json.loads(body)) for status, body in rows]
        return [
            Tick(status, body["timestamp"], body["end_timestamp"] - body["timestamp"], body.get("skip_reason") or "")
            for status, body in bodies
        ]

    def wait_for_runs(self, number: int) -> None:
        """Returns once there have been so many runs, none is alive, and their processes have settled."""
        self._wait(lambda: self.count("runs") >= number and not self.count(ALIVE), f"run {number} has ended")
        time.sleep(SETTLE_SECONDS)

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_so():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                said = (self._scratch / "log.txt").read_text(errors="replace")[-500:]
                raise ContestantFailed(f"{self.name}: waited in vain until {what}; its log ends with {said}")
            time.sleep(POLL_SECONDS)


def _environment(checkout: Path, scratch: Path, *, api_url: str, collections: int) -> dict[str, str]:
    home, folder = scratch / "dagster", scratch / "collections" / PROVIDER
    home.mkdir()
    folder.mkdir(parents=True)
    shutil.copy(checkout / "dagster.yaml", home)
    declared = "".join(
        f"    c{number:03}: {{columns: {{status: {{path: status, type: text}}}}}}\n" for number in range(collections)
    )
    (folder / "defs.yaml").write_text(
        f"type: sequin_pipeline.component.CollectionSync\nattributes:\n  provider: {PROVIDER}\n  schedule: '* * * * *'\n"
        f"  windows: {{every: month, start: {datetime.now(UTC):%Y-%m}-01}}\n  collections:\n{declared}"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SEQUIN_", "DAGSTER_", "WAREHOUSE_"))}
    return {
        **inherited,
        **DAGSTER_EVENTS,
        **KEPT_MEMORY,
        "PYTHONPATH": str(checkout),
        "PYTHONWARNINGS": "ignore",
        "DAGSTER_HOME": str(home),
        "SEQUIN_API_URL": api_url,
        "SEQUIN_API_TOKEN": "none is needed",
        "SEQUIN_COLLECTIONS": str(scratch / "collections"),
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def measure_ticks(arena: Arena) -> list[dict[str, Any]]:
    """Idle, ticks with nothing new, and ticks with news in every collection: of this checkout, and of the one beside where there is one."""
    is_quick = arena.records < FULL_RECORDS
    checkouts = {"ticks": CHECKOUT} | ({} if arena.other is None else {"ticks_before": arena.other})
    found = []
    for name, checkout in checkouts.items():
        stream, collections = Stream(), FEW_COLLECTIONS if is_quick else COLLECTIONS
        with serving(stream) as url:
            installation = Installation(arena.postgres, checkout, arena.scratch / name, api_url=url, collections=collections)
            with installation.running():
                phases = _measure(installation, stream, minutes=1 if is_quick else MINUTES)
        found.append({"name": name, "collections": collections, **phases})
        print(f"bench: {found[-1]}", file=sys.stderr, flush=True)
    return found


def _measure(installation: Installation, stream: Stream, *, minutes: int) -> dict[str, Any]:
    installation.switch("start")
    installation.wait_for_runs(1)
    installation.switch("stop")
    started, before = time.monotonic(), installation.cpu_seconds()
    time.sleep(30.0 * minutes)
    idle = (installation.cpu_seconds() - before) / (time.monotonic() - started)
    # The code server answers the process that switches the schedule: neither is part of what a tick costs.
    _sleep_to_the_second(5)
    started, before = time.monotonic(), installation.cpu_seconds()
    installation.switch("start")
    installation.switch("stop")
    time.sleep(SETTLE_SECONDS)
    switching = installation.cpu_seconds() - before - idle * (time.monotonic() - started)
    measure = partial(_measure_ticks, installation, stream, minutes, idle=idle, switching=switching)
    return {"idle_cpu_a_second": idle, "nothing_new": measure(news=0), "news": measure(news=NEWS_RECORDS)}


def _measure_ticks(
    installation: Installation, stream: Stream, minutes: int, *, news: int, idle: float, switching: float
) -> dict[str, float]:
    """Measures so many ticks and their runs, from before the schedule is on until it is off and no run is alive.

    News come before each tick.
    """
    started, before = time.monotonic(), installation.cpu_seconds()
    ticks, runs, requests = len(installation.ticks()), installation.count("runs"), stream.requests
    _sleep_to_the_second(10)
    stream.grow(news)
    installation.switch("start")
    for minute in range(minutes):
        if minute:
            stream.grow(news)
        time.sleep(1)
        _sleep_to_the_second(50)
        time.sleep(25)
    installation.switch("stop")
    installation.wait_for_runs(runs)
    spent = installation.cpu_seconds() - before - idle * (time.monotonic() - started) - switching
    done, launched = installation.ticks()[ticks:], installation.count("runs") - runs
    return {
        "ticks": len(done),
        "runs": launched,
        "requests": stream.requests - requests,
        # A tick that passes while the last run is at work is part of what that run costs.
        "cpu_seconds_a_tick": spent / (launched or len(done) or 1),
        "seconds_a_tick": max((tick.seconds for tick in done), default=0.0),
    }


def _sleep_to_the_second(second: int) -> None:
    time.sleep((second - time.time()) % 60)


def hold_schedule(postgres: Postgres, scratch: Path, *, collections: int, minutes: int) -> bool:
    """Lets collections with nothing new tick, prints each tick, and tells whether every minute had one that ended before the next."""
    stream = Stream()
    with serving(stream) as url:
        installation = Installation(postgres, CHECKOUT, scratch / "hold", api_url=url, collections=collections)
        with installation.running():
            installation.switch("start")
            installation.wait_for_runs(1)
            _sleep_to_the_second(30)
            first, before, runs, requests = (
                len(installation.ticks()),
                installation.cpu_seconds(),
                installation.count("runs"),
                stream.requests,
            )
            time.sleep(60 * minutes)
            spent = (installation.cpu_seconds() - before) / (60 * minutes)
            ticks = installation.ticks()[first:]
            runs = installation.count("runs") - runs
    for tick in ticks:
        print(
            f"{datetime.fromtimestamp(tick.due_at, UTC):%H:%M:%S}  {tick.status:8} done after {tick.seconds:4.1f} s  {tick.said[:100]}"
        )
    print(
        f"{collections} collections, {minutes} minutes, {os.cpu_count()} CPUs: {len(ticks)} ticks, {runs} runs, "
        f"{stream.requests - requests} requests, {spent:.2f} of one CPU"
    )
    return len(ticks) == minutes and all(tick.seconds < 60 for tick in ticks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ticks", description=__doc__)
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sequin-ticks-") as folder, running_postgres(os.environ) as postgres:
        is_held = hold_schedule(postgres, Path(folder), collections=arguments.collections, minutes=arguments.minutes)
    print("every minute had its tick, and each ended before the next" if is_held else "the schedule was not held")
    return 0 if is_held else 1


if __name__ == "__main__":
    sys.exit(main())
