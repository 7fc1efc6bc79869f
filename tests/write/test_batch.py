"""What a batch keeps of its pages: the newest row of each key, in key order, and where each row came from. No Postgres."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.write.bad_rows import without_objects
from sequin_pipeline.write.batch import OBJECT_VERSION, Batch, Place, build_batch
from tests.support.builders import collection, record

TARGET = collection_target(collection())
STARTS = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))


def batch(
    *pages: Sequence[dict[str, object]], window_starts: Sequence[datetime] = (), without: frozenset[Place] = frozenset()
) -> Batch:
    normalize = Normalizer(collection())
    return build_batch(
        TARGET, [normalize(json.dumps(page).encode()) for page in pages], window_starts=window_starts, without=without
    )


def rows(of: Batch, *names: str) -> list[tuple[object, ...]]:
    return list(zip(*(of.column(name).to_pylist() for name in names), strict=True))


def bare(record_id: str, version: int) -> dict[str, object]:
    return record(record_id, version, deleted=True, data=None)


def test_rows_are_in_the_order_of_their_keys_bytes_whatever_the_order_of_arrival() -> None:
    built = batch([record("b"), record("é"), record("B")], [record("a"), record("10"), record("9")])

    assert rows(built, "id") == [("10",), ("9",), ("B",), ("a",), ("b",), ("é",)]


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        pytest.param([[("a", 1, "x"), ("a", 2, "y")]], (2, "y"), id="greater version later"),
        pytest.param([[("a", 2, "y"), ("a", 1, "x")]], (2, "y"), id="greater version earlier"),
        pytest.param([[("a", 2, "x"), ("a", 2, "y")]], (2, "y"), id="equal versions in a page"),
        pytest.param([[("a", 2, "x")], [("a", 2, "y")]], (2, "y"), id="equal versions in two pages"),
        pytest.param([[("a", 2, "x"), ("a", 1, "z")], [("a", 2, "y"), ("a", 0, "z")]], (2, "y"), id="equal among lesser ones"),
        pytest.param([[("a", -5, "x")], [("a", -6, "y")]], (-5, "x"), id="negative versions"),
        pytest.param([[("a", 2**63 - 1, "x")], [("a", 2**63 - 2, "y")]], (2**63 - 1, "x"), id="beyond a double"),
    ],
)
def test_of_one_key_the_greatest_version_stays_and_of_equal_ones_the_last(
    pages: list[list[tuple[str, int, str]]], expected: tuple[int, str]
) -> None:
    built = batch(*[[record(key, version, data={"status": status}) for key, version, status in page] for page in pages])

    assert rows(built, "updated_idx", "status") == [expected]
    assert built.duplicates.tolist() == [sum(map(len, pages)) - 1]


def test_each_row_knows_its_page_and_its_position_in_it() -> None:
    built = batch([record("b"), record("c", 1)], [record("bad", data=7), record("c", 2), record("a")])

    assert [(built.place(row), built.object_place(row)) for row in range(3)] == [
        (Place(1, 2), None),
        (Place(0, 0), None),
        (Place(1, 1), None),
    ]


def test_rows_left_out_are_as_if_never_delivered() -> None:
    pages = [[record("a", 1), record("b", 1)], [record("a", 2), record("a", 3)]]

    built = batch(*pages, without=frozenset({Place(1, 1), Place(0, 1)}))

    assert rows(built, "id", "updated_idx") == [("a", 2)]
    assert built.duplicates.tolist() == [1]


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [
        pytest.param([record("a", 1), bare("a", 2)], (2, "active", 1, 1), id="object before"),
        pytest.param([bare("a", 2), record("a", 1)], (2, None, None, None), id="an older object delivered after"),
        pytest.param([record("a", 1), record("a", 2), bare("a", 3)], (3, "active", 2, 2), id="the newest of two objects"),
        pytest.param([record("a", 2), record("a", 1), bare("a", 3)], (3, "active", 2, 2), id="not one that was late"),
        pytest.param([record("a", 2), bare("a", 2)], (2, "active", 2, 2), id="an object of the same version"),
        pytest.param([bare("a", 2), record("a", 2), bare("a", 2)], (2, "active", 2, 2), id="between tombstones"),
        pytest.param([record("a", 1), record("a", 2, data=None), bare("a", 3)], (3, None, None, 2), id="a live one without"),
        pytest.param([bare("a", 1), bare("a", 3)], (3, None, None, None), id="no object at all"),
        pytest.param([record("a", 1, deleted=True), bare("a", 3)], (3, "active", 1, 1), id="a full tombstone's object"),
    ],
)
def test_a_bare_tombstone_carries_the_object_that_stood_before_it(
    delivered: list[dict[str, object]], expected: tuple[object, ...]
) -> None:
    built = batch(delivered)

    assert rows(built, "updated_idx", "status", "amount", OBJECT_VERSION) == [expected]
    assert built.has_bare_tombstones


def test_a_carried_object_remembers_where_it_came_from_and_can_be_left_out() -> None:
    built = batch([record("a", 1), record("b", 1)], [bare("a", 2)])

    emptied = without_objects(TARGET, built.part(range(1)))

    assert (built.place(0), built.object_place(0)) == (Place(1, 0), Place(0, 0))
    assert (built.place(1), built.object_place(1)) == (Place(0, 1), None)
    assert rows(emptied, "id", "updated_idx", "deleted", "status", "data", OBJECT_VERSION) == [("a", 2, True, None, None, None)]


def test_no_column_is_staged_for_carried_objects_where_no_tombstone_is_bare() -> None:
    built = batch([record("a", 1), record("a", 2, deleted=True)])

    assert not built.has_bare_tombstones
    assert built.delivered.column_names == list(TARGET.column_names)


@pytest.mark.parametrize(
    ("inserted_at", "window"),
    [
        pytest.param("2023-12-31T23:59:59.999999Z", 0, id="before the first"),
        pytest.param("2024-01-01T00:00:00Z", 0, id="start of the first"),
        pytest.param("2024-01-31T23:59:59.999999Z", 0, id="last instant of the first"),
        pytest.param("2024-02-01T00:00:00Z", 1, id="start of the second"),
        pytest.param("2024-02-29T19:00:00-05:00", 2, id="start of the third in another zone"),
        pytest.param("2031-01-01T00:00:00Z", 2, id="after the last"),
        pytest.param(None, 0, id="no time"),
    ],
)
def test_a_row_belongs_to_the_last_window_that_began_before_it(inserted_at: str | None, window: int) -> None:
    built = batch([record("a", inserted_at=inserted_at)], window_starts=STARTS)

    assert built.windows.tolist() == [window]


def test_duplicates_count_in_their_own_windows() -> None:
    times = ("2024-03-05T00:00:00Z", "2024-01-05T00:00:00Z", "2024-02-05T00:00:00Z", "2024-03-06T00:00:00Z")

    built = batch([record("a", 4 - n, inserted_at=time) for n, time in enumerate(times)], window_starts=STARTS)

    assert built.windows.tolist() == [2]
    assert built.duplicates.tolist() == [1, 1, 1]


def test_pages_without_a_row_make_a_batch_without_rows() -> None:
    built = batch([], [record("a", updated_idx="not a version")], window_starts=STARTS)

    assert len(built) == 0
    assert built.duplicates.tolist() == [0, 0, 0]
