"""What can be said of a command of the documents without running it: that its options exist, and that what it names is there.

A program that is not in PROGRAMS is refused: give it a rule, or say above the block why nobody looks (`<!-- not run: … -->`).
"""

import json
import re
import tomllib
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import click

from sequin_pipeline.cli import group
from tests.docs.shell import Command
from tests.support.checkout import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "sequin_pipeline").rglob("*.py"))
OURS = ("SEQUIN_", "DAGSTER_", "WAREHOUSE_", "STRIPE_")
"""Variables that begin so are read by the package, or the document names one that does nothing."""


class WrongCommand(AssertionError):
    """A command that would not work as it is printed; the message says why."""


def fault_of(command: Command, folder: Path) -> str | None:
    """What is wrong with the command, or None; `folder` is where the reader types it."""
    try:
        _check(command, folder)
    except WrongCommand as wrong:
        return f"`{' '.join(command.words)}`: {wrong}"
    return None


def _check(command: Command, folder: Path) -> None:
    unknown = [name for name in command.assigned if name.startswith(OURS) and not re.search(rf"\b{name}\b", SOURCES)]
    if unknown:
        raise WrongCommand(f"nothing in the package reads the variable {unknown[0]}")
    if not command.words:
        return
    if command.program not in PROGRAMS:
        raise WrongCommand(
            f"no rule for the program {command.program!r}: add it to PROGRAMS in tests/docs/programs.py, or put "
            "`<!-- not run: REASON -->` on the line above the block"
        )
    PROGRAMS[command.program](command.words[1:], folder)


def parse(root: click.Command, words: tuple[str, ...]) -> None:
    """Lets click parse the words, through all groups, without calling the command; raises WrongCommand with click's own sentence."""
    name: str | None = None
    command, remaining = root, list(words)
    parent: click.Context | None = None
    while True:
        try:
            context = command.make_context(name, list(remaining), parent=parent)
            if not isinstance(command, click.Group):
                return
            name, found, remaining = command.resolve_command(context, [*context._protected_args, *context.args])
        except click.exceptions.Exit:  # --help and --version
            return
        except click.UsageError as error:
            raise WrongCommand(error.format_message()) from error
        assert found is not None
        parent, command = context, found


def _ours(words: tuple[str, ...], folder: Path) -> None:
    parse(group, words)


def _dg(words: tuple[str, ...], folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)  # of Typer, which dg imports
        from dagster_dg_cli.cli import create_dg_cli

        parse(create_dg_cli(), words)


def _make(words: tuple[str, ...], folder: Path) -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[0].split()
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and f"$({name})" not in MAKEFILE and not re.search(rf"^{name} \?=", MAKEFILE, flags=re.MULTILINE):
            raise WrongCommand(f"the Makefile has no variable {name!r}")
        if not is_variable and not word.startswith("-") and word not in targets:
            raise WrongCommand(f"the Makefile has no target {word!r}: there are {', '.join(targets)}")


def _pip(words: tuple[str, ...], folder: Path) -> None:
    for option, value in pairwise(words):
        if option == "-r":
            _is_there(value, folder)
    for word in words:
        if found := re.match(rf"{PROJECT['name']}\[([\w,-]+)\]", word):
            for extra in found[1].split(","):
                if extra not in PROJECT["optional-dependencies"]:
                    raise WrongCommand(f"the package has no extra {extra!r}")


def _python(words: tuple[str, ...], folder: Path) -> None:
    if words[:2] == ("-m", "pip"):
        _pip(words[2:], folder)
    elif words and words[0].endswith(".py"):
        _is_there(words[0], folder)


def _npm(words: tuple[str, ...], folder: Path) -> None:
    scripts = json.loads((folder / "package.json").read_text(encoding="utf-8"))["scripts"]
    if words[0] == "run" and words[1] not in scripts:
        raise WrongCommand(f"package.json has no script {words[1]!r}")


def _file_by_f(words: tuple[str, ...], folder: Path) -> None:
    """For programs that read the file which `-f` names."""
    for option, value in pairwise(words):
        if option == "-f" and not value.startswith("/"):
            _is_there(value, folder)


def _anything(words: tuple[str, ...], folder: Path) -> None:
    """For programs of the system, whose words name the reader's own things."""


def _is_there(path: str, folder: Path) -> None:
    if not (folder / path).exists():
        raise WrongCommand(f"there is no file {path!r} in {folder}")


PROGRAMS: Mapping[str, Callable[[tuple[str, ...], Path], None]] = {
    "sequin-pipeline": _ours,
    "dg": _dg,
    "make": _make,
    "pip": _pip,
    **dict.fromkeys(("python", "python3"), _python),
    "npm": _npm,
    "psql": _file_by_f,
    # tests/e2e/test_in_your_dagster_project.py runs it.
    "create-dagster": _anything,
    **dict.fromkeys(("alembic", "pg_dump", "pg_restore", "createdb", "dagster"), _anything),
    **dict.fromkeys((".", "cat", "cd", "cp", "curl", "date", "echo", "export", "ls", "mkdir", "mv", "rm"), _anything),
}
