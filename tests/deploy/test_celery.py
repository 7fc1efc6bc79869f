"""Runs on the workers of a real Celery, through a real redis, each with a folder and a home of its own; one is killed at work."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.deploy.tools import BIN, needs_tools
from tests.support.builders import record
from tests.support.checkout import CHECKOUT, python_path
from tests.support.system import LEFT_OUT, SKIP_SYSTEM
from tests.support.waits import wait_until

pytestmark = [
    pytest.mark.processes,
    needs_tools,
    pytest.mark.skipif(
        SKIP_SYSTEM or shutil.which("redis-server") is None,
        reason=LEFT_OUT if SKIP_SYSTEM else "redis-server is not there (on Debian: apt-get install redis-server)",
    ),
]

COLLECTIONS = ("alpha:one", "beta:one", "gamma:one", "gamma:two")
RECORDS = 7_000
"""Seven pages of each collection, of which five are a batch."""
PAGE_MS = 700
LOST_AFTER_SECONDS = "6"

DECLARED = """\
type: sequin_pipeline.component.CollectionSync
attributes: {{provider: {provider}, collections: {{{names}}}}}
"""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    records = (
        json.dumps(record(f"r{number}", collection_id=of, data={"number": number})).encode()
        for of in COLLECTIONS
        for number in range(RECORDS)
    )
    with running_sandbox(RecordedFeed(records, is_compacted=False), Settings(delay_ms=PAGE_MS)) as url:
        yield url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with started(["redis-server", *options], tmp_path, {}) as server:
        wait_until(lambda: _accepts(port) or server.poll() is not None, "redis")
        yield f"redis://127.0.0.1:{port}/0"


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a group of its own, whose whole group is ended."""
    folder.mkdir(exist_ok=True)
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def machine(folder: Path, shared: dict[str, str], *, instance: str) -> dict[str, str]:
    """The environment of one machine: a folder, a home and collections of its own."""
    folder.mkdir()
    shutil.copy(CHECKOUT / instance, folder / "dagster.yaml")
    for provider in ("alpha", "beta", "gamma"):
        names = ", ".join(f"{name}: {{}}" for of, name in (one.split(":") for one in COLLECTIONS) if of == provider)
        (folder / "defs" / provider).mkdir(parents=True)
        (folder / "defs" / provider / "defs.yaml").write_text(DECLARED.format(provider=provider, names=names))
    return {
        **shared,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "DAGSTER_HOME": str(folder),
        "SEQUIN_COLLECTIONS": str(folder / "defs"),
    }


@pytest.fixture
def shared(api: str, redis: str, warehouse_url: str, dagster_url: str) -> dict[str, str]:
    """What all machines know."""
    return {
        "SEQUIN_API_URL": api,
        "SEQUIN_API_TOKEN": "none is needed",
        "WAREHOUSE_URL": warehouse_url,
        "DAGSTER_POSTGRES_URL": dagster_url.replace("postgresql://", "postgresql+psycopg2://", 1),
        "CELERY_BROKER_URL": redis,
        "CELERY_RESULT_BACKEND": redis[:-1] + "1",
        "SEQUIN_LOST_AFTER_SECONDS": LOST_AFTER_SECONDS,
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "PYTHONPATH": python_path(CHECKOUT),
        "PYTHONWARNINGS": "ignore",
    }


def drive(scenario: str, folder: Path, shared: dict[str, str], *, instance: str) -> list[dict[str, Any]]:
    """Runs the scenario beside two workers; what it says of the run that was lost, and of those after it."""
    with ExitStack() as stack:
        for name in ("one", "two"):
            variables = machine(folder / name, shared, instance=instance)
            options = ["--concurrency", "1", "--queues", "dagster", "--hostname", name, "--loglevel", "warning"]
            stack.enter_context(
                started([str(BIN / "celery"), "-A", "dagster_celery.app", "worker", *options], folder / name, variables)
            )
        variables = machine(folder / "daemon", shared, instance=instance)
        finished = subprocess.run(
            [str(BIN / "python"), "-m", "tests.deploy.celery_driver", scenario],
            cwd=folder / "daemon",
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    outputs = "\n".join((folder / name / "output").read_text()[-4000:] for name in ("one", "two"))
    assert finished.returncode == 0, f"{finished.stderr[-4000:]}\n{outputs}"
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]


def digests(url: str, tables: tuple[str, ...]) -> dict[str, tuple[object, ...] | None]:
    """Rows, and a digest of all that the source said of them, of each table; when we stored it is ours."""
    with psycopg.connect(url) as connection:
        return {
            table: connection.execute(
                "select count(*), md5(string_agg(row::text, ',' order by row->>'id')) from"
                f" (select to_jsonb(t) - 'inserted_at' - 'updated_at' from {table} t) rows (row)"
            ).fetchone()
            for table in tables
        }


LOST = "no life for 6 seconds. The process or its machine ended, or hangs; what it committed stays"


def test_run_whose_worker_is_killed_is_ended_and_the_next_one_ends_in_the_same_table(
    tmp_path: Path, shared: dict[str, str]
) -> None:
    lost, after, twice = drive("by_launcher", tmp_path, shared, instance="deploy/dagster.celery.yaml")

    assert LOST in lost.pop("message")
    assert lost.pop("seconds") < 60
    assert lost == {"status": "FAILURE", "will_retry": "true", "places": []}
    assert after == {"alpha": "SUCCESS", "again": "SUCCESS", "left": 0}
    assert twice == {
        "refused": "SEQUIN_EXECUTOR is 'celery' while dagster.yaml launches runs by Celery too: a task would wait for tasks, which Celery "
        "refuses. Unset the variable (a run is one task), or take run_launcher out of dagster.yaml (a step is one task)"
    }
    found = digests(shared["WAREHOUSE_URL"], ("alpha.one", "beta.one"))
    assert found["alpha.one"] == found["beta.one"]


def test_run_of_steps_on_workers_is_ended_with_one_of_them_and_its_waiting_process_with_it(
    tmp_path: Path, shared: dict[str, str]
) -> None:
    shared["SEQUIN_EXECUTOR"] = "celery"

    lost, after = drive("by_step", tmp_path, shared, instance="dagster.yaml")

    assert LOST in lost.pop("message")
    assert lost.pop("seconds") < 60
    assert lost == {"status": "FAILURE", "will_retry": "true", "places": [], "steps": 2, "workers": 2}
    assert after == {"again": "SUCCESS", "left": 0}
