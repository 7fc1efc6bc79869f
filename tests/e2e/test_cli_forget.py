"""`sequin-pipeline forget`: what it says, as text and as JSON, and what it refuses."""

import json
import re

import pytest

from tests.e2e.project import Command, MakeProject
from tests.support.builders import collection, record
from tests.support.reading import query
from tests.support.syncing import sync

DECLARED = """\
  provider: demo
  collections:
    thing:
      columns: {status: {path: status, type: text}, amount: {path: amount, type: bigint}}
"""


def test_forget_counts_removes_reports_and_is_undone(make_project: MakeProject, command: Command) -> None:
    project = make_project("http://127.0.0.1:9").declare(demo=DECLARED)
    url = project.warehouse_url
    leaving = {"sync": {"id": "s2", "external_id": "tenant-2"}}
    pages = [
        record("a"),
        record("b"),
        record("c", 2, **leaving),
        record("d", 3, upstream_id="twin"),
        record("e", 4, upstream_id="twin"),
    ]  # type: ignore[arg-type]  # fields of a record
    sync(url, pages, of=collection())

    planned = command(project, "forget", "--internal-id", "tenant-2", "--dry-run")
    rows = query(url, "select count(*) from demo.thing")
    done = command(project, "forget", "--internal-id", "tenant-2", "--json")
    one = command(project, "forget", "demo:thing", "up_b")
    explained = command(project, "explain", "demo/thing", "b", "--pages", "0")
    unknown = command(project, "explain", "demo/thing", "c", "--sync-id", "s2", "--pages", "0")
    twins = command(project, "forget", "demo/thing", "twin")
    undone = command(project, "forget", "--internal-id", "tenant-2", "--undo")
    again = command(project, "forget", "--internal-id", "tenant-2", "--undo")

    assert planned.status == 0
    assert [line.split() for line in planned.stdout.splitlines()] == [
        ["1", "ledger:", "counts", "of", "syncs"],
        ["1", "rows", "of", "table", "demo.thing"],
        ["2", "would", "be", "removed", "in", "all"],
        ["Nothing", "was", "changed."],
    ]
    assert rows == [(5,)]
    report = json.loads(done.stdout)
    assert isinstance(report.pop("requested_at"), str)
    assert report == {
        "kind": "internal_id",
        "collection": None,
        "is_dry_run": False,
        "is_complete": True,
        "removed": {"ledger: counts of syncs": 1, "rows of table demo.thing": 1},
        "kept_by_triggers": {},
        "left": [],
        "of_unknown_tenant": 0,
    }
    assert one.stdout.splitlines()[0].split() == ["1", "rows", "of", "table", "demo.thing"]
    assert one.stderr.splitlines()[-1] == "record 'b' of demo/thing"
    assert explained.status == 0
    told = re.sub(r"of 2\d{3}-\S+ \S+Z", "of TIME", explained.stdout).splitlines()
    assert told[2:4] == [
        "forgotten   by request 2 of TIME to forget this record",
        "            no run writes it until `sequin-pipeline forget … --undo`",
    ]
    assert unknown.status == 1
    assert twins.status == 2
    assert "'twin' is the provider's id of several records of 'demo/thing': d, e. Name one of them" in twins.stderr
    assert query(url, "select id from demo.thing order by id") == [("a",), ("d",), ("e",)]
    assert undone.stdout.startswith("Runs write records of internal_id tenant-2 again. New versions land by themselves")
    assert again.stdout == "internal_id tenant-2 is not forgotten: nothing to undo.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ("--internal-id", "t", "--undo", "--dry-run"),
            "--dry-run counts what would be removed, and --undo removes nothing: give one of them",
            id="to undo and to count",
        ),
        pytest.param(
            ("--internal-id", "t\udcff"),
            "what is to be forgotten is named in bytes that are no UTF-8, as no id of a record is",
            id="a tenant in bytes",
        ),
    ],
)
def test_a_request_that_cannot_be_meant_says_why(
    make_project: MakeProject, command: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = command(make_project("http://127.0.0.1:9").declare(demo=DECLARED), "forget", *arguments)

    assert done.status == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nobody"),
        pytest.param(("--internal-id", "t", "--sync-id", "s"), id="two"),
        pytest.param(("demo/thing",), id="a collection without a record"),
        pytest.param(("--internal-id", ""), id="nobody's name"),
    ],
)
def test_a_request_that_does_not_name_just_one_is_refused_before_anything_is_looked_at(
    make_project: MakeProject, command: Command, arguments: tuple[str, ...]
) -> None:
    done = command(make_project("http://127.0.0.1:9"), "forget", *arguments)

    assert done.status == 2
    assert "name one of them: --internal-id T, --sync-id S, or PROVIDER/NAME and the ID of a record" in done.stderr
