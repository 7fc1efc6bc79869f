"""The README's map has one row for each room of the package, with the room's own first sentence; all links of all pages lead somewhere,
in the checkout and on the site that is made of the pages."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PACKAGE = CHECKOUT / "sequin_pipeline"
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *CHECKOUT.glob("examples/*/README.md")])


def first_sentence(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Where a page's links lead within the checkout, and to which place on the page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The places on a page, named as GitHub names them; a heading that comes again gets a number."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{named[slug]}" if named[slug] else slug)
        named[slug] += 1
    return found


def test_each_room_has_one_row_that_is_its_own_first_sentence() -> None:
    """To put a changed docstring into the README, copy it: the row is `| [room](sequin_pipeline/room) | docstring |`."""
    rows = dict(
        re.findall(r"^\| \[(\w+)\]\(sequin_pipeline/\w+\) \| (.*) \|$", (CHECKOUT / "README.md").read_text(), flags=re.MULTILINE)
    )

    assert rows == {path.parent.name: first_sentence(path) for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in PAGES])
def test_the_links_of_a_page_lead_to_files_that_are_there(page: Path) -> None:
    missing = [path for path, _ in links(page) if not (page.parent / path).exists()]

    assert missing == []


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in PAGES])
def test_the_links_of_a_page_lead_to_headings_that_are_there(page: Path) -> None:
    missing = [
        f"{path}#{anchor}"
        for path, anchor in links(page)
        if anchor and anchor not in anchors(page if not path else (page.parent / path).resolve())
    ]

    assert missing == []


def test_a_heading_is_found_by_githubs_name_for_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Where it is, and `why`\n\n## A [link](x.md)\n\n```sh\n# no heading\n```\n\n## A link\n")

    assert anchors(page) == {"where-it-is-and-why", "a-link", "a-link-1"}


# ---- the site


def listed(entries: list[object]) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    for entry in entries:
        if isinstance(entry, dict):
            for below in entry.values():
                yield from listed(below)
        else:
            yield str(entry)


NAVIGATION = list(listed(tomllib.loads((CHECKOUT / "docs" / "site" / "zensical.toml").read_text())["project"]["nav"]))


def test_the_sites_navigation_has_every_page_once() -> None:
    """A new page gets its line in docs/site/zensical.toml; a decision and the README of an example are reached by links."""
    pages = {str(page.relative_to(CHECKOUT)) for page in PAGES if page.parts[-3] != "examples"}
    decisions = {page for page in pages if page.startswith("docs/decisions/") and not page.endswith("README.md")}

    assert sorted(NAVIGATION) == sorted(pages - decisions)


def test_the_readme_lists_every_page_of_the_documents() -> None:
    pages = {f"docs/{page.name}" for page in (CHECKOUT / "docs").glob("*.md")}

    assert pages - {path for path, _ in links(CHECKOUT / "README.md")} == set()
