"""`sequin-pipeline explain`: all that is known of one record, and nothing that is only guessed."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.sequin import SequinSource
from tests.e2e.project import TOKEN, Command, MakeProject, Project, SandboxControls
from tests.support.builders import COLUMNS, collection, live_run_config, record
from tests.support.commands import Finished

DECLARED = """\
  provider: demo
  collections:
    thing:
      columns: {amount: {path: amount, type: bigint}}
"""
THING = replace(collection(), columns=COLUMNS[1:])


def lines(*records: dict[str, object]) -> list[bytes]:
    return [json.dumps(each).encode() for each in records]


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    with running_sandbox(RecordedFeed(lines(record("a", 1), record("b", 2)), is_compacted=True), Settings(token=TOKEN)) as url:
        yield SandboxControls(url)


def sync(project: Project, *, run_id: str, declared: str = DECLARED) -> None:
    history = timedelta(days=30) if "history" in declared else None
    on_delete = "remove" if "remove" in declared else "mark"
    of = replace(THING, history=history, on_delete=on_delete)  # type: ignore[arg-type]  # one of the two words
    run_sync(
        RecordStream(live_run_config(of), SequinSource(project.api_url, TOKEN)), Warehouse(project.warehouse_url), run_id=run_id
    )


def told(done: Finished) -> dict[str, list[str]]:
    """The parts of what was printed, by their first word; columns of the row by name."""
    parts: dict[str, list[str]] = {}
    for line in done.stdout.splitlines()[2:]:
        word, _, said = line.strip().partition(" ")
        parts.setdefault(word, []).append(said.strip())
    return parts


def test_a_stored_record_is_shown_with_the_merge_that_wrote_it_and_the_source(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=DECLARED)
    sync(project, run_id="run-1")
    ((batch,),) = project.query("select batch_id from sequin_pipeline.merges")

    done = command(project, "explain", "demo/thing", "b")

    parts = told(done)
    assert (done.status, done.stdout.splitlines()[0]) == (0, "record 'b' of demo/thing, table demo.thing")
    assert parts["row"] == ["version 2, not deleted"]
    assert (parts["amount"], parts["internal_id"], parts["data"]) == (["2"], ["tenant-1"], ['{"amount": 2, "status": "active"}'])
    (written,) = parts["written"]
    assert written.startswith(f"by batch {batch} of live run run-1, at 20")
    assert parts["rejects"] == ["none"]
    assert parts["history"] == ["is not kept: `history: 30d` in the YAML of the collection keeps it from then on"]
    assert parts["source"] == [
        "holds version 2, which is what is stored (1 page read from the beginning; the source has no lookup by id)"
    ]
    assert TOKEN not in done.stdout + done.stderr


def test_what_the_source_changed_since_is_told(api: SandboxControls, make_project: MakeProject, command: Command) -> None:
    project = make_project(api.url).declare(demo=DECLARED)
    sync(project, run_id="run-1")
    api.append(lines(record("a", 7, deleted=True, data=None), record("c", 8), record("b", 9, data={"amount": "x"})))

    found = {name: command(project, "explain", "demo/thing", name) for name in "abcd"}

    assert {name: (done.status, re.sub(r" \(\d pages? read.*", "", told(done)["source"][0])) for name, done in found.items()} == {
        "a": (0, "holds version 7 (deleted), newer than version 1, which is stored"),
        "b": (
            0,
            "holds it, and it is rejected: column 'amount' (path $.amount, bigint) found the string 'x', where a number or a "
            "decimal string was expected: fix the value at the provider or the column's declaration",
        ),
        "c": (0, "holds version 8, which is not stored"),
        "d": (1, "not found, to the end of the stream"),
    }


def test_history_and_rejects_and_removal_are_told(api: SandboxControls, make_project: MakeProject, command: Command) -> None:
    declared = DECLARED + "      on_delete: remove\n      history: 30d\n"
    project = make_project(api.url).declare(demo=declared)
    sync(project, run_id="run-1", declared=declared)
    api.append(lines(record("a", 5, data={"amount": "x"}), record("z", 6)))
    sync(project, run_id="run-2", declared=declared)
    api.append(lines(record("a", 7, deleted=True, data=None)))
    sync(project, run_id="run-3", declared=declared)

    parts = told(command(project, "explain", "demo/thing", "a", "--pages", "0"))

    assert "row" not in parts
    assert [said.split(" at ")[0] for said in parts["removed"]] == ["by the tombstone of version 7"]
    assert parts["removed"][0].endswith("; no older version brings it back")
    assert " of live run run-3, at " in parts["written"][0]
    assert [said.split(", last seen")[0].partition(", ")[2] for said in parts["reject"]] == [
        "version 5, settled (a good version was stored)"
    ]
    assert [said.split("  ", 1)[1].split(": ")[0] for said in parts["history"]] == [
        "inserted version 1 (live run run-1)",
        "rejected version 5 (live run run-2)",
        "deleted version 7 (live run run-3)",
    ]
    assert parts["source"] == ["was not asked"]


def test_a_row_whose_merge_is_not_known_gets_a_bracket_and_no_claim(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=DECLARED)
    sync(project, run_id="run-1")
    ((batch,),) = project.query("select batch_id from sequin_pipeline.merges")
    project.execute("update demo.thing set updated_at = updated_at + interval '1 second' where id = 'a'")

    done = command(project, "explain", "demo/thing", "a", "--pages", "0")

    assert "by no merge in the ledger" in told(done)["written"][0]
    assert f"            only a bracket: after batch {batch} at 20" in done.stdout


def test_a_source_that_cannot_be_asked_says_why(make_project: MakeProject, command: Command) -> None:
    project = make_project("http://127.0.0.1:9").declare(demo=DECLARED)

    done = command(project, "explain", "demo/thing", "a")

    assert (done.status, told(done)["row"]) == (1, ["none: the collection has never been synced"])
    assert told(done)["source"][0].startswith("could not be asked: nothing answers at 127.0.0.1:9, where SEQUIN_API_URL says")


def test_a_table_of_another_address_is_not_compared_with_this_one(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=DECLARED)
    sync(project, run_id="run-1")
    project.execute("update sequin_pipeline.tables set base_url = 'http://elsewhere'")

    done = command(project, "explain", "demo/thing", "a")

    assert told(done)["source"] == [
        f"was not asked: the table has been filled from sequin http://elsewhere, and sequin {api.url} is set now"
    ]


def test_a_record_is_found_by_its_id_at_the_provider_and_several_are_listed_by_sync(
    make_project: MakeProject, command: Command
) -> None:
    fed = lines(
        record("a", 1, upstream_id="cus_1"),
        record("b", 2, upstream_id="cus_2"),
        record("c", 3, upstream_id="cus_2", sync={"id": "sync-9"}),
        record("d", 4, upstream_id="cus_4", data={"amount": "x"}),
    )
    with running_sandbox(RecordedFeed(fed, is_compacted=True), Settings(token=TOKEN)) as url:
        project = make_project(url).declare(demo=DECLARED)
        sync(project, run_id="run-1")

        one = command(project, "explain", "demo:thing", "cus_1")
        several = command(project, "explain", "demo/thing", "cus_2")
        chosen = command(project, "explain", "demo/thing", "cus_2", "--sync-id", "sync-9", "--pages", "0")
        rejected = command(project, "explain", "demo/thing", "cus_4", "--pages", "0")
        project.execute("delete from demo.thing where id = 'a'", "delete from sequin_pipeline.versions")
        only_there = command(project, "explain", "demo/thing", "cus_1")

    assert one.stdout.startswith("record 'a' of demo/thing, table demo.thing, with upstream_id 'cus_1' in sync 's1'\n")
    assert (one.status, told(one)["row"]) == (0, ["version 1, not deleted"])
    head, _, columns, *rows = several.stdout.splitlines()
    assert (several.status, head, columns.split()) == (0, "2 records of demo/thing have upstream_id 'cus_2':", ["sync", "record"])
    assert [row.split() for row in rows[:2]] == [["s1", "b"], ["sync-9", "c"]]
    assert rows[-1] == "`--sync-id ID`, or the id of the record in its place, explains one of them."
    assert chosen.stdout.startswith("record 'c' of demo/thing")
    assert rejected.stdout.startswith("record 'd' of demo/thing")
    assert rejected.status == 0
    assert "version 4, open" in rejected.stdout
    assert (only_there.status, told(only_there)["row"]) == (0, ["none"])
    assert "holds version 1 of record 'a', whose upstream_id that is, which is not stored" in only_there.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("demo/none", "a"), "no collection 'demo/none' is declared: did you mean 'demo/thing'?", id="collection"),
        pytest.param(("demo/thing",), "Missing argument 'ID'", id="no id"),
        pytest.param(("demo/thing", "a", "--pages", "-1"), "-1 is not in the range x>=0", id="pages"),
    ],
)
def test_wrong_usage_exits_with_2(make_project: MakeProject, command: Command, arguments: tuple[str, ...], said: str) -> None:
    done = command(make_project("http://127.0.0.1:9").declare(demo=DECLARED), "explain", *arguments)

    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr
