"""`sequin-pipeline rejects`: what waits, why, and what becomes of it."""

from dataclasses import replace

import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.collection_run import run_sync
from tests.e2e.project import Command, MakeProject, Project
from tests.orchestration.files import HEAD
from tests.support.builders import collection, live_stream, record

AMOUNT = "  provider: demo\n  collections:\n    thing:\n      columns: {amount: {path: amount, type: %s}}\n"
THING = replace(collection(), columns=(Column("amount", parse_path("amount"), "bigint"),))
NO_API = "http://127.0.0.1:9"
"""Nobody is asked: these commands read the ledger."""


def bad(number: int, amount: object) -> dict[str, object]:
    return record(f"b{number:02}", number, data={"amount": amount})


def fill(project: Project, *records: dict[str, object]) -> None:
    with pytest.raises(TooManyRejects):
        run_sync(live_stream(THING, records), Warehouse(project.warehouse_url), run_id="first")


def test_list_counts_by_reason_and_shows_the_newest(make_project: MakeProject, command: Command) -> None:
    project = make_project(NO_API).declare(demo=AMOUNT % "bigint")
    fill(project, *(bad(number, f"{number} dozen") for number in range(1, 12)), bad(12, 1.5))

    short = command(project, "rejects", "list")
    whole = command(project, "rejects", "list", "demo/thing", "--all")

    head, *groups = [line.split() for line in short.stdout.splitlines()[:3]]
    assert (short.status, whole.status) == (0, 0)
    assert head == ["collection", "records", "class", "last", "seen", "reason"]
    assert [(group[0], group[1], group[2]) for group in groups] == [("demo/thing", "11", "value"), ("demo/thing", "1", "value")]
    assert "column 'amount' (path $.amount, bigint) found …, where a whole number was expected" in short.stdout
    assert "10 of 12 open rejects are shown: `--all` shows them all.\n" in short.stdout
    assert "'11 dozen'" not in short.stdout
    assert [line.split()[2] for line in whole.stdout.splitlines()[5:17]] == [f"b{number:02}" for number in range(1, 13)]
    assert "are shown" not in whole.stdout


def test_a_reject_is_shown_whole_replayed_after_a_fix_or_discarded(make_project: MakeProject, command: Command) -> None:
    project = make_project(NO_API).declare(demo=AMOUNT % "bigint")
    fill(project, bad(1, "a dozen"), bad(2, 1.5), bad(3, "\u001b[31m"))
    numbers = dict(project.query("select record_id, left(content_hash::text, 8) from sequin_pipeline.rejects"))

    shown = command(project, "rejects", "show", "demo/thing", str(numbers["b03"]))
    again = command(project, "rejects", "replay", "demo/thing")
    given_up = command(project, "rejects", "discard", "demo/thing", str(numbers["b01"]), str(numbers["b03"]))
    project.execute("alter table demo.thing alter column amount type numeric")
    (project.folder / "collections" / "demo" / "defs.yaml").write_text(HEAD + AMOUNT % "numeric")
    fixed = command(project, "rejects", "replay", "demo/thing", str(numbers["b02"]))
    empty = command(project, "rejects", "list")

    assert shown.stdout.startswith("record    b03, version 3\nreason    column 'amount'")
    assert "\x1b" not in shown.stdout
    assert again.stdout == (
        "0 of 3 rejects of demo/thing have been settled.\n"
        "3 still cannot be stored: `sequin-pipeline rejects list demo/thing` says why.\n"
    )
    assert (again.status, fixed.status) == (3, 0)
    assert given_up.stdout == "2 rejects of demo/thing have been discarded.\n"
    assert fixed.stdout == "1 of 1 rejects of demo/thing have been settled.\n"
    assert empty.stdout == "No open rejects.\n"
    assert project.query("select id, updated_idx, amount::text from demo.thing") == [("b02", 2, "1.5")]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        pytest.param(("--reason", "found the string"), ["b03", "b04"], id="a part of the reason"),
        pytest.param(("--reason", "(path $.amount, bigint) found …, where a whole number"), ["b01", "b02"], id="as it is listed"),
        pytest.param(("--reason", "where a\n  whole   number was\nexpected"), ["b01", "b02"], id="from several lines"),
        pytest.param(("--reason", "1.5"), ["b01", "b02", "b04"], id="with its value"),
        pytest.param(("--all",), [], id="all"),
    ],
)
def test_rejects_are_discarded_by_their_reason_or_all_of_a_collection(
    arguments: tuple[str, ...], left: list[str], make_project: MakeProject, command: Command
) -> None:
    project = make_project(NO_API).declare(demo=AMOUNT % "bigint")
    fill(project, bad(1, "a dozen"), bad(2, "two"), bad(3, 1.5), bad(4, 2.5))

    done = command(project, "rejects", "discard", "demo:thing", *arguments)

    assert (done.status, done.stdout) == (0, f"{4 - len(left)} rejects of demo/thing have been discarded.\n")
    assert project.query(
        "select record_id from sequin_pipeline.rejects where resolution is distinct from 'discarded' order by 1"
    ) == [(name,) for name in left]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("list", "demo/none"), "no collection 'demo/none' is declared: did you mean 'demo/thing'?", id="collection"),
        pytest.param(
            ("discard", "demo/thing", "12345678"),
            "'demo/thing' has no open reject '12345678': `sequin-pipeline rejects list demo/thing` shows them",
            id="reject",
        ),
        pytest.param(("discard", "demo/thing"), "say which rejects are given up: by their numbers", id="nothing to discard"),
        pytest.param(("discard", "demo/thing", "12345678", "--all"), "say which rejects are given up", id="one and all"),
        pytest.param(("discard", "demo/thing", "--reason", "x", "--all"), "say which rejects are given up", id="some and all"),
        pytest.param(
            ("discard", "demo/thing", "--reason", " … "), "--reason is empty, which every reject would match", id="any reason"
        ),
        pytest.param(
            ("discard", "demo/thing", "--reason", "found 1"),
            "no open reject of 'demo/thing' has a reason with 'found 1': `sequin-pipeline rejects list demo/thing` shows the reasons",
            id="reason",
        ),
    ],
)
def test_what_is_not_there_is_refused(make_project: MakeProject, command: Command, arguments: tuple[str, ...], said: str) -> None:
    project = make_project(NO_API).declare(demo=AMOUNT % "bigint")

    refused = command(project, "rejects", *arguments)

    assert (refused.status, refused.stdout) == (2, "")
    assert said in refused.stderr
