"""What a person sees who asks a command for help or gets it wrong, and what that costs: told by the modules that it imports."""

import subprocess
import sys

import pytest

from sequin_pipeline.cli import COMMANDS

pytestmark = pytest.mark.processes

HEAVY = ("dagster", "pandas", "pyarrow", "httpx2", "starlette", "uvicorn")
PROGRAM = f"""
import sys
from sequin_pipeline.cli import main
try:
    main()
finally:
    print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command_with_a_sentence_and_imports_nothing_heavy() -> None:
    done = run("--help")

    *said, imported = done.stdout.splitlines()
    listed = [line.split()[0] for line in said[said.index("Commands:") + 1 :] if not line.startswith("   ")]
    assert (done.returncode, imported) == (0, "imported:")
    assert listed == sorted(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        *(pytest.param((name, "--help"), id=f"{name} --help") for name in COMMANDS),
        pytest.param(("rejects", "list", "-h"), id="nested"),
    ],
)
def test_help_of_a_command_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "imported:")
    assert done.stdout.startswith(f"Usage: -c {arguments[0]} ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("snc",), "No such command 'snc'", id="no such command"),
        pytest.param(("sync", "--colection", "a/b"), "No such option '--colection'", id="no such option"),
        pytest.param(("backfill", "stripe/plan"), "Missing option '--from'", id="missing option"),
        pytest.param(("ui", "--port", "none"), "'none' is not a valid integer range", id="no number"),
    ],
)
def test_wrong_usage_exits_with_2_and_imports_nothing_heavy(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "imported:\n")
    assert said in done.stderr
