"""Definitions are made once in a process, and again when a file has changed: a worker may execute one run after the other."""

from pathlib import Path

import dagster as dg
import pytest

from sequin_pipeline.orchestration.definitions import loaded_definitions
from tests.orchestration.files import write

COLUMN = "        {name}: {{path: {name}, type: text}}\n"
HEAD = "  provider: demo\n  collections:\n    thing:\n      columns:\n"


def columns(folder: Path) -> set[str]:
    asset = loaded_definitions(str(folder)).resolve_assets_def(dg.AssetKey(["demo", "thing"]))
    schema = asset.metadata_by_key[asset.key]["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    return {column.name for column in schema.columns}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(write(tmp_path, demo=HEAD + COLUMN.format(name="status"))["SEQUIN_COLLECTIONS"])


def test_definitions_are_made_once_while_no_file_changes(folder: Path) -> None:
    assert loaded_definitions(str(folder)) is loaded_definitions(str(folder))


def test_a_column_that_is_added_is_there_at_the_next_run(folder: Path) -> None:
    before = columns(folder)
    write(folder, demo=HEAD + COLUMN.format(name="status") + COLUMN.format(name="amount"))

    assert columns(folder) - before == {"amount"}


def test_a_file_that_is_added_is_there_at_the_next_run(folder: Path) -> None:
    loaded_definitions(str(folder))
    write(folder, other="  provider: other\n  collections: {part: }\n")

    assert dg.AssetKey(["other", "part"]) in loaded_definitions(str(folder)).resolve_all_asset_keys()


def test_a_python_file_beside_it_that_has_changed_is_read_again(folder: Path) -> None:
    beside = folder / "more.py"
    for name in ("first", "second"):
        beside.write_text(f"import dagster as dg\n\n@dg.asset\ndef {name}() -> None: ...\n")
        keys = loaded_definitions(str(folder)).resolve_all_asset_keys()
        assert {key for key in keys if len(key.path) == 1} == {dg.AssetKey([name])}
