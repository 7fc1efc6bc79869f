"""docs/reliability.md says what is guaranteed in each fault, and each of its rows is proved by a test of this folder."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

HERE = Path(__file__).parent
PAGE = CHECKOUT / "docs" / "reliability.md"


def rows(section: str) -> Iterator[tuple[str, str]]:
    """Test and fault of each row of a section's tables."""
    text = re.split(rf"^## {section}$", PAGE.read_text(), flags=re.MULTILINE)[1]
    for line in re.split(r"^## ", text, flags=re.MULTILINE)[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 1 and (test := re.fullmatch(r"`(test_\w+)`", cells[-1])):
            yield test[1], cells[0].replace("`", "")


def proofs(section: str) -> Iterator[tuple[str, str]]:
    """Each test of `test_<section>_….py` and its case, empty where it has only one."""
    for path in HERE.glob(f"test_{section.lower()}_*.py"):
        for name, function in vars(import_module(f"{__package__}.{path.stem}")).items():
            if name.startswith("test_"):
                yield from ((name, case) for case in _cases(function))


def _cases(function: object) -> list[str]:
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    return [case.id for mark in marks for case in mark.args[1]] or [""]


@pytest.mark.parametrize("section", ["Source", "Postgres", "Process"])
def test_each_row_of_the_page_is_a_test_and_each_test_a_row(section: str) -> None:
    """A row ends with the name of its test; where that has several cases, each a `pytest.param` with an id, the row's fault is one."""
    proved = sorted(proofs(section))

    promised = sorted((test, "" if (test, "") in proved else fault) for test, fault in rows(section))

    assert promised == proved


def test_rows_that_are_proved_in_other_folders_name_tests_that_are_there() -> None:
    elsewhere = re.findall(r"`(tests/\S+\.py)::(test_\w+)` \|$", PAGE.read_text(), flags=re.MULTILINE)

    missing = [name for path, name in elsewhere if f"\ndef {name}(" not in (CHECKOUT / path).read_text()]

    assert len(elsewhere) == PAGE.read_text().count("| `tests/")
    assert missing == []
