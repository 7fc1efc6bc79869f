"""docs/architecture.md names the functions that do each step; every module, function and file that it names is there."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PACKAGE = CHECKOUT / "sequin_pipeline"
TEXT = (CHECKOUT / "docs" / "architecture.md").read_text()
FOUND_IN_PACKAGE = "|".join(
    sorted(path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.stem.isidentifier())
)
NAMES = sorted(set(re.findall(rf"`((?:{FOUND_IN_PACKAGE})(?:\.\w+)*)`", TEXT)))
FILES = sorted(set(re.findall(r"`([\w/]+(?:/|/\w+\.py))`", TEXT)))


def members(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module or a class defines by name."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                found[statement.name] = statement
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                found[name] = statement
    return found


def exists(name: str) -> bool:
    parts = name.split(".")
    place = PACKAGE
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place /= f"{parts.pop(0)}.py"
    else:
        place /= "__init__.py"
    body = ast.parse(place.read_text()).body if place.is_file() else []
    while parts:
        found = members(body).get(parts.pop(0))
        if found is None:
            return False
        body = found.body if isinstance(found, ast.ClassDef) else []
    return place.is_file()


def test_every_name_of_the_page_is_in_the_code() -> None:
    """When this fails, a function has moved or changed its name: say the new one in docs/architecture.md."""
    missing = [name for name in NAMES if not exists(name)]

    assert missing == []
    assert len(NAMES) > 50


@pytest.mark.parametrize(
    "name", ["write.merge.no_such_function", "write.no_such_module.merge_rows", "sources.Source.no_such_method", "no_such_room.x"]
)
def test_a_name_that_is_nowhere_is_noticed(name: str) -> None:
    assert not exists(name)


def test_every_file_and_folder_of_the_page_is_there() -> None:
    missing = [name for name in FILES if not any((root / Path(name)).exists() for root in (CHECKOUT, PACKAGE))]

    assert missing == []
    assert len(FILES) > 5


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_that_a_docstring_or_comment_names_are_there(module: Path) -> None:
    """A module that has moved on leaves its old name in the sentences of others."""
    there = {path.name for path in PACKAGE.rglob("*.py")}

    named = set(re.findall(r"(?<![\w/])([a-z_]+\.py)\b", module.read_text()))

    assert named - there == set()
