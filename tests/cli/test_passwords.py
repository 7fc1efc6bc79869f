"""A password whose special characters are not escaped is refused before anything is connected to, and no part of it is shown.

libpq takes the first `@` for the end of the password, and what follows for the server, which it would name in its errors.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem

from sequin_pipeline.cli import main
from sequin_pipeline.cli.completion import complete_record_ids, complete_rejects
from sequin_pipeline.environment.settings import VARIABLES

PASSWORDS = [
    pytest.param("zq7@xk9", id="two at signs"),
    pytest.param("zq7@xk9@jv4", id="three at signs"),
    pytest.param("zq7#xk9", id="number sign"),
    pytest.param("zq7?xk9", id="question mark"),
    pytest.param("zq7/xk9", id="slash"),
    pytest.param("771/xk9", id="what looks like a port"),
    pytest.param("771?user=xk9", id="what looks like a parameter"),
    pytest.param("zq7?xk9=jv4", id="what looks like an unknown parameter"),
    pytest.param("zq7@xk9/jv4", id="what looks like a host"),
    pytest.param("zq7@xk9?jv4=1", id="what looks like a host and a parameter"),
    pytest.param("zq7@xk9#jv4", id="what looks like a host and a fragment"),
    pytest.param("zq7://xk9", id="what looks like a scheme"),
]
COMMANDS = [("sync", 2), ("doctor --json", 1)]

OTHER_COMMANDS = [
    "backfill shop/order --from 2024-01",
    "db start",
    "db status",
    "db url",
    "db stop",
    "doctor",
    "explain shop/order o1",
    "infer shop/order",
    "infer shop/order --table shop.order",
    "plan",
    "rejects list",
    "rejects show shop/order 12345678",
    "rejects replay shop/order",
    "rejects discard shop/order --all",
    "schema --format sql",
    "status",
    "status --json",
    "sync --json",
    "ui --port 1",
]
UNCONNECTED = ("db status", "db url", "db stop", "schema --format sql")
"""They neither open the warehouse nor print its URL, and work whatever stands in the variables."""
EVERY_CHARACTER = "zq7kk@xk9vv/jv4ww?mq2yy=nb3hh#wd5jj:fg6ss"
"""Its parts are longer than what names of temporary folders have by chance: one in 37 begins with tmp2."""

DECLARED = """
type: sequin_pipeline.component.CollectionSync
attributes:
  provider: shop
  collections:
    order: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a user who gave everything; nothing answers where the databases are said to be."""
    for name in [*VARIABLES, *(name for name in os.environ if name.lower().endswith("_proxy"))]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dagster.yaml").touch()
    (tmp_path / "collections" / "shop").mkdir(parents=True)
    (tmp_path / "collections" / "shop" / "defs.yaml").write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SEQUIN_PIPELINE_HOME": f"{tmp_path}/home",
        "SEQUIN_API_URL": "https://api.example",
        "SEQUIN_API_TOKEN": "token",
        "SEQUIN_COLLECTIONS": f"{tmp_path}/collections",
        "WAREHOUSE_URL": "postgresql://you@127.0.0.1:1/w",
        "DAGSTER_POSTGRES_URL": "postgresql://you@127.0.0.1:1/d",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def environment_stays() -> Iterator[None]:
    """Commands set their own process's environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sequin-pipeline", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def shown_parts(password: str, said: str, folder: Path) -> list[str]:
    """The parts of the password that somebody can read, on the terminal, in a log or in a file."""
    written = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    parts = [part for part in re.split(r"\W+", password) if part not in ("user", "1")]
    return [part for part in parts if any(part in text for text in (said, *written))]


@pytest.mark.usefixtures("environment_stays")
@pytest.mark.parametrize("variable", ["WAREHOUSE_URL", "DAGSTER_POSTGRES_URL", "SEQUIN_API_URL"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_command_shows_a_part_of_a_password_that_is_not_escaped(
    variable: str,
    password: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = "api.example/v1" if variable == "SEQUIN_API_URL" else "db.example:5432/w"
    scheme = "https" if variable == "SEQUIN_API_URL" else "postgresql"
    monkeypatch.setenv(variable, f"{scheme}://you:{password}@{place}")
    # A sync asks the warehouse before the API.
    commands = COMMANDS[1:] if variable == "SEQUIN_API_URL" else COMMANDS
    caplog.set_level(logging.DEBUG)

    ended = [run(monkeypatch, command) for command, _ in commands]

    told = capsys.readouterr()
    said = told.out + told.err + caplog.text
    assert ended == [status for _, status in commands]
    assert shown_parts(password, said, folder) == []
    assert (
        f"{variable} {'is not a' if '@ stands' in said else 'holds credentials' if scheme == 'https' else 'is not understood'}"
        in said
    )


@pytest.mark.processes
@pytest.mark.usefixtures("environment_stays")
@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (command, variable)
        for variable in ("WAREHOUSE_URL", "DAGSTER_POSTGRES_URL", "SEQUIN_API_URL")
        for command in OTHER_COMMANDS
        # The UI asks the API nothing: it would run until somebody ends it.
        if (command, variable) != ("ui --port 1", "SEQUIN_API_URL")
    ],
)
def test_every_other_command_shows_no_part_either(
    command: str,
    variable: str,
    folder: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = "https://you:{}@api.example/v1" if variable == "SEQUIN_API_URL" else "postgresql://you:{}@db.example:5432/w"
    if variable == "SEQUIN_API_URL":
        for database in ("WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"):
            monkeypatch.setenv(database, request.getfixturevalue("warehouse_url"))
    monkeypatch.setenv(variable, place.format(EVERY_CHARACTER))
    caplog.set_level(logging.DEBUG)

    ended = run(monkeypatch, command)

    told = capsys.readouterr()
    assert shown_parts(EVERY_CHARACTER, told.out + told.err + caplog.text, folder) == []
    if variable != "SEQUIN_API_URL" and command not in UNCONNECTED:
        assert (ended, variable in told.out + told.err) == (1 if command == "doctor" else 2, True)


@pytest.mark.usefixtures("environment_stays")
@pytest.mark.parametrize("complete", [complete_record_ids, complete_rejects])
def test_a_completion_says_nothing_of_a_url_that_is_not_understood(
    complete: Callable[[click.Context, click.Parameter, str], list[CompletionItem]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", f"postgresql://you:{EVERY_CHARACTER}@db.example:5432/w")
    context = click.Context(click.Command("explain"))
    context.params["label"] = "shop/order"

    offered = complete(context, click.Argument(["record_id"]), "")

    told = capsys.readouterr()
    assert (offered, told.out, told.err) == ([], "", "")
    assert shown_parts(EVERY_CHARACTER, "", folder) == []


@pytest.mark.usefixtures("environment_stays")
@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("variable", ["SEQUIN_API_URL", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_a_sync_asks_before_its_runs_shows_no_part_of_a_password(
    variable: str,
    password: str,
    folder: Path,
    warehouse_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The databases answer here, so that the API and its proxy come to be looked at."""
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", warehouse_url)
    monkeypatch.setenv(
        variable, f"https://you:{password}@api.example/v1" if variable == "SEQUIN_API_URL" else f"http://you:{password}@proxy"
    )
    caplog.set_level(logging.DEBUG)

    ended = run(monkeypatch, "sync")

    told = capsys.readouterr()
    assert ended == 2
    assert shown_parts(password, told.out + told.err + caplog.text, folder) == []
    assert f"sequin-pipeline: {variable} " in told.err
