"""The table of versions: which are chosen, what stays on the page, and that none of them has failed."""

import re
import tomllib

import pytest

from tests.matrix.cells import PYTHONS, Cell, Unknown, chosen_cells
from tests.matrix.page import NotRun, Ran, filled, rows_of
from tests.support.checkout import CHECKOUT

PAGE = """Above.
<!-- matrix -->
| Python | Postgres | day | passed | failed | skipped |
| --- | --- | --- | --: | --: | --: |
| 3.11.7 | 13.23 | 2026-11-01 | 1,200 | 0 | 4 |
| 3.14 | 18 | not run here: no Python 3.14 | – | – | – |
<!-- /matrix -->
Below.
"""
CELLS = (Cell("3.12", 18), Cell("3.14", 17), Cell("3.11", 18))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["postgres=15"], ["3.11-15"]),
        (["python=3.12"], ["3.12-18"]),
        (["postgres=15", "python=3.12"], ["3.12-15"]),
        (["python=3.14,3.12", "postgres=13,18"], ["3.12-13", "3.12-18", "3.14-13", "3.14-18"]),
        ([], ["3.11-13", "3.11-14", "3.11-15", "3.11-16", "3.11-17", "3.11-18", "3.12-18", "3.13-18", "3.14-18"]),
    ],
)
def test_words_choose_versions_and_what_they_leave_out_is_the_usual_one(words: list[str], expected: list[str]) -> None:
    assert [cell.name for cell in chosen_cells(words, own_python="3.11")] == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("15", "'15' is no choice of versions: say postgres=15, python=3.12 or both, with commas for several"),
        ("mysql=8", "'mysql=8' is no choice of versions: say postgres=15, python=3.12 or both, with commas for several"),
        ("postgres=12", "'postgres=12' names no postgres that is supported: they are 13, 14, 15, 16, 17, 18"),
        ("python=3.12.1", "'python=3.12.1' names no python that is supported: they are 3.11, 3.12, 3.13, 3.14"),
        ("postgres=", "'postgres=' names no postgres that is supported: they are 13, 14, 15, 16, 17, 18"),
    ],
)
def test_a_word_that_names_no_version_is_refused(word: str, message: str) -> None:
    with pytest.raises(Unknown) as raised:
        chosen_cells([word], own_python="3.11")

    assert str(raised.value) == message


def test_a_run_replaces_its_own_row_and_leaves_the_others() -> None:
    page = filled(PAGE, {Cell("3.14", 18): Ran("3.14.2", "18.6", "2026-11-30", 2_345, 1, 0)})

    assert page == PAGE.replace(
        "| 3.14 | 18 | not run here: no Python 3.14 | – | – | – |", "| 3.14.2 | 18.6 | 2026-11-30 | 2,345 | 1 | 0 |"
    )


def test_a_new_row_stands_in_the_order_of_its_versions() -> None:
    outcomes = {cell: Ran(f"{cell.python}.1", f"{cell.postgres}.2", "2026-11-30", 5, 0, 0) for cell in CELLS}

    page = filled(PAGE, outcomes)

    assert [cell.name for cell in rows_of(page)] == ["3.11-13", "3.11-18", "3.12-18", "3.14-17", "3.14-18"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Cell("3.11", 13), "| 3.11.7 | 13.23 | 2026-11-01 | 1,200 | 0 | 4 |"),
        (Cell("3.14", 18), "| 3.14 | 18 | not run here: no npm | – | – | – |"),
        (Cell("3.12", 17), "| 3.12 | 17 | not run here: no npm | – | – | – |"),
    ],
)
def test_what_cannot_be_run_here_says_so_only_where_it_was_run_nowhere(cell: Cell, expected: str) -> None:
    page = filled(PAGE, {cell: NotRun(cell, "no npm")})

    assert rows_of(page)[cell] == expected


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the page has no lines '<!-- matrix -->' and '<!-- /matrix -->', between which the table"
    ):
        filled("Above.\nBelow.\n", {})


def test_the_versions_are_those_of_the_package_and_no_row_of_the_page_has_a_failure() -> None:
    rows = rows_of((CHECKOUT / "docs" / "reliability.md").read_text())
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]

    assert tuple(re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))) == PYTHONS
    assert [row for row in rows.values() if row.split(" | ")[4] not in ("0", "–")] == []
