"""`sequin-pipeline backfill`, and the same range through Dagster's own command: what they write, complete, print and refuse."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.sequin import SequinSource
from tests.e2e.project import COMMAND_SECONDS, TOKEN, Command, MakeProject, Project, SandboxControls
from tests.support.builders import collection, live_run_config, record

THINGS = """\
  provider: demo
  windows: {every: month, start: 2026-01-01}
  collections:
    thing:
      columns:
        amount: {path: amount, type: bigint}
    part: {}
"""
KEY = dg.AssetKey(["demo", "thing"])


def thing(number: int, month: int, **overrides: object) -> bytes:
    inserted_at = f"2026-{month:02}-10T00:00:00+00:00"
    return json.dumps(record(f"t{number}", number, inserted_at=inserted_at, **overrides)).encode()


OTHER_SYNC = {"id": "s2", "external_id": None, "metadata": {}}
FIVE_MONTHS = [*(thing(month, month) for month in range(1, 6)), thing(9, 5, sync=OTHER_SYNC)]
"""One record in each month from January to May, and one of another sync in May."""


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    with running_sandbox(RecordedFeed(FIVE_MONTHS), Settings(token=TOKEN)) as url:
        yield SandboxControls(url)


def stored(project: Project) -> list[object]:
    return [record_id for (record_id,) in project.query("select id from demo.thing order by id")]


def done_windows(project: Project, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What Dagster takes for materialized."""
    with monkeypatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", project.dagster_url.replace("postgresql://", "postgresql+psycopg2://"))
        with dg.DagsterInstance.from_config(str(project.folder)) as instance:
            return instance.get_materialized_partitions(KEY)


