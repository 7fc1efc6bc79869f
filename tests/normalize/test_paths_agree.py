"""Whole pages and single records are read by different code: whatever they are given, they must agree."""

import gc
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequin_pipeline.catalog import COLUMN_TYPES, Column
from sequin_pipeline.errors import SourceFault
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.normalize.page_reader import PageReader, ParsedPage
from tests.hostile.effort import EFFORT
from tests.normalize.records import collection, column, page, record, text, with_value

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"empty_as_null": True},
    {"is_required": True},
    {"assume_utc": True},
    {"rounds": True},
    {"rejects_nulls": True},
    {"time_format": "epoch_seconds"},
    {"time_format": "epoch_seconds", "rounds": True},
    {"time_format": "epoch_milliseconds"},
)

digits = st.text("0123456789", min_size=1, max_size=22)
decimals = st.one_of(
    st.integers().map(str),
    st.integers(-(2**64), 2**64).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-", "+"]), digits, digits, st.integers(-30, 30)),
    st.sampled_from(
        ["0", "-0", "-0.0", "1e3", "1E+3", ".5", "5.", "1e400", "1e-400", "1_0", " 1", "NaN", "007", "9007199254740993"]
    ),
)
times = st.builds(
    "{}{}{}{}".format,
    st.one_of(st.dates().map(str), st.sampled_from(["0000-01-01", "2024-02-30", "10000-01-01", "2024-1-1"])),
    st.sampled_from(["T", " ", "t", ""]),
    st.one_of(
        st.times().map(str), st.sampled_from(["12", "12:30", "24:00:00", "23:59:60", "12:00:00.1234567", "12:00:00.1234560", ""])
    ),
    st.sampled_from(["Z", "z", "", "+00", "+0000", "+00:00", "-00:00", "+14:00", "-2359", "+24:00", "+05:60", " Z"]),
)
strings = st.one_of(
    st.text(max_size=12),
    decimals,
    times,
    st.dates().map(str),
    st.sampled_from(["0000-01-01", "0001-01-01", "9999-12-31", "2023-02-29", "2024-01-01 "]),
    st.uuids().map(str),
    st.sampled_from(["", "true", "false", "null", "\\u0000", "a\x00b", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "😀"]),
)
numbers = decimals.filter(lambda literal: _is_json(literal))
scalars = st.one_of(strings.map(json.dumps), strings.map(lambda each: json.dumps(each, ensure_ascii=False)), numbers)
values = st.one_of(
    scalars,
    st.sampled_from(
        ["true", "false", "null", "{}", "[]", '{"a": 1, "a": 2}', '"\\ud800"', '"\\ud83d\\ude00"', '"\\\\u0000"', "[null]"]
    ),
    st.lists(scalars | st.just("null"), max_size=3).map(lambda items: f"[{', '.join(items)}]"),
).map(lambda literal: literal.encode("utf-8", "replace"))


def _is_json(literal: str) -> bool:
    try:
        json.loads(literal)
    except ValueError:
        return False
    return "N" not in literal


class NothingIsCertain:
    """A reader of pages that leaves every record to the exact path."""

    def __init__(self, pages: PageReader) -> None:
        self._pages = pages

    def parse(self, records: bytes, *, lazily: bool) -> ParsedPage:
        parsed = self._pages.parse(records, lazily=lazily)
        return replace(parsed, doubtful=frozenset(range(len(parsed))))

    def read(self, pages: Sequence[ParsedPage]) -> tuple[pa.Table, frozenset[int]]:
        return self._pages.read(pages)


def assert_paths_agree(columns: tuple[Column, ...], records: bytes) -> None:
    by_page = Normalizer(collection(*columns))
    by_record = Normalizer(collection(*columns))
    by_record._reader = NothingIsCertain(by_record._reader)  # type: ignore[assignment]  # reads as the one within

    usual, exact = by_page(records), by_record(records)

    pd.testing.assert_frame_equal(usual.frame, exact.frame, check_exact=True)
    assert usual.rejects == exact.rejects
    afterwards = by_page.normalize([by_page.parse(records, lazily=True)]).completed
    pd.testing.assert_frame_equal(afterwards.frame, exact.frame, check_exact=True)
    assert set(afterwards.rejects) == set(exact.rejects)


@pytest.mark.slow
@pytest.mark.parametrize("type_", COLUMN_TYPES)
@settings(max_examples=20 * EFFORT)
@given(options=st.sampled_from(OPTIONS), literals=st.lists(values, min_size=1, max_size=6))
def test_a_value_comes_out_the_same_alone_and_in_a_page(type_, options, literals):
    records = page(*(with_value(literal, id=f"rec_{at}") for at, literal in enumerate(literals)))

    assert_paths_agree((column("v", "v", type_, **options),), records)


@pytest.mark.slow
@pytest.mark.parametrize("type_", COLUMN_TYPES)
@settings(max_examples=5 * EFFORT)
@given(
    options=st.sampled_from(OPTIONS),
    usual=st.sampled_from([b'"7"', b"7", b'"2024-01-31T12:00:00Z"', b'"2024-01-31"', b"true", b"null"]),
    odd=st.dictionaries(st.integers(0, 299), values, min_size=1, max_size=4),
)
def test_a_value_comes_out_the_same_among_many(type_, options, usual, odd):
    records = page(*(with_value(odd.get(at, usual), id=f"rec_{at}") for at in range(300)))

    assert_paths_agree((column("v", "v", type_, **options),), records)


