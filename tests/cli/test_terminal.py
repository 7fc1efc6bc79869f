"""What a terminal of 80 columns shows: a real one, of the kernel. Nothing that counts is cut, and colours can be switched off."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sequin_pipeline.cli import group
from tests.support.checkout import python_path
from tests.support.terminal import COLUMNS, CONTROL, Terminal

pytestmark = pytest.mark.processes

PRELUDE = """
import logging, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sequin_pipeline.catalog import Windows
from sequin_pipeline.cli import landed, progress, rejects, status
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.rejects import KeptReject, RejectGroup
from sequin_pipeline.ledger.status import TableStatus
from sequin_pipeline.runs.outcome import Progress
from tests.support.builders import collection
from dataclasses import replace
NOW = datetime.now(UTC)
LONG = "a_provider_with_a_long_name/a_collection_whose_name_is_longer_than_half_of_the_terminal_is"
def some(label):
    provider, _, name = label.partition("/")
    return replace(collection(table=f"{provider}.{name}"), provider=provider, name=name)
"""
LANDED = """
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.cli.session import Session
session = Session(Settings("postgresql://u@h/d", "postgresql://u@h/d", Path("/srv"), frozenset({"WAREHOUSE_URL"}), {}, None), None, {})
few = landed.Landed("stripe/charge", "stripe.charge", Counts(fetched=1234567, inserted=1234560, deleted=7), 1234567, 12.3)
most = replace(few, collection=sys.argv[1], counts=Counts(7777777, 1111111, 1222222, 1333333, 1444444, 1555555, 1666666, 1777777))
landed._print(session, [few, most] if sys.argv[1] != "few" else [few])
"""
STATUS = """
standing = {name: TableStatus(name, 123456789, "sequin http://h", "c" * 200, NOW - timedelta(days=1234, hours=12, minutes=34), NOW, 1234567)
            for name in ("stripe.charge", LONG.replace("/", "."))}
