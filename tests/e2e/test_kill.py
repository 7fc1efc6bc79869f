"""kill -9 of a sync at every step of a batch: the next run goes on at the first batch that was not committed.

Where the process stands is seen from outside: in pg_stat_activity, in the ledger, in the sandbox's log of requests. It is held there
by locks that the test takes, by a slow page, or by a socket that stalls.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from tests.e2e.project import THIS_MONTH, MakeProject, SandboxControls, kill, killed_at_the_end
from tests.e2e.stalling_proxy import stalling_proxy
from tests.e2e.sync_process import sync
from tests.support.builders import record
from tests.support.forked import Forked, Parent
from tests.support.waits import looks

LEDGER_LOCK = f"select pg_advisory_xact_lock({0x5E901})"
"""The lock under which the pipeline creates its ledger and tables."""


def lines(first: int, last: int) -> list[bytes]:
    """Versions of 20 records in turn: version n is of record n modulo 20."""
    return [json.dumps(record(f"r{number % 20:02}", number)).encode() for number in range(first, last + 1)]


FOLD = [
    *((f"r{number - 40:02}", number) for number in range(40, 51)),
    *((f"r{number - 20:02}", number) for number in range(31, 40)),
]
"""Of versions 1 to 50: r00 at 40 to r10 at 50, r11 at 31 to r19 at 39."""


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    """Five pages of ten records, which give every version its place."""
    with running_sandbox(RecordedFeed(lines(1, 50), is_compacted=False)) as url:
        yield SandboxControls(url)


Syncing = Callable[[SandboxControls, str], AbstractContextManager[Forked]]


@pytest.fixture
def syncing(processes: Parent) -> Syncing:
    """Starts a run in a process of its own."""
    return lambda api, warehouse_url: processes.start("tests.e2e.sync_process", api.url, warehouse_url)


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str] | Forked") -> None:
    for _ in looks():
        if happened():
            return
        assert process.poll() is None, "the process ended before this step; it said why on standard error"
    raise AssertionError("the process did not come to this step")


def is_waiting_in(warehouse_url: str, statement: str) -> bool:
    """Does a session of the pipeline wait for a lock in a statement that begins like this?"""
    with psycopg.connect(warehouse_url) as connection:
        waiting = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'sequin_pipeline'"
            " and wait_event_type = 'Lock' and query ilike %s",
            (statement + "%",),
        ).fetchone()
    return waiting == (1,)


def committed_batches(warehouse_url: str) -> int:
    with psycopg.connect(warehouse_url) as connection:
        if connection.execute("select to_regclass('sequin_pipeline.merges')").fetchone() == (None,):
            return 0
        row = connection.execute("select count(distinct batch_id)::int from sequin_pipeline.merges").fetchone()
    assert row is not None
    return int(row[0])


def cursor_of(batches: int) -> str | None:
    """The sandbox's cursor after so many pages of ten."""
    return {0: None, 1: "MTA", 2: "MjA", 3: "MzA", 4: "NDA", 5: "NTA"}[batches]


def assert_next_run_completes(api: SandboxControls, warehouse_url: str, *, batches: int) -> None:
    """A run after a kill that left `batches` behind: asks first for what comes after them, loses nothing, doubles nothing."""
    api.set_faults()
    api.forget_requests()
    with psycopg.connect(warehouse_url) as connection:
        is_there = connection.execute("select to_regclass('sequin_pipeline.cursors')").fetchone() != (None,)
        stored = connection.execute("select cursor from sequin_pipeline.cursors").fetchall() if is_there else []

    outcome = sync(api.url, warehouse_url, run_id="next")

    assert [row[0] for row in stored] == ([cursor_of(batches)] if batches else [])
    assert api.page_requests()[0].get("after_cursor") == cursor_of(batches)
    assert outcome.counts.fetched == 50 - 10 * batches
    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute("select id, updated_idx from demo.thing order by id").fetchall()
        fetched = connection.execute(
            "select sum(fetched)::int, count(distinct batch_id)::int from sequin_pipeline.merges"
        ).fetchone()
        known = connection.execute("select row_count from sequin_pipeline.tables").fetchone()
    assert rows == FOLD
    assert fetched == (50, 5)
    assert known == (20,)


