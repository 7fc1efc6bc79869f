"""That a command, and a process of Dagster's that loads the code location, search for no garbage among what they import."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

# What is registered first is called last, when all others have had their turn.
PROGRAM = """
import atexit, gc, sys
atexit.register(lambda: print("frozen" if gc.get_freeze_count() >= len(gc.get_objects()) else "searched", gc.get_threshold()[0]))
"""


def end_of(program: str, *arguments: str) -> str:
    """Runs it without what the tests do to each Python that they start, and returns its last line."""
    command = [sys.executable, "-I", "-c", PROGRAM + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        pytest.param("from sequin_pipeline.cli import main; main()", ["--version"], id="a command"),
        pytest.param("import sequin_pipeline.definitions", [], id="the code location"),
    ],
)
def test_what_was_imported_is_not_searched_for_garbage_at_the_end(program: str, arguments: list[str]) -> None:
    assert end_of(program, *arguments) == "frozen 20000"


def test_how_a_process_ends_that_only_has_a_component_of_ours_is_left_to_it() -> None:
    assert end_of("import sequin_pipeline.component") == "searched 700"
