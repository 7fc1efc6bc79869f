"""How a range of windows is cut into parts for runs beside each other: where, into how many, and what is said where it cannot be."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from sequin_pipeline.catalog import Collection, SourceDeclaration
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.range_cut import RangeCut, Window, cut_range, parts_of
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.windows import KeyRange
from tests.support.builders import collection, record
from tests.support.syncing import sync

KEYS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06")


def at(month: int, day: int = 1, hour: int = 0) -> datetime:
    return datetime(2024, month, day, hour, tzinfo=UTC)


def months(*positions: int | None) -> list[Window]:
    """A window for each month from January; `positions` are the months at whose start a position is recorded, for each of them."""
    return [
        Window(f"2024-{month:02}", at(month) if month > 1 else None, at(month + 1), None if position is None else at(position))
        for month, position in enumerate(positions, start=1)
    ]


def ranges(cut: Iterable[KeyRange]) -> list[str]:
    return [f"{one.first[-2:]}-{one.last[-2:]}" for one in cut]


@pytest.mark.parametrize(
    ("positions", "records", "most", "parts"),
    [
        pytest.param((None, 2, 3, 4, 5, 6), [10, 10, 10, 10, 10, 10], 3, ["01-02", "03-04", "05-06"], id="even months"),
        pytest.param((None, 2, 3, 4, 5, 6), [50, 10, 10, 10, 10, 10], 2, ["01-01", "02-06"], id="most of it in the first"),
        pytest.param((None, 2, 3, 4, 5, 6), [0, 0, 0, 0, 0, 100], 4, ["01-06"], id="all of it in one"),
        pytest.param((None,) * 6, [10, 10, 10, 10, 10, 10], 3, ["01-06"], id="no positions"),
        pytest.param((None, 2, 2, 2, 2, 6), [10, 10, 10, 10, 10, 10], 6, ["01-01", "02-05", "06-06"], id="a gap of positions"),
        pytest.param((None, 2, 3, 4, 5, 6), [0, 0, 0, 0, 0, 0], 3, ["01-06"], id="nothing to read"),
        pytest.param((None, 2, 3, 4, 5, 6), [10, 10, 10, 10, 10, 10], 1, ["01-06"], id="one run"),
        pytest.param((None, 2), [10, 10], 4, ["01-01", "02-02"], id="fewer windows than runs"),
    ],
)
def test_the_longest_part_is_as_short_as_positions_allow(
    positions: Sequence[int | None], records: Sequence[int], most: int, parts: list[str]
) -> None:
    windows = months(*positions)
    moments = [at(month) for month in range(2, len(windows) + 2)]

    cut = parts_of(windows, moments, [*records, 0], most)

    assert ranges(cut) == parts


def test_windows_that_are_not_adjacent_never_share_a_run() -> None:
    windows = [one for one in months(None, 2, 3, 4, 5, 6) if one.key not in ("2024-03", "2024-04")]

    cut = parts_of(windows, [at(month) for month in range(2, 8)], [10, 10, 10, 10, 10, 10, 0], 1)

    assert ranges(cut) == ["01-02", "05-06"]


@pytest.fixture
def ledger(warehouse_url: str) -> Ledger:
    ledger = Ledger("demo.thing", "demo/thing")
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        ledger.register_table(connection, SourceIdentity("list", "http://demo"), on_delete="mark", row_count=0)
    return ledger


def positions_on(warehouse_url: str, ledger: Ledger, *moments: datetime) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        ledger.record_positions(connection, [(moment, f"cursor {moment:%d}") for moment in moments])


def cut(warehouse_url: str, most: int, of: Collection | None = None) -> RangeCut:
    with Warehouse(warehouse_url).connect() as connection:
        return cut_range(connection, of or collection(), KEYS, most)


def test_a_table_without_rows_is_cut_by_how_many_positions_its_windows_have(warehouse_url: str, ledger: Ledger) -> None:
    positions_on(warehouse_url, ledger, *(at(2, day) for day in range(1, 29)), at(3), at(4), at(5), at(6))

    assert ranges(cut(warehouse_url, 2).parts) == ["01-02", "03-06"]


def test_a_table_is_cut_by_the_times_of_its_rows(warehouse_url: str) -> None:
    few = [record(f"few {month}", month, inserted_at=at(month, 3).isoformat()) for month in range(1, 6)]
    many = [record(f"many {number}", number, inserted_at=at(6, 2, number % 24).isoformat()) for number in range(100)]
    sync(warehouse_url, few, many)
    positions_on(warehouse_url, Ledger("demo.thing", "demo/thing"), *(at(month) for month in range(2, 6)), at(5, 31))

    assert ranges(cut(warehouse_url, 3).parts) == ["01-05", "06-06"]


@pytest.mark.parametrize(
    ("kind", "positions", "most", "parts", "note"),
    [
        pytest.param(
            "sequin",
            [],
            4,
            ["01-06"],
            "demo/thing: 1 run instead of 4: the ledger has recorded no position before windows 2024-02 to 2024-06, so that a run which "
            "begins there would read the stream from its earliest record; live runs record positions as they read, and so does each "
            "backfill",
            id="no position",
        ),
        pytest.param(
            "sequin",
            [at(1, day) for day in range(1, 31)],
            2,
            ["01-06"],
            "demo/thing: 1 run instead of 2: more would not end sooner, since most of the records lie in few windows, or no position is "
            "recorded near the others",
            id="all in one window",
        ),
        pytest.param(
            "airbyte",
            [],
            2,
            ["01-06"],
            "demo/thing: 1 run instead of 2, since source 'airbyte' reads everything, whatever the windows are",
            id="a source that reads everything",
        ),
    ],
)
def test_fewer_runs_than_were_asked_for_are_said_in_words(
    warehouse_url: str, ledger: Ledger, kind: str, positions: list[datetime], most: int, parts: list[str], note: str
) -> None:
    positions_on(warehouse_url, ledger, *positions)

    found = cut(warehouse_url, most, replace(collection(), source=SourceDeclaration(kind)))

    assert (ranges(found.parts), found.note) == (parts, note)


@pytest.mark.parametrize("kind", ["stripe", "rest"])
def test_a_source_that_is_asked_for_windows_needs_no_positions(warehouse_url: str, kind: str) -> None:
    even = [record(f"r{month}", month, inserted_at=at(month, 3).isoformat()) for month in range(1, 7)]
    sync(warehouse_url, even)

    found = cut(warehouse_url, 3, replace(collection(), source=SourceDeclaration(kind)))

    assert (ranges(found.parts), found.note) == (["01-02", "03-04", "05-06"], None)


def test_more_runs_than_windows_are_not_made(warehouse_url: str) -> None:
    sync(warehouse_url, [record(f"r{month}", month, inserted_at=at(month, 3).isoformat()) for month in range(1, 7)])

    found = cut(warehouse_url, 8, replace(collection(), source=SourceDeclaration("stripe")))

    assert found.note == ("demo/thing: 6 runs instead of 8, since there are 6 windows to be read and a window is read by one run")
