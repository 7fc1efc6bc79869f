"""Which windows syncs report to Dagster, one after the other, of collections that are empty, quiet or late."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import TOKEN, Command, MakeProject, Project, SandboxControls
from tests.support.builders import record

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

NOW = datetime.now(UTC)
FIRST_DAY = NOW - timedelta(days=20)
LONG_AGO = NOW - timedelta(days=15)
DEMO = f"""\
  provider: demo
  windows: {{every: day, start: {FIRST_DAY:%Y-%m-%d}}}
  collections:
    empty: {{}}
    thing: {{}}
"""


def thing(record_id: str, version: int, at: datetime) -> bytes:
    return json.dumps(record(record_id, version, inserted_at=at.isoformat())).encode()


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    with running_sandbox(RecordedFeed([thing("t1", 1, LONG_AGO)], is_compacted=False), Settings(token=TOKEN)) as url:
        yield SandboxControls(url)


def test_an_empty_or_quiet_collection_reports_its_present_window_and_a_late_record_lands(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=DEMO)

    first = command(project, "sync")
    second = command(project, "sync")
    api.append([thing("t2", 2, LONG_AGO - timedelta(days=1))])
    third = command(project, "sync")

    assert (first.status, second.status, third.status) == (0, 0, 0)
    all_days = sorted(f"{FIRST_DAY + timedelta(days=days):%Y-%m-%d}" for days in range(21))
    # A run that starts within an hour of midnight asks for the day before, too.
    present = sorted({f"{NOW - timedelta(hours=1):%Y-%m-%d}", f"{NOW:%Y-%m-%d}"})
    for collection in ("empty", "thing"):
        assert reported(project, f"demo/{collection}") == [all_days, present, present]
    assert project.query("select id, record_inserted_at from demo.thing order by id") == [
        ("t1", LONG_AGO),
        ("t2", LONG_AGO - timedelta(days=1)),
    ]


def reported(project: Project, label: str) -> list[list[str]]:
    """The windows that each run has materialized of a collection, in the order of the runs."""
    with psycopg.connect(project.dagster_url) as connection:
        rows = connection.execute(
            "select array_agg(partition order by partition) from event_logs"
            " where dagster_event_type = 'ASSET_MATERIALIZATION' and asset_key = %s group by run_id order by min(id)",
            (json.dumps(label.split("/")),),
        ).fetchall()
    return [windows for (windows,) in rows]
