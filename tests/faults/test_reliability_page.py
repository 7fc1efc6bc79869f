"""docs/reliability.md says what is guaranteed in each fault, and each of its rows is proved by a test of this folder."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def tests() -> dict[str, list[str]]:
    """What pytest finds here, by file; the name of a case stands in brackets."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", str(HERE)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert listed.returncode == 0, listed.stdout + listed.stderr
    found: dict[str, list[str]] = {}
    for path, name in re.findall(r"^\S*/(test_\w+\.py)::(.+)$", listed.stdout, re.MULTILINE):
        found.setdefault(path, []).append(name)
    return found


def rows(section: str) -> Iterator[tuple[str, str]]:
    """Fault and test of each row of a section's tables."""
    text = re.split(rf"^## {section}$", PAGE.read_text(), flags=re.MULTILINE)[1]
    for line in re.split(r"^## ", text, flags=re.MULTILINE)[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 1 and (test := re.fullmatch(r"`(test_\w+)`", cells[-1])):
            yield cells[0].replace("`", ""), test[1]


@pytest.mark.parametrize("section", ["Source", "Postgres", "Process"])
def test_each_row_of_the_page_is_a_test_and_each_test_a_row(tests: dict[str, list[str]], section: str) -> None:
    """A row names a test function of `test_<section>_….py`; the fault's name is that of the case, where it has several."""
    proved = sorted(name for path, names in tests.items() if path.startswith(f"test_{section.lower()}_") for name in names)

    promised = sorted(test if test in proved else f"{test}[{fault}]" for fault, test in rows(section))

    assert promised == proved