members = st.sampled_from([*record(), "collection", "sync_id", "created_at", "extra"])
oddities = st.one_of(
    values,
    st.sampled_from(
        [
            b'{"id": "s", "external_id": null}',
            b'{"external_id": "t"}',
            b'"stripe:subscription"',
            b'"2024-01-01T00:00:00+02:00"',
            b"9223372036854775808",
            b'{"v": "\\u0000"}',
            b'{"v": "\\ud800"}',
            b'"\xff"',
            b"{ }",
            b"tru",
        ]
    ),
)


@pytest.mark.slow
@settings(max_examples=40 * EFFORT)
@given(changes=st.lists(st.dictionaries(members, st.none() | oddities, max_size=3), min_size=1, max_size=4))
def test_a_record_comes_out_the_same_alone_and_in_a_page(changes):
    columns = (
        column("v", "v", is_required=True),
        column("plan", "record.sync.metadata.plan"),
        column("extra", "record.extra", "jsonb"),
    )
    records = page(*(_changed(change, at) for at, change in enumerate(changes)))

    assert_paths_agree(columns, records)


def _changed(change: dict[str, bytes | None], at: int) -> bytes:
    """The record with members replaced by JSON texts, or left out (None)."""
    texts = {name: text(value) for name, value in record(id=f"rec_{at}", data={"v": "x"}).items()} | change
    return b"{" + b", ".join(b'"%b": %b' % (name.encode(), value) for name, value in texts.items() if value is not None) + b"}"


paths = st.sampled_from(
    ["a", "a.b", "a[0]", "a[1].b", "a.b[0]", "['a'].c", "record.data.a", "record.sync", "record.sync.id", "['q\"q']"]
)
trees = st.recursive(
    st.sampled_from([None, 1, "x", True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", 'q"q']), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=40 * EFFORT)
@given(
    wanted=st.lists(st.tuples(paths, st.sampled_from(["text", "integer", "jsonb"])), min_size=1, max_size=5),
    objects=st.lists(st.dictionaries(st.sampled_from(["a", "b", 'q"q']), trees, max_size=3), min_size=1, max_size=4),
)
def test_a_path_finds_the_same_alone_and_in_a_page(wanted, objects):
    columns = tuple(column(f"c{at}", path, type_) for at, (path, type_) in enumerate(wanted))
    records = page(*(record(id=f"rec_{at}", data=each) for at, each in enumerate(objects)))

    assert_paths_agree(columns, records)


@pytest.mark.slow
@settings(max_examples=75 * EFFORT)
@given(cuts=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 3), st.binary(max_size=4)), max_size=3))
def test_whatever_a_page_holds_is_a_frame_with_rejects_or_a_fault_of_the_source(cuts):
    records = page(record(data={"v": "x"}), record(id="rec_2", data={"v": "😀\\u0041"}))
    for start, length, inserted in cuts:
        records = records[:start] + inserted + records[start + length :]

    try:
        normalized = Normalizer(collection(column("v", "v")))(records)
    except SourceFault:
        return

    assert normalized.fetched == len(normalized.frame) + len(normalized.rejects)


@given(records=st.binary(max_size=30))
def test_bytes_that_are_no_array_are_a_fault_of_the_source(records):
    with pytest.raises(SourceFault, match="should be a JSON array of records"):
        Normalizer(collection())(b"{" + records)


def test_page_gives_the_garbage_collector_nothing_to_look_at() -> None:
    declared = collection(
        column("plan", "items.data[0].price.id"), column("second", "items.data[1]", "jsonb"), column("tags", "tags", "jsonb")
    )
    item = {"price": {"id": "p"}}
    records = page(*(record(data={"items": {"data": [item, item, 3]}, "tags": [1]}) for _ in range(5_000)))
    reader = PageReader(declared)
    reader.read([reader.parse(records)])
    gc.collect()
    before = sum(generation["collections"] for generation in gc.get_stats())

    table, doubtful = reader.read([reader.parse(records)])

    # A container for each record would have it run seven times or more: each 700 new ones set it off.
    assert sum(generation["collections"] for generation in gc.get_stats()) - before <= 1
    assert (doubtful, table.num_rows) == (frozenset(), 5_000)


def test_elements_beside_the_wanted_one_are_of_any_type() -> None:
    declared = collection(column("second", "list[1].name"))
    firsts: tuple[object, ...] = (1, None, {"name": 5}, [[]])
    records = page(*(record(data={"list": [first, {"name": "b"}, 7]}) for first in firsts))

    reader = PageReader(declared)

    table, doubtful = reader.read([reader.parse(records)])

    assert (doubtful, table.column("second").to_pylist()) == (frozenset(), ["b"] * 4)


@pytest.mark.parametrize(
    ("index", "expected"),
    [pytest.param(1_000, "b", id="near"), pytest.param(1_001, "b", id="far"), pytest.param(999_999_999, "", id="farthest")],
)
def test_index_takes_no_memory_for_elements_that_no_record_has(index: int, expected: str) -> None:
    declared = collection(column("far", f"list[{index}].name"))
    elements = [*([None] * min(index, 1_001)), {"name": "b"}]
    records = page(record(id="rec_0", data={"list": elements}), record(id="rec_1", data={"list": []}))
    tracemalloc.start()

    normalized = Normalizer(declared)(records)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (normalized.frame["far"].fillna("").to_list(), len(normalized.rejects)) == ([expected, ""], 0)
    assert peak_bytes < 16 * 2**20
