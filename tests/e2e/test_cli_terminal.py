"""The real commands on a real terminal of 80 columns, from the first page to the last line."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import TOKEN, Command, MakeProject, Project
from tests.support.builders import record
from tests.support.terminal import COLUMNS, Shown, Terminal

DECLARED = """\
  provider: demo
  collections:
    thing: {columns: {amount: {path: amount, type: bigint}}}
"""
FED = [
    *(json.dumps(record(f"r{number:04}", number)).encode() for number in range(1, 1235)),
    *(json.dumps(record(f"d{number:04}", number, deleted=True)).encode() for number in range(1, 8)),
    json.dumps(record("bad", 9, data={"amount": "a dozen"})).encode(),
]


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    with running_sandbox(RecordedFeed(FED), Settings(token=TOKEN)) as url:
        yield url


def shown(project: Project, *arguments: str, **variables: str) -> Shown:
    command = [sys.executable, "-m", "sequin_pipeline.cli", *arguments]
    return Terminal(command, environment=project.environment(), folder=project.folder, variables=variables).finish()


def test_sync_status_and_rejects_fit_80_columns_and_cut_no_number(
    api_url: str, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api_url).declare(demo=DECLARED)

    synced = shown(project, "sync")
    status = shown(project, "status", "demo.thing", NO_COLOR="1")
    rejects = shown(project, "rejects", "list")
    told = command(project, "status", "demo:thing", "--json")
    piped = command(project, "status", "--verbose")

    assert [each.status for each in (synced, status, rejects)] == [3, 0, 0]
    assert (synced.has_colours, status.has_colours) == (True, False)
    assert "━" in synced.raw
    text = "\n".join(synced.lines)
    assert re.search(r"^collection +inserted +deleted +rejected +rows +seconds *$", text, re.MULTILINE)
    assert re.search(r"^demo/thing +1,234 +7 +1 +1,241 +\d+\.\d *$", text, re.MULTILINE)
    assert "1,241 rows written, 1 records rejected: `sequin-pipeline rejects list` says why." in text
    assert "running" not in text  # nothing was started for this project
    head, row, *_ = [line for line in status.lines if line.startswith(("collection", "demo/thing"))]
    assert head.split() == ["collection", "table", "rows", "newest", "record", "last", "merge", "open", "rejects"]
    assert row.split()[:3] == ["demo/thing", "demo.thing", "1,241"]
    assert row.split()[-1] == "1"
    assert "demo/thing bad, version 9, value, last seen" in " ".join(" ".join(rejects.lines).split())
    for each, first in ((status, "collection"), (rejects, "records")):
        table = each.lines[next(number for number, line in enumerate(each.lines) if line.startswith(first)) :]
        assert max(len(line) for line in table if "`" not in line) <= COLUMNS
    (standing,) = json.loads(told.stdout)["collections"]
    moments = [datetime.fromisoformat(standing.pop(name)) for name in ("newest_record_at", "last_merge_at")]
    assert all(moment.tzinfo for moment in moments)
    cursor = standing.pop("cursor")
    assert standing == {
        "collection": "demo/thing",
        "table": "demo.thing",
        "source": f"sequin {api_url}",
        "rows": 1241,
        "open_rejects": 1,
        "held_deletes": 0,
        "shards_left": [],
    }
    assert piped.stdout.splitlines()[0].split()[:5] == ["collection", "table", "rows", "live", "cursor"]
    assert f" {cursor} " in piped.stdout
