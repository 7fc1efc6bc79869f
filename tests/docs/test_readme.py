"""The README's map has one row for each room of the package, with the room's own first sentence; its links lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PACKAGE = CHECKOUT / "sequin_pipeline"
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *CHECKOUT.glob("examples/*/README.md")])


def first_sentence(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def links(page: Path) -> Iterator[str]:
    """Where a page's links lead within the checkout, without the place on the page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            yield target.partition("#")[0]


def test_each_room_has_one_row_that_is_its_own_first_sentence() -> None:
    """To put a changed docstring into the README, copy it: the row is `| [room](sequin_pipeline/room) | docstring |`."""
    rows = dict(
        re.findall(r"^\| \[(\w+)\]\(sequin_pipeline/\w+\) \| (.*) \|$", (CHECKOUT / "README.md").read_text(), flags=re.MULTILINE)
    )

    assert rows == {path.parent.name: first_sentence(path) for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in PAGES])
def test_the_links_of_a_page_lead_to_files_that_are_there(page: Path) -> None:
    missing = [target for target in links(page) if not (page.parent / target).exists()]

    assert missing == []