def test_killed_before_its_first_request(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    with psycopg.connect(warehouse_url) as holder, syncing(api, warehouse_url) as process:
        holder.execute(LEDGER_LOCK)
        wait_until(lambda: is_waiting_in(warehouse_url, "select pg_advisory_xact_lock"), process)

        process.kill()

        assert api.arrived() == 0
        holder.rollback()
    assert_next_run_completes(api, warehouse_url, batches=0)


def test_killed_while_waiting_for_a_page(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    api.set_faults("slow:60000,at=3")
    with syncing(api, warehouse_url) as process:
        wait_until(lambda: api.arrived() == 3 and committed_batches(warehouse_url) == 2, process)

        process.kill()

    assert_next_run_completes(api, warehouse_url, batches=2)


def test_killed_in_the_middle_of_copy(api: SandboxControls, warehouse_url: str, syncing: Syncing, tmp_path: Path) -> None:
    server = Path(parse_qs(urlsplit(warehouse_url).query)["host"][0])
    behind_proxy = warehouse_url.replace(quote(str(server)), quote(str(tmp_path)))
    with stalling_proxy(tmp_path, server) as stalled, syncing(api, behind_proxy) as process:
        wait_until(stalled.is_set, process)
        with psycopg.connect(warehouse_url) as connection:
            found = connection.execute(
                "select state, left(query, 5) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchall()

        process.kill()

    assert found == [("active", "copy ")]
    assert_next_run_completes(api, warehouse_url, batches=0)


def test_killed_while_the_merge_statement_waits_for_a_row(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    first_pages_only(api, warehouse_url, syncing)
    with psycopg.connect(warehouse_url) as holder, syncing(api, warehouse_url) as process:
        # Record r05 is in the third page; the statement has written others of that page by then.
        holder.execute("select from demo.thing where id = 'r05' for update")
        wait_until(lambda: is_waiting_in(warehouse_url, "with seen"), process)

        process.kill()

    assert_next_run_completes(api, warehouse_url, batches=2)


def test_killed_between_merge_and_commit(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    first_pages_only(api, warehouse_url, syncing)
    with psycopg.connect(warehouse_url) as holder, syncing(api, warehouse_url) as process:
        holder.execute("lock table sequin_pipeline.merges in share mode")
        wait_until(lambda: is_waiting_in(warehouse_url, 'insert into "sequin_pipeline"."merges"'), process)

        process.kill()

    assert_next_run_completes(api, warehouse_url, batches=2)


def test_killed_after_its_last_commit(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    first_pages_only(api, warehouse_url, syncing)
    with psycopg.connect(warehouse_url) as holder, syncing(api, warehouse_url) as process:
        holder.execute("lock table sequin_pipeline.runs in share mode")
        wait_until(lambda: is_waiting_in(warehouse_url, 'insert into "sequin_pipeline"."runs"'), process)

        process.kill()

    assert_next_run_completes(api, warehouse_url, batches=5)


def first_pages_only(api: SandboxControls, warehouse_url: str, syncing: Syncing) -> None:
    """Leaves two batches committed, by a process that was killed too."""
    api.set_faults("slow:60000,at=3")
    with syncing(api, warehouse_url) as process:
        wait_until(lambda: committed_batches(warehouse_url) == 2, process)
        process.kill()
    api.set_faults()
    api.forget_requests()


DEMO = f"""\
  provider: demo
  windows: {{every: month, start: {THIS_MONTH}}}
  collections: {{thing: {{}}}}
"""


def test_killed_commands_leave_no_trace_but_their_failed_runs(api: SandboxControls, make_project: MakeProject) -> None:
    """Each step of a killed run kept a place in Dagster's pool, which has two: the third command waited for ever."""
    project = make_project(api.url).declare(demo=DEMO)
    first = project.run("sync")
    api.append(lines(51, 60))
    with killed_at_the_end(project.start("sync")) as process, psycopg.connect(project.warehouse_url) as holder:
        holder.execute("lock table sequin_pipeline.merges in share mode")
        wait_until(lambda: is_waiting_in(project.warehouse_url, 'insert into "sequin_pipeline"."merges"'), process)
        kill(process)
    api.set_faults("slow:60000")
    api.forget_requests()
    with killed_at_the_end(project.start("sync")) as process:
        wait_until(lambda: api.arrived() == 1, process)
        kill(process)
    api.set_faults()
    api.forget_requests()

    last = project.run("sync")

    assert (first.returncode, last.returncode) == (0, 0), last.stderr
    assert [query.get("after_cursor") for query in api.page_requests()] == ["NTA", "NjA"]
    assert project.query("select sum(fetched)::int, count(*)::int from sequin_pipeline.merges") == [(60, 2)]
    assert project.query("select id, updated_idx from demo.thing order by updated_idx") == [
        *((f"r{number:02}", 40 + number) for number in range(1, 20)),
        ("r00", 60),
    ]
    with psycopg.connect(project.dagster_url) as connection:
        statuses = connection.execute("select status from runs order by id").fetchall()
    assert statuses == [("SUCCESS",), ("FAILURE",), ("FAILURE",), ("SUCCESS",)]


@pytest.fixture
def recent_url() -> Iterator[str]:
    """An API whose records came within the last minutes, so that the cursor stands in the present window."""
    entered = datetime.now(UTC) - timedelta(minutes=2)
    versions = [record(f"r{n % 20:02}", n, inserted_at=(entered + timedelta(seconds=n)).isoformat()) for n in range(1, 51)]
    with running_sandbox(RecordedFeed([json.dumps(one).encode() for one in versions], is_compacted=False)) as url:
        yield url


def test_windows_that_a_killed_run_did_not_come_to_mark_are_marked_by_the_next(
    recent_url: str, make_project: MakeProject
) -> None:
    """Its rows and its cursor were there: the next run asked for the windows since the cursor, and the others looked missing for ever."""
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=29)
    project = make_project(recent_url).declare(
        demo=f"  provider: demo\n  windows: {{every: hour, start: {since:%Y-%m-%dT%H:%M:%SZ}}}\n  collections: {{thing: {{}}}}\n"
    )
    with psycopg.connect(project.warehouse_url, autocommit=True) as connection:
        migrate(connection)
    with psycopg.connect(project.warehouse_url) as holder, killed_at_the_end(project.start("sync")) as process:
        holder.execute("lock table sequin_pipeline.runs in share mode")
        wait_until(lambda: is_waiting_in(project.warehouse_url, 'insert into "sequin_pipeline"."runs"'), process)
        kill(process)

    then = project.run("sync")

    assert then.returncode == 0, then.stderr
    assert project.query("select id, updated_idx from demo.thing order by id") == FOLD
    assert project.query("select sum(fetched)::int, count(distinct batch_id)::int from sequin_pipeline.merges") == [(50, 1)]
    with psycopg.connect(project.dagster_url) as connection:
        marked = connection.execute(
            "select run_id, count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' group by 1"
        ).fetchall()
        runs = connection.execute("select status from runs order by id").fetchall()
    assert [count for _, count in marked] == [30]
    assert runs == [("FAILURE",), ("SUCCESS",)]
