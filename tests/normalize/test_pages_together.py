"""Several pages normalized together come to what each of them comes to by itself."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from tests.hostile.effort import EFFORT
from tests.normalize.records import collection, column, page, record, rows, with_value

DECLARED = collection(column("v", "v", "bigint"), column("status", "status"))

USUAL = record(id="usual")
OLDER = record(id="older", sync=..., external_id="tenant_2", sync_id="sync_2")
REFUSED = record(id="refused", updated_idx="x")
UNFIT = with_value(b'"no number"', id="unfit")
OBJECT = with_value(b"{}", id="object")
NAMELESS = record(id="nameless", collection_id=...)
ESCAPED = with_value(b'"\\u0000"', id="escaped")
TORN = b'{"id": "torn", "data": {"a": nan}}'
elements = st.sampled_from([USUAL, record(id="other", data=None), OLDER, REFUSED, UNFIT, OBJECT, NAMELESS, ESCAPED, TORN, b"7"])


@pytest.mark.slow
@settings(max_examples=40 * EFFORT)
@given(pages=st.lists(st.lists(elements, max_size=4).map(lambda records: page(*records)), min_size=1, max_size=4))
def test_pages_together_are_the_pages_one_after_the_other(pages: list[bytes]) -> None:
    normalizer = Normalizer(DECLARED)
    apart = [normalizer(each) for each in pages]

    together = normalizer.normalize([normalizer.parse(each) for each in pages])

    frames = [part.frame.drop(columns=ROW_NUMBER) for part in apart]
    pd.testing.assert_frame_equal(together.frame.drop(columns=ROW_NUMBER), pd.concat(frames, ignore_index=True), check_exact=True)
    assert together.rejects == tuple(reject for part in apart for reject in part.rejects)
    assert together.fetched == sum(part.fetched for part in apart)


@pytest.mark.slow
@settings(max_examples=40 * EFFORT)
@given(pages=st.lists(st.lists(elements, max_size=4).map(lambda records: page(*records)), min_size=1, max_size=4))
def test_what_is_read_afterwards_is_what_is_read_at_once(pages: list[bytes]) -> None:
    normalizer = Normalizer(DECLARED)
    at_once = normalizer.normalize([normalizer.parse(each) for each in pages])

    lazy = normalizer.normalize([normalizer.parse(each, lazily=True) for each in pages])

    assert "v" not in lazy.frame.columns
    assert len(lazy.frame) + len(lazy.rejects) == at_once.fetched
    pd.testing.assert_frame_equal(lazy.completed.frame, at_once.frame, check_exact=True)
    assert sorted(each.raw for each in lazy.completed.rejects) == sorted(each.raw for each in at_once.rejects)
    assert lazy.completed.fetched == at_once.fetched


def test_only_the_rows_that_are_wanted_are_read_afterwards() -> None:
    normalizer = Normalizer(DECLARED)
    records = page(with_value(b"1", id="a"), UNFIT, with_value(b"2", id="b"), REFUSED, with_value(b"[]", id="c"))
    lazy = normalizer.normalize([normalizer.parse(records, lazily=True)])

    read = lazy.read_declared(np.array([False, True, True, False]))

    assert rows(lazy, "id") == [("a",), ("unfit",), ("b",), ("c",)]
    assert rows(read.pages, "id", "v", ROW_NUMBER) == [("b", 2, 2)]
    assert {position: reject.record_id for position, reject in read.unfit.items()} == {1: "unfit"}


def test_fault_in_one_page_leaves_the_places_in_the_others() -> None:
    normalizer = Normalizer(DECLARED)
    pages = [page(USUAL, REFUSED), page(), page(OBJECT, record(id="last"), NAMELESS)]

    together = normalizer.normalize([normalizer.parse(each) for each in pages])

    assert together.starts == (0, 2, 2)
    assert rows(together, "id", ROW_NUMBER) == [("usual", 0), ("last", 3)]
    assert [together.raw_record(position) for position in (1, 2, 4)] == [reject.raw for reject in together.rejects]
    assert [reject.raw for reject in together.rejects] == [page(REFUSED)[1:-1], OBJECT, page(NAMELESS)[1:-1]]


def test_rows_of_several_pages_are_read_afterwards_together_and_keep_their_places() -> None:
    normalizer = Normalizer(DECLARED)
    pages = [
        page(with_value(b"1", id="a"), UNFIT),
        page(REFUSED, with_value(b"2", id="b")),
        page(with_value(b"3", id="c"), UNFIT),
    ]
    lazy = [normalizer.normalize([normalizer.parse(each, lazily=True)]) for each in pages]

    read = normalizer.complete_together(lazy, [np.array([False, True]), np.array([False]), np.array([True, True])])

    assert rows(read.pages, "id", "v", ROW_NUMBER) == [("c", 3, 1)]
    assert {number: reject.raw for number, reject in read.unfit.items()} == {0: UNFIT, 2: UNFIT}
    assert [origin.tolist() for origin in read.origins] == [[0, 2, 2], [1, 0, 1]]
