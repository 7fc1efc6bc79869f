"""`history_table` of a collection: what it says, and what is said to declarations that cannot have one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sequin_pipeline.catalog import HistoryTable, TableName
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.catalog_files import load_collections
from tests.orchestration.files import write


def declared(*lines: str) -> str:
    """A file whose line 6 is the first of a collection."""
    return "\n".join(["  provider: demo", "  collections:", "    thing:", *(f"      {line}" for line in lines), ""])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("history_table: true", HistoryTable(TableName("demo", "thing_history")), id="true"),
        pytest.param("history_table: {}", HistoryTable(TableName("demo", "thing_history")), id="empty"),
        pytest.param("history_table: {name: past.things}", HistoryTable(TableName("past", "things")), id="a name"),
        pytest.param(
            "history_table: {since: 2025-01-01}",
            HistoryTable(TableName("demo", "thing_history"), datetime(2025, 1, 1, tzinfo=UTC)),
            id="a time",
        ),
        pytest.param("history_table: false", None, id="false"),
        pytest.param("description: ''", None, id="left out"),
    ],
)
def test_a_collection_says_which_table_keeps_its_versions(tmp_path: Path, line: str, expected: HistoryTable | None) -> None:
    assert load_collections(write(tmp_path, demo=declared(line)))["demo/thing"].history_table == expected


@pytest.mark.parametrize(
    ("lines", "at", "said"),
    [
        pytest.param(
            ["history_table: true", "table: {name: public.Thing, managed: false, columns: {id: id, deleted: gone}}"],
            6,
            "collection 'thing' asks for a history table, and its table belongs to an application, which others write too and whose types "
            "are its own: declare the collection once more for a table that the pipeline manages, and ask for its history there",
            id="a table of an application",
        ),
        pytest.param(
            ["history_table: true", "columns: {valid_to: {path: end, type: timestamptz}}"],
            7,
            "column 'valid_to' would take the name of one that the history table has (until when this version held: since then the next "
            "one has; null: it holds): choose another name",
            id="a column of its own name",
        ),
        pytest.param(
            ["history_table: {name: demo.thing}"],
            6,
            "the history of collection 'thing' would land in its own table: name another one",
            id="its own table",
        ),
        pytest.param(
            ["history_table: {name: pg_catalog.thing}"],
            6,
            "the history of collection 'thing' would land in schema 'pg_catalog', which Postgres reserves: name another one",
            id="a reserved schema",
        ),
        pytest.param(
            ["history_table: {since: yesterday}"],
            6,
            "since 'yesterday' cannot be used: expected a day or a time in UTC, as in 2024-01-01 or 2024-01-01T06:00Z",
            id="no time",
        ),
        pytest.param(
            ["history_table: {since: 2025-02-30}"],
            6,
            "since '2025-02-30' is not a time: day is out of range for month",
            id="no day",
        ),
    ],
)
def test_a_history_that_cannot_be_kept_is_refused_with_its_line(tmp_path: Path, lines: list[str], at: int, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_collections(write(tmp_path, demo=declared(*lines)))

    assert str(caught.value) == f"{tmp_path}/demo/defs.yaml:{at}: {said}"


def test_a_history_that_would_land_in_the_table_of_another_collection_is_refused(tmp_path: Path) -> None:
    attributes = declared("history_table: {name: demo.other}") + "    other: {}\n"

    with pytest.raises(CatalogError, match=r"'demo/thing' .* and 'demo/other' would both land in table 'demo\.other'"):
        load_collections(write(tmp_path, demo=attributes))