status._print([some("stripe/charge"), some(LONG), some("stripe/never")], standing, is_verbose=sys.argv[1] == "verbose")
"""
REJECTS = """
reason = "column 'amount' (path $.amount, bigint) found …, where a whole number was expected: fix the value or the declaration"
rejects._print_groups([(LONG, RejectGroup(1234567, "value", NOW, reason))])
kept = KeptReject("1a2b3c4d", "0012ff51-bff3-5af1-9ca8-c3c7d9dadd06", 8589945786, b"", reason, "value", "22P02", NOW, NOW, 123456, "run")
rejects._print_newest([("stripe/charge", kept)])
"""
BARS = """
from rich.console import Console
with progress.shown(Console(stderr=True)):
    for number in range(1, 4):
        for label in ("stripe/charge", LONG):
            said = Progress(label, 1234 * number, 123456789, 20.0, NOW - timedelta(days=300 // number))
            logging.getLogger("sequin_pipeline.progress").debug("", extra={"progress": said})
        time.sleep(0.6)
"""


def show(program: str, *arguments: str, **variables: str) -> Terminal:
    return Terminal(
        [sys.executable, "-c", PRELUDE + program, *arguments],
        environment={**os.environ, "PYTHONPATH": python_path(Path.cwd())},
        folder=Path.cwd(),
        variables=variables,
    )


@pytest.mark.parametrize(
    ("program", "argument", "numbers"),
    [
        pytest.param(LANDED, "few", ["1,234,560", "1,234,567", "12.3"], id="sync, some fates"),
        pytest.param(
            LANDED,
            "github/issue",
            ["1,111,111", "1,222,222", "1,333,333", "1,444,444", "1,555,555", "1,666,666", "1,777,777", "1,234,567", "12.3"],
            id="sync, every fate",
        ),
        pytest.param(LANDED, "p/" + "x" * 100, ["1,111,111", "1,777,777", "1,234,567"], id="sync, a long name"),
        pytest.param(STATUS, "", ["123,456,789", "1234d 12h", "1,234,567"], id="status"),
        pytest.param(STATUS, "verbose", ["123,456,789", "1234d 12h", "1,234,567", "c" * 20], id="status with cursors"),
        pytest.param(REJECTS, "", ["1,234,567", "1a2b3c4d", "8589945786"], id="rejects"),
    ],
)
def test_no_number_is_cut_and_no_line_is_longer_than_the_terminal(program: str, argument: str, numbers: list[str]) -> None:
    shown = show(program, argument).finish()

    assert shown.status == 0, shown.raw
    words = [word.strip(",;:") for line in shown.lines for word in line.split()]
    joined = " ".join(" ".join(shown.lines).split())
    assert [number for number in numbers if number not in words and number not in joined] == []
    assert "…" not in joined.replace("found …, where", "")
    # What follows the table of a sync are sentences with commands, which the terminal wraps.
    assert max(len(line) for line in shown.lines if "`" not in line) <= COLUMNS


def test_a_sync_says_what_goes_on_running_and_how_to_stop_it() -> None:
    shown = show(LANDED, "few").finish()

    assert shown.lines[-2].startswith("running   the embedded Postgres and the sandbox go on; `")
    assert shown.lines[-2].endswith("sequin-pipeline db stop` ends both")


def test_progress_is_bars_in_colours_on_a_terminal_and_leaves_nothing() -> None:
    shown = show(BARS).finish()

    assert (shown.status, shown.has_colours) == (0, True)
    assert "━" in shown.raw
    drawn = [CONTROL.sub("", part).strip() for part in re.split(r"\r|\n|\x1b\[\d+A", shown.raw)]
    bars = [part for part in drawn if "stripe/charge" in part]
    assert bars
    assert [part for part in bars if not re.search(r" 123,456,789 records [\d,]+ pages$", part)] == []
    assert max(map(len, drawn)) <= COLUMNS
    assert "\x1b[2K" in shown.raw


def test_no_color_takes_the_colours_away_and_leaves_the_bars() -> None:
    shown = show(BARS, NO_COLOR="1").finish()

    assert ("━" in shown.raw, shown.has_colours) == (True, False)


def test_what_is_no_terminal_gets_a_line_for_each_change_and_neither_bars_nor_colours(
    tmp_path: Path,
) -> None:
    with (tmp_path / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-c", PRELUDE + BARS],
            stdout=log,
            stderr=log,
            check=True,
            env={**os.environ, "PYTHONPATH": python_path(Path.cwd())},
        )

    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == list(dict.fromkeys(lines))
    assert lines[-2:] == [
        "stripe/charge: 123,456,789 records, 3,702 pages, 6,172,839 records/s",
        "a_provider_with_a_long_name/a_collection_whose_name_is_longer_than_half_of_the_terminal_is: 123,456,789 records, 3,702 pages, "
        "6,172,839 records/s",
    ]


@pytest.mark.parametrize("arguments", [(), ("db",), ("rejects",)])
def test_help_shows_the_whole_sentence_of_every_command(arguments: tuple[str, ...]) -> None:
    of: click.Command = group
    for name in arguments:
        assert isinstance(of, click.Group)
        found = of.get_command(click.Context(of), name)
        assert found is not None
        of = found
    assert isinstance(of, click.Group)
    program = "from sequin_pipeline.cli import main; main()"

    shown = Terminal([sys.executable, "-c", program, *arguments, "--help"], environment=os.environ, folder=Path.cwd()).finish()

    text = " ".join(" ".join(shown.lines).split())
    for name in of.list_commands(click.Context(of)):
        command = of.get_command(click.Context(of), name)
        assert command is not None
        sentence = " ".join((command.help or "").split("\n\n")[0].split())
        assert f" {name} {sentence}" in text
    assert max(len(line) for line in shown.lines) <= COLUMNS


@pytest.mark.parametrize(("variables", "expected"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_of_lines_can_be_switched_off(variables: dict[str, str], expected: bool, tmp_path: Path) -> None:  # noqa: FBT001
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SEQUIN_COLLECTIONS": f"{tmp_path}/none"}

    shown = Terminal(
        [sys.executable, "-m", "sequin_pipeline.cli", "doctor"], environment=environment, folder=Path.cwd(), variables=variables
    ).finish()

    assert (shown.status, shown.has_colours) == (1, expected)