def test_a_backfill_writes_its_windows_and_leaves_the_live_cursor_alone(
    api: SandboxControls, make_project: MakeProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(api.url).declare(demo=THINGS)

    ended = command(project, "backfill", "demo/thing", "--from", "2026-02", "--to", "2026-04-30")

    assert ended.status == 0
    assert [line.split()[:-1] for line in ended.stdout.splitlines()[:2]] == [
        ["collection", "table", "inserted", "updated", "deleted", "unchanged", "stale", "duplicate", "rejected", "rows"],
        ["demo/thing", "demo.thing", "3", "0", "0", "0", "0", "0", "0", "3"],
    ]
    assert "3 rows written from 3 records.\n" in ended.stdout
    assert stored(project) == ["t2", "t3", "t4"]
    assert project.query("select count(*) from sequin_pipeline.cursors") == [(0,)]
    assert done_windows(project, monkeypatch) == {"2026-02", "2026-03", "2026-04"}


def test_collections_of_one_range_share_a_run_that_ends_with_the_present(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=THINGS)

    ended = command(project, "backfill", "demo/thing", "demo/part", "--from", "2026-05", "--json")

    assert ended.status == 0
    assert [(each["collection"], each["counts"]["inserted"], each["rows"]) for each in json.loads(ended.stdout)] == [
        ("demo/thing", 2, 2),
        ("demo/part", 0, 0),
    ]
    assert project.query("select count(distinct run_id), min(mode), max(mode) from sequin_pipeline.runs") == [
        (1, "backfill", "backfill")
    ]


def test_a_backfill_of_one_sync_completes_no_window(
    api: SandboxControls, make_project: MakeProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(api.url).declare(demo=THINGS)

    ended = command(project, "backfill", "demo/thing", "--from", "2026-01", "--sync-id", "s2")

    assert ended.status == 0
    assert stored(project) == ["t9"]
    assert done_windows(project, monkeypatch) == set()


def test_a_backfill_with_rejects_exits_with_3(api: SandboxControls, make_project: MakeProject, command: Command) -> None:
    project = make_project(api.url).declare(demo=THINGS)
    api.append([thing(7, 3, data={"amount": "a dozen"})])

    ended = command(project, "backfill", "demo/thing", "--from", "2026-01", "--to", "2026-03")

    assert ended.status == 3
    assert stored(project) == ["t1", "t2", "t3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["demo/thingy", "--from", "2026-01"],
            "sequin-pipeline: no collection 'demo/thingy' is declared: did you mean 'demo/thing'?\n",
            id="unknown collection",
        ),
        pytest.param(
            ["demo/thing", "--from", "2026-W01-9"],
            "sequin-pipeline: demo/thing: '2026-W01-9' is not the key of a window by month: expected one like '2026-01'\n",
            id="unknown window",
        ),
        pytest.param(
            ["demo/thing", "--from", "2026-01", "--resume"],
            "sequin-pipeline: --resume needs --parallel: a backfill by one run leaves no part that could be resumed\n",
            id="resume of one run",
        ),
        pytest.param(
            ["demo/thing", "--from", "2026-01", "--to", "2026-02", "--parallel", "2", "--resume"],
            "sequin-pipeline: demo/thing: no backfill in parts over 2026-01 to 2026-02 has been begun, so there is none to resume: leave "
            "out --resume, or name the same windows as then\n",
            id="nothing to resume",
        ),
        pytest.param(["demo/thing"], "Error: Missing option '--from'.\n", id="no window"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_requested(
    api: SandboxControls, make_project: MakeProject, command: Command, arguments: list[str], said: str
) -> None:
    project = make_project(api.url).declare(demo=THINGS)

    ended = command(project, "backfill", *arguments)

    assert ended.status == 2
    assert ended.stderr.endswith(said)
    assert api.page_requests() == []


def test_a_range_launched_by_dagsters_own_command_does_the_same(
    api: SandboxControls, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(api.url).declare(demo=THINGS)
    variables = {"DAGSTER_POSTGRES_URL": project.dagster_url.replace("postgresql://", "postgresql+psycopg2://")}

    ended = subprocess.run(
        [
            str(Path(sys.executable).with_name("dg")),
            "launch",
            *("--module-name", "sequin_pipeline.definitions"),
            *("--assets", "key:demo/thing", "--partition-range", "2026-02...2026-04"),
        ],
        cwd=project.folder,
        env={**project.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert stored(project) == ["t2", "t3", "t4"]
    assert done_windows(project, monkeypatch) == {"2026-02", "2026-03", "2026-04"}


def load(project: Project) -> None:
    """A live run of demo/thing, in pages of one record: each leaves a position."""
    of = collection(columns=(Column("amount", parse_path("amount"), "bigint"),))
    stream = RecordStream(live_run_config(of), SequinSource(project.api_url, TOKEN, page_size_records=1))
    run_sync(stream, Warehouse(project.warehouse_url), run_id="loaded")


def test_parts_run_beside_each_other_and_only_what_failed_is_resumed(
    make_project: MakeProject, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = THINGS + "      rejects: {limit_records: 0, limit_share: 0}\n"
    bad = thing(7, 4, data={"amount": "a dozen"})
    asked = ("backfill", "demo/thing", "--from", "2026-01", "--to", "2026-04", "--parallel", "2")
    with running_sandbox(RecordedFeed([*FIVE_MONTHS[:4], bad, *FIVE_MONTHS[4:]]), Settings(token=TOKEN, limit_cap=1)) as url:
        project = make_project(url).declare(demo=strict.replace("    part: {}\n", ""))
        load(project)

        ended = command(project, *asked, "--json")

        assert ended.status == 1
        assert "demo/thing: run 1 of 2 reads 2026-01 to 2026-03\ndemo/thing: run 2 of 2 reads 2026-04\n" in ended.stderr
        assert "Windows that were completed stay so: the same command with --resume reads the others.\n" in ended.stderr
        (landed,) = json.loads(ended.stdout)
        assert {fate: count for fate, count in landed["counts"].items() if count} == {"fetched": 5, "unchanged": 4, "rejected": 1}
        assert landed["failure"].startswith("windows 2026-04: 1 of 2 records of 'demo/thing' were rejected")
        assert done_windows(project, monkeypatch) == {"2026-01", "2026-02", "2026-03"}

        SandboxControls(url).append([thing(7, 4)])
        resumed = command(project, *asked, "--resume")

        assert resumed.status == 0
        assert "demo/thing: run 1 of 1 reads 2026-04\n" in resumed.stderr
        assert done_windows(project, monkeypatch) == {"2026-01", "2026-02", "2026-03", "2026-04"}

        nothing = command(project, *asked, "--resume")

        assert nothing.status == 0
        assert "demo/thing: nothing is left to be read of 2026-01 to 2026-04\n" in nothing.stderr


def test_a_dry_run_prints_the_windows_of_each_run_and_asks_nothing(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=THINGS)
    load(project)
    api.forget_requests()

    cut = command(project, "backfill", "demo/thing", "--from", "2026-01", "--to", "2026-05", "--parallel", "3", "--dry-run")
    whole = command(project, "backfill", "demo/thing", "--from", "2026-01", "--to", "2026-05", "--dry-run", "--json")

    assert (cut.status, cut.stdout) == (
        0,
        "demo/thing 2026-01...2026-03\ndemo/thing 2026-04...2026-04\ndemo/thing 2026-05...2026-05\n",
    )
    assert json.loads(whole.stdout) == [{"collection": "demo/thing", "first": "2026-01", "last": "2026-05"}]
    assert api.page_requests() == []
