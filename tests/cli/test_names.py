"""How collections may be named, what a wrong name may have meant, and what shells complete."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.cli import group, main
from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.names import plain_label, read_labels, unknown_collection
from sequin_pipeline.environment.settings import VARIABLES
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.collection_run import run_sync
from tests.support.builders import collection, live_stream, record
from tests.support.reading import query
from tests.support.terminal import Terminal

DECLARED = """
type: sequin_pipeline.component.CollectionSync
attributes:
  provider: demo
  collections:
    thing:
      columns: {amount: {path: amount, type: bigint}}
    other.thing:
"""


@pytest.mark.parametrize(
    ("written", "label"),
    [
        pytest.param("stripe/subscription", "stripe/subscription", id="ours"),
        pytest.param("stripe:subscription", "stripe/subscription", id="the API's"),
        pytest.param("stripe.subscription", "stripe/subscription", id="the database's"),
        pytest.param("stripe:billing.alert", "stripe/billing.alert", id="a dot in the name"),
        pytest.param("stripe.billing.alert", "stripe/billing.alert", id="two dots"),
        pytest.param("stripe/billing.alert", "stripe/billing.alert", id="a dot behind the slash"),
        pytest.param("stripe", "stripe", id="a provider alone"),
    ],
)
def test_a_collection_is_understood_however_its_name_is_separated(written: str, label: str) -> None:
    assert plain_label(written) == label


def parameters(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Parameter]]:
    """Of a command and those below it, with the names of the commands."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from parameters(below, f"{name} {each}".strip())
    for parameter in command.params:
        yield name, parameter


def test_every_command_takes_the_names_of_collections_in_all_three_ways_and_completes_them() -> None:
    naming = {name: parameter for name, parameter in parameters(group) if parameter.name in ("label", "labels")}

    read = {name for name, parameter in naming.items() if parameter.callback is read_labels}
    completed = {name for name, parameter in naming.items() if parameter._custom_shell_complete is complete_collections}
    # What schema is asked for may also be an asset of somebody else's, whose key may hold anything.
    assert read == naming.keys() - {"schema"}
    assert completed == naming.keys()
    assert naming.keys() >= {"sync", "backfill", "status", "explain", "infer", "plan", "rejects list", "rejects discard"}


@pytest.mark.parametrize(
    ("label", "said"),
    [
        pytest.param(
            "stripe/subscriptoin",
            "no collection 'stripe/subscriptoin' is declared: did you mean 'stripe/subscription'?",
            id="typo",
        ),
        pytest.param("Stripe/Plan", "no collection 'Stripe/Plan' is declared: did you mean 'stripe/plan'?", id="upper case"),
        pytest.param(
            "x", "no collection 'x' is declared: there are stripe/plan, stripe/subscription, crm/contact", id="nothing like it"
        ),
        pytest.param("stripe", "'stripe' is a provider: name one of its collections, such as 'stripe/plan'", id="provider"),
    ],
)
def test_an_unknown_collection_is_told_with_what_may_have_been_meant(label: str, said: str) -> None:
    assert str(unknown_collection(label, ["stripe/plan", "stripe/subscription", "crm/contact"])) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("snyc",), "No such command 'snyc': did you mean 'sync'?", id="command"),
        pytest.param(("rejects", "lst"), "No such command 'lst': did you mean 'list'?", id="command of a group"),
        pytest.param(("db", "halt"), "No such command 'halt': there are dump, start, status, stop, url", id="nothing like it"),
        pytest.param(("sync", "--colection", "a/b"), "Did you mean", id="option"),
    ],
)
def test_a_wrong_word_is_told_with_what_may_have_been_meant(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sequin-pipeline", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose databases nobody has started."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dagster.yaml").touch()
    (tmp_path / "collections" / "demo").mkdir(parents=True)
    (tmp_path / "collections" / "demo" / "defs.yaml").write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQUIN_PIPELINE_HOME", f"{tmp_path}/home")
    monkeypatch.setenv("SEQUIN_COLLECTIONS", f"{tmp_path}/collections")
    return tmp_path


def completed(words: str) -> list[str]:
    """What click's scripts for a shell get: what may stand in place of the last word, which may be empty."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'sequin-pipeline'; from sequin_pipeline.cli import main; main()"],
        env={
            **os.environ,
            "_SEQUIN_PIPELINE_COMPLETE": "bash_complete",
            "COMP_WORDS": f"sequin-pipeline {words}",
            "COMP_CWORD": str(len(words.split(" "))),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param("st", ["status"], id="command"),
        pytest.param("explain ", ["demo/thing", "demo/other.thing"], id="every collection"),
        pytest.param("sync --collection demo/t", ["demo/thing"], id="of an option"),
        pytest.param("plan demo.o", ["demo.other.thing"], id="separated as it was begun"),
        pytest.param("rejects list demo:", ["demo:thing", "demo:other.thing"], id="of a group's command"),
        pytest.param("sync --provider d", ["demo"], id="provider"),
        pytest.param("explain demo/thing a", [], id="a server that does not run is not started"),
    ],
)
def test_shells_complete_commands_and_declared_names(words: str, offered: list[str], folder: Path) -> None:
    assert completed(words) == offered
    assert not (folder / "home").exists()


@pytest.mark.processes
@pytest.mark.parametrize("damage", ["type: [", "attributes: {provider: {}}", "- 1", "\x00"])
def test_files_that_cannot_be_read_complete_nothing_and_say_nothing(damage: str, folder: Path) -> None:
    (folder / "collections" / "demo" / "defs.yaml").write_text(damage)

    assert completed("explain demo/") == []


@pytest.fixture
def filled(folder: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three records in the table, and one that waits."""
    declared = collection(columns=(Column("amount", parse_path("amount"), "bigint"),))
    records = [record(name, number, data={"amount": number}) for number, name in enumerate(("sub_1", "sub_2", "sup_1"), 1)]
    run_sync(live_stream(declared, [*records, record("bad", 9, data={"amount": "x"})]), Warehouse(warehouse_url), run_id="first")
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("SEQUIN_API_URL", "http://127.0.0.1:9")
    return folder


@pytest.mark.processes
@pytest.mark.usefixtures("filled")
def test_shells_complete_ids_of_records_and_numbers_of_rejects(warehouse_url: str) -> None:
    ((number,),) = query(warehouse_url, "select left(content_hash::text, 8) from sequin_pipeline.rejects")

    assert completed("explain demo:thing sub") == ["sub_1", "sub_2"]
    assert completed("rejects show demo/thing ") == [number]
    assert completed("rejects discard demo/thing zz") == []


@pytest.mark.processes
def test_bash_completes_a_name_that_is_typed_in_a_terminal(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    bash = Terminal(
        ["bash", "--norc", "--noprofile", "-i"],
        environment={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PS1": "$ "},
        folder=folder,
    )
    bash.type('eval "$(_SEQUIN_PIPELINE_COMPLETE=bash_source sequin-pipeline)" && echo rea""dy\n')
    bash.wait_for("ready")

    bash.type("echo sequin-pipeline; sequin-pipeline explain demo/t\t")
    bash.wait_for("explain demo/thing ")
    bash.type("\x15exit\n")

    assert bash.finish().status == 0
