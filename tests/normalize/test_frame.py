"""The frame as a whole: columns, types, order, and the hash of what is written."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.normalize.normalizer import MAX_PAGE_BYTES, Normalizer
from tests.normalize.records import collection, column, normalize, page, record, rows, text

COLUMNS = (
    column("a_text", "a"),
    column("a_boolean", "b", "boolean"),
    column("an_integer", "c[0]", "integer"),
    column("a_bigint", "c[1].d", "bigint"),
    column("a_numeric", "e", "numeric"),
    column("a_double", "f", "double precision"),
    column("a_date", "g", "date"),
    column("a_time", "h", "timestamptz"),
    column("a_uuid", "i", "uuid"),
    column("texts", "j", "text[]"),
    column("an_object", "k", "jsonb"),
    column("metadata", "record.sync.metadata", "jsonb"),
)

DTYPES = {
    "id": pa.string(),
    "upstream_id": pa.string(),
    "internal_id": pa.string(),
    "sync_id": pa.string(),
    "updated_idx": pa.int64(),
    "deleted": pa.bool_(),
    "record_inserted_at": pa.timestamp("us", "UTC"),
    "upstream_created_at": pa.timestamp("us", "UTC"),
    "upstream_updated_at": pa.timestamp("us", "UTC"),
    "a_text": pa.string(),
    "a_boolean": pa.bool_(),
    "an_integer": pa.int32(),
    "a_bigint": pa.int64(),
    "a_numeric": pa.string(),
    "a_double": pa.float64(),
    "a_date": pa.date32(),
    "a_time": pa.timestamp("us", "UTC"),
    "a_uuid": pa.string(),
    "texts": pa.list_(pa.string()),
    "an_object": pa.string(),
    "metadata": pa.string(),
    "data": pa.string(),
    "content_hash": pa.binary(16),
    "#position": pa.int32(),
}

FULL = {
    "a": "x",
    "b": True,
    "c": [1],
    "e": 1.5,
    "f": 0.5,
    "g": "2024-01-31",
    "h": "2024-01-31T00:00:00Z",
    "i": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "j": ["p", None],
    "k": {"l": 1},
}


def test_a_page_becomes_this_frame():
    normalized = normalize(
        record(data=FULL),
        record(id="rec_2", updated_idx=8, deleted=True, inserted_at="2024-03-02T00:00:00+01:00", data=None),
        columns=COLUMNS,
    )

    expected = pd.DataFrame(
        {
            "id": ["rec_1", "rec_2"],
            "upstream_id": ["sub_1", "sub_1"],
            "internal_id": ["tenant_1", "tenant_1"],
            "sync_id": ["sync_1", "sync_1"],
            "updated_idx": [2745327036, 8],
            "deleted": [False, True],
            "record_inserted_at": pd.to_datetime(["2024-03-01T12:00:00.123456Z", "2024-03-01T23:00:00Z"], format="ISO8601"),
            "upstream_created_at": pd.to_datetime(["2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]),
            "upstream_updated_at": [None, None],
            "a_text": ["x", None],
            "a_boolean": [True, None],
            "an_integer": [1, None],
            "a_bigint": [None, None],
            "a_numeric": ["1.5", None],
            "a_double": [0.5, None],
            "a_date": [pd.Timestamp("2024-01-31").date(), None],
            "a_time": [pd.Timestamp("2024-01-31T00:00:00Z"), None],
            "a_uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None],
            "texts": [["p", None], None],
            "an_object": ['{"l": 1}', None],
            "metadata": ['{"plan": "pro"}', '{"plan": "pro"}'],
            "data": [text(FULL).decode(), None],
            "#position": [0, 1],
        }
    ).astype({name: pd.ArrowDtype(dtype) for name, dtype in DTYPES.items() if name != "content_hash"})
    pd.testing.assert_frame_equal(normalized.frame.drop(columns="content_hash"), expected, check_index_type="exact")
    assert normalized.rejects == ()


PAGES = {
    "empty": (),
    "of rejects only": (b"5",),
    "usual": (record(data=FULL),),
    "unusual": (record(data=FULL | {"c": ["1"], "e": "1"}),),
    "mixed": (record(data=FULL), b"5", record(data=FULL | {"a": 1})),
}


@pytest.mark.parametrize("records", PAGES.values(), ids=PAGES)
def test_every_page_has_the_same_columns_types_and_index(records):
    frame = normalize(*records, columns=COLUMNS).frame

    assert {name: dtype.pyarrow_dtype for name, dtype in frame.dtypes.items()} == DTYPES
    assert list(frame.columns) == list(DTYPES)
    assert frame.index.equals(pd.RangeIndex(len(frame)))
    assert type(frame.index) is pd.RangeIndex


def test_rows_stay_in_the_order_of_the_page_whichever_path_read_them():
    normalized = normalize(
        record(id="a", data={"v": "1"}),
        record(id="b", data={"v": 1.0}),
        record(id="c", data={"v": "x"}),
        record(id="d", data={"v": 4}),
        record(id="e", data={"v": 5.0}),
        columns=(column("v", "v", "bigint"),),
    )

    assert rows(normalized, "id", "v", "#position") == [("a", 1, 0), ("b", 1, 1), ("d", 4, 3), ("e", 5, 4)]


def test_data_is_kept_as_it_was_received():
    raw = text(record(data="@")).replace(b'"@"', '{ "b":1.10,\n"a" : "\\u00e9é" }'.encode())

    normalized = normalize(raw)

    assert rows(normalized, "data") == [('{ "b":1.10,\n"a" : "\\u00e9é" }',)]


def test_a_page_may_be_spread_over_lines():
    raw = b" [\n " + text(record()) + b" ,\n " + text(record(id="rec_2")) + b"\n] "

    normalized = Normalizer(collection())(raw)

    assert rows(normalized, "id") == [("rec_1",), ("rec_2",)]


NO_ARRAYS = {
    "nothing": (b"", "it is not enclosed in []"),
    "an object": (b"{}", "it is not enclosed in []"),
    "a cut array": (b'[{"id": "a"}', "it is not enclosed in []"),
    "a cut record": (b'[{"id": "a"]', "brackets do not match"),
    "two arrays": (b"[] []", "the outermost bracket closes before the end"),
    "a last comma": (b"[{},]", "a comma has nothing beside it"),
}


@pytest.mark.parametrize(("records", "fault"), NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_a_page_that_is_no_array_is_a_fault_of_the_source(records, fault):
    with pytest.raises(SourceFault) as caught:
        Normalizer(collection())(records)

    assert str(caught.value) == (
        f"a page of collection 'stripe/subscription' should be a JSON array of records, but {fault}: look at what the source answers"
    )


def test_a_page_that_no_frame_can_hold_is_a_fault_of_the_source():
    class Huge(bytes):
        def __len__(self):
            return MAX_PAGE_BYTES + 1

    with pytest.raises(
        SourceFault, match="has 268435457 bytes, and at most 268435456 were expected: ask for fewer records a page"
    ):
        Normalizer(collection())(Huge())


HASHED = (column("a", "a"), column("b", "b"), column("n", "n", "double precision"), column("t", "t", "text[]"))


def hash_of(*columns, **overrides):
    [(value,)] = rows(normalize(record(**overrides), columns=columns or HASHED), "content_hash")
    return value.hex()


def test_the_hash_is_the_same_on_every_machine_and_for_ever():
    assert hash_of() == "49352acdc4b1851b671fa59d1208e076"
    assert hash_of(data={"a": "x", "n": 1.5, "t": ["p", None]}) == "bcd5c13294571af9f094a339909fe07a"
    assert hash_of(deleted=True, data=None) == "272452c45528f7fd492a41d6be075908"


@pytest.mark.parametrize(
    ("overrides", "stored"),
    [
        ({}, "fe7e405148892ce65b1494d4d825fb4f"),
        ({"data": {"a": "x", "n": 1.5, "t": ["p", None]}}, "9de6b01e09e0b0794514cb830cc7247d"),
        ({"deleted": True, "data": None}, "203c7c0193cb406ba202f6d8c55067ef"),
    ],
)
def test_the_hash_that_earlier_builds_have_stored_is_still_known(overrides, stored):
    normalizer = Normalizer(collection(*HASHED))
    frame = normalizer(page(record(**overrides))).frame

    hashes = normalizer.earlier_hashes(pa.Table.from_pandas(frame))

    assert [value.hex() for value in hashes.to_pylist()] == [stored]


DIFFERENT = {
    "null and empty": ({"data": None}, {"data": {}}),
    "a text and the next one": ({"data": {"a": "x", "b": ""}}, {"data": {"a": "", "b": "x"}}),
    "an empty array and null": ({"data": {"t": []}}, {"data": {"t": None}}),
    "an array of null and of the empty string": ({"data": {"t": [None]}}, {"data": {"t": [""]}}),
    "zero and null": ({"data": {"n": 0}}, {"data": {"n": None}}),
    "the version": ({"updated_idx": 1}, {"updated_idx": 2}),
    "the tombstone": ({"deleted": True}, {"deleted": False}),
    "the tenant absent and empty": ({"sync": {"id": "s", "external_id": None}}, {"sync": {"id": "s", "external_id": ""}}),
    "where one text ends": ({"id": "ab", "upstream_id": "c"}, {"id": "a", "upstream_id": "bc"}),
    "the time in the stream": ({"inserted_at": "2024-01-01T00:00:00Z"}, {"inserted_at": "2024-01-01T00:00:00.000001Z"}),
}


@pytest.mark.parametrize(("first", "second"), DIFFERENT.values(), ids=DIFFERENT)
def test_the_hash_tells_apart(first, second):
    assert hash_of(**first) != hash_of(**second)


TAKEN = {"a": "x", "b": "x"}

REDECLARED = {
    "another path": column("a", "b"),
    "another type": column("a", "a", "jsonb"),
    "another name": column("c", "a"),
    "another option": column("a", "a", empty_as_null=True),
    "no nulls in arrays": column("a", "a", rejects_nulls=True),
    "required": column("a", "a", is_required=True),
}


@pytest.mark.parametrize("changed", REDECLARED.values(), ids=REDECLARED)
def test_the_hash_changes_with_the_declaration(changed):
    assert hash_of(column("a", "a"), data=TAKEN) != hash_of(changed, data=TAKEN)


def test_the_hash_changes_with_the_type_of_data():
    of = collection()

    hashes = {kind: rows(Normalizer(replace(of, data_type=kind))(page(record())), "content_hash") for kind in ("jsonb", "json")}

    assert hashes["jsonb"] != hashes["json"]


def test_a_row_that_does_not_fit_has_no_hash_by_which_it_would_be_known():
    normalized = normalize(record(data={"a": []}), record(id="fits"), columns=(column("a", "a"),), nulls_unfit=True)

    assert [value is None for (value,) in rows(normalized, "content_hash")] == [True, False]


def test_the_hash_leaves_out_what_is_not_written():
    elsewhere, alone = normalize(b"5", record(extra=1, provider="x")), normalize(record())

    assert rows(elsewhere, "content_hash") == rows(alone, "content_hash")
