"""What goes in comes out: every column type, to the last digit and character, and the COPY bytes against Postgres' own reading."""

import itertools
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import hypothesis.strategies as st
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import sql

from sequin_pipeline.catalog import COLUMN_TYPES, Column, ColumnType, parse_path
from sequin_pipeline.normalize.value_casts import STORAGE
from sequin_pipeline.postgres import copy_binary
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.reading import query

TEXTS = [
    "plain",
    "",
    " \t\r\n\v\f\b",
    "\\N \\. \\x41 \\",
    "quote ' double \" brace {} comma , NULL",
    "e\u0301 é",
    "\u200d\u202e\ufeff\ufffe\uffff",
    "日本語 עברית 𝕏 👩\u200d👩\u200d👧 \U0010fffd",
    "\x01\x1f\x7f\x80\x9f",
    "x" * 10_000,
]
NUMERICS = [
    "0",
    "-0.00",
    "1.10",
    "123456789012345678901234567890.123456789012345678901234567890",
    "-0.000000000000000000000000000000000000000000000000000001",
    "9" * 400,
    "1e300",
    "1E-30",
]
JSON_TEXTS = [
    "null",
    "[]",
    "{}",
    '""',
    "123456789012345678901234567890.000000000000000000001",
    "1e-400",
    '{"b": 1, "a": [true, false, null, {"deep": [[[]]]}], "": " "}',
    '"\\u00e9\\ud83d\\ude00\\n\\\\\\" "',
]


class Values(ListSource):
    """One page of live records, each with the JSON text of its value at `v`."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__([])
        self._texts = texts

    def pages(self, request: ReadRequest) -> "itertools.chain[Page]":
        records = []
        for number, text in enumerate(self._texts):
            envelope = json.dumps(record(f"r{number:05}", 1, data={}))
            records.append(envelope.removesuffix("{}}") + f'{{"v": {text}}}}}')
        page = Page(f"[{','.join(records)}]".encode(), "1", datetime(2030, 1, 1, tzinfo=UTC))
        return itertools.chain([page])


def stored(url: str, column_type: ColumnType, texts: list[str], *, select: str = "v::text") -> list[object]:
    """The values as Postgres tells them, in the order given."""
    of = collection(columns=(Column("v", parse_path("v"), column_type),), table=f"demo.{column_type.split()[0].strip('[]')}")
    stream = RecordStream(live_run_config(of, full_refresh=True), Values(texts))
    run_sync(stream, Warehouse(url), run_id="run")
    return [value for (value,) in query(url, f"select {select} from {of.table} order by id limit %s", len(texts))]


def forget(url: str, column_type: ColumnType) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("truncate {}").format(sql.Identifier("demo", column_type.split()[0].strip("[]"))))


@pytest.mark.parametrize(
    ("column_type", "texts", "expected"),
    [
        pytest.param("boolean", ["true", "false", "null", '"true"'], ["true", "false", None, "true"], id="boolean"),
        pytest.param(
            "integer",
            ["2147483647", "-2147483648", "0", "1e3", "1.0", '"7"', "null"],
            ["2147483647", "-2147483648", "0", "1000", "1", "7", None],
            id="integer",
        ),
        pytest.param(
            "bigint",
            ["9223372036854775807", "-9223372036854775808", "9007199254740993", '"-9223372036854775808"', "null"],
            ["9223372036854775807", "-9223372036854775808", "9007199254740993", "-9223372036854775808", None],
            id="bigint",
        ),
        pytest.param(
            "numeric",
            NUMERICS,
            [
                "0",
                "0.00",
                "1.10",
                "123456789012345678901234567890.123456789012345678901234567890",
                "-0.000000000000000000000000000000000000000000000000000001",
                "9" * 400,
                "1" + "0" * 300,
                "0.000000000000000000000000000001",
            ],
            id="numeric",
        ),
        pytest.param(
            "date",
            ['"0001-01-01"', '"9999-12-31"', '"2000-01-01"', '"1999-12-31"', '"2024-02-29"', "null"],
            ["0001-01-01", "9999-12-31", "2000-01-01", "1999-12-31", "2024-02-29", None],
            id="date",
        ),
        pytest.param(
            "timestamptz",
            [
                '"0001-01-01T00:00:00Z"',
                '"9999-12-31T23:59:59.999999Z"',
                '"1999-12-31T23:59:59.999999Z"',
                '"1969-12-31T23:59:59.000001+00:00"',
                '"2024-02-29T12:00:00.1-0330"',
                "null",
            ],
            [
                "0001-01-01 00:00:00+00",
                "9999-12-31 23:59:59.999999+00",
                "1999-12-31 23:59:59.999999+00",
                "1969-12-31 23:59:59.000001+00",
                "2024-02-29 15:30:00.1+00",
                None,
            ],
            id="timestamptz",
        ),
        pytest.param(
            "uuid",
            ['"00000000-0000-0000-0000-000000000000"', '"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"', "null"],
            ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", None],
            id="uuid",
        ),
    ],
)
def test_the_edges_of_a_type_come_out_as_they_went_in(
    warehouse_url: str, column_type: ColumnType, texts: list[str], expected: list[str | None]
) -> None:
    assert stored(warehouse_url, column_type, texts) == expected


def test_texts_come_out_byte_for_byte(warehouse_url: str) -> None:
    found = stored(warehouse_url, "text", [json.dumps(text) for text in TEXTS], select="encode(convert_to(v, 'UTF8'), 'hex')")

    assert found == [text.encode().hex() for text in TEXTS]


def test_doubles_come_out_bit_for_bit(warehouse_url: str) -> None:
    texts = [
        "-0.0",
        "5e-324",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "0.1",
        "1e23",
        "9007199254740992",
        "1e400",
        "null",
    ]

    found = stored(warehouse_url, "double precision", texts[:-2], select="encode(float8send(v), 'hex')")

    assert found == [struct.pack(">d", float(text)).hex() for text in texts[:-2]]


def test_arrays_come_out_element_for_element(warehouse_url: str) -> None:
    arrays = [[], [None], ["NULL", "null", None], TEXTS, ["{", "}", ",", '"', "\\", "a b"], ["one"]]

    found = stored(warehouse_url, "text[]", [json.dumps(array) for array in arrays], select="to_jsonb(v)")

    assert found == arrays


def test_objects_come_out_with_equal_values_and_every_digit(warehouse_url: str) -> None:
    found = stored(warehouse_url, "jsonb", JSON_TEXTS)

    assert [exact(text) for text in found] == [None, *(exact(text) for text in JSON_TEXTS[1:])]


def exact(text: object) -> object:
    """JSON with numbers by value, whatever their digits."""
    return None if text is None else json.loads(str(text), parse_float=Decimal, parse_int=Decimal)


def storable_text(**limits: int) -> st.SearchStrategy[str]:
    """All planes, but for what Postgres' text cannot hold."""
    return st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), **limits)


finite_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | storable_text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(storable_text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001 - given UTC

DRAWN: dict[ColumnType, tuple[st.SearchStrategy[object], Callable[[object], str], str, Callable[[object], object]]] = {
    "text": (storable_text(), json.dumps, "v", lambda value: value),
    "boolean": (st.booleans(), json.dumps, "v", lambda value: value),
    "integer": (st.integers(-(2**31), 2**31 - 1), str, "v", lambda value: value),
    "bigint": (st.integers(-(2**63), 2**63 - 1), str, "v", lambda value: value),
    "numeric": (
        st.builds(
            lambda sign, whole, fraction: f"{sign}{whole}.{fraction}",
            st.sampled_from(["", "-"]),
            st.integers(0, 10**40),
            st.from_regex(r"[0-9]{1,40}", fullmatch=True),
        ),
        str,
        "v::text",
        lambda text: str(text).removeprefix("-") if Decimal(str(text)) == 0 else text,
    ),
    "double precision": (
        st.floats(allow_nan=False, allow_infinity=False),
        repr,
        "encode(float8send(v), 'hex')",
        lambda value: struct.pack(">d", value).hex(),
    ),
    "date": (st.dates(), lambda day: json.dumps(day.isoformat()), "v", lambda value: value),  # type: ignore[attr-defined]
    "timestamptz": (times, lambda time: json.dumps(time.isoformat()), "v", lambda value: value),  # type: ignore[attr-defined]
    "uuid": (st.uuids(), lambda value: json.dumps(str(value)), "v", lambda value: value),
    "text[]": (st.lists(st.none() | storable_text(max_size=12)), json.dumps, "v", lambda value: value),
    "jsonb": (finite_json, json.dumps, "v::text", lambda value: exact(json.dumps(value))),
}
"""By type: what is drawn, its JSON text, how it is read back, and as what."""


@pytest.mark.parametrize("column_type", COLUMN_TYPES)
def test_any_value_of_a_type_comes_out_as_it_went_in(warehouse_url: str, column_type: ColumnType) -> None:
    values, written, select, expected = DRAWN[column_type]
    stored(warehouse_url, column_type, [])

    @given(st.lists(values, min_size=1, max_size=40))
    @settings(max_examples=12, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(drawn: list[object]) -> None:
        forget(warehouse_url, column_type)

        found = stored(warehouse_url, column_type, [written(value) for value in drawn], select=select)

        if column_type == "jsonb":
            found = [exact(text) for text in found]
        assert found == [expected(value) for value in drawn]

    check()


def test_every_type_has_a_round_trip() -> None:
    assert set(DRAWN) == set(COLUMN_TYPES)


COPIED: list[tuple[str, pa.Array, list[str | None]]] = [
    ("text", pa.array([*TEXTS, None]), [*TEXTS, None]),
    ("boolean", pa.array([True, None, False]), ["t", None, "f"]),
    ("integer", pa.array([2**31 - 1, None, -(2**31)], pa.int32()), ["2147483647", None, "-2147483648"]),
    ("bigint", pa.array([2**63 - 1, None, -(2**63)], pa.int64()), ["9223372036854775807", None, "-9223372036854775808"]),
    (
        "double precision",
        pa.array([-0.0, None, 5e-324, 1.7976931348623157e308, 0.1]),
        ["-0", None, "5e-324", "1.7976931348623157e+308", "0.1"],
    ),
    (
        "date",
        pa.array([-719_162, None, 0, 10_957, 2_932_896], pa.int32()).cast(pa.date32()),
        ["0001-01-01", None, "1970-01-01", "2000-01-01", "9999-12-31"],
    ),
    (
        "timestamptz",
        pa.array([-62_135_596_800_000_000, None, -1, 253_402_300_799_999_999], pa.timestamp("us", "UTC")),
        ["0001-01-01 00:00:00+00", None, "1969-12-31 23:59:59.999999+00", "9999-12-31 23:59:59.999999+00"],
    ),
    (
        "uuid",
        pa.array([bytes(range(16)), None, b"\xff" * 16], pa.binary(16)),
        ["00010203-0405-0607-0809-0a0b0c0d0e0f", None, "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    ),
]


@pytest.mark.parametrize(("staging_type", "values", "texts"), [pytest.param(*case, id=case[0]) for case in COPIED])
@pytest.mark.parametrize("cut", [pytest.param(0, id="whole"), pytest.param(1, id="sliced")])
def test_the_binary_form_is_read_as_the_text_form_is(
    warehouse_url: str, staging_type: str, values: pa.Array, texts: list[str | None], cut: int
) -> None:
    values, texts = values[cut:], texts[cut:]
    numbers = pa.array(range(len(texts)), pa.int32())
    payload = copy_binary.encode(pa.table({"n": numbers, "v": values}), ["integer", staging_type])

    with psycopg.connect(warehouse_url) as connection, connection.cursor() as cursor:
        for name in ("as_binary", "as_text"):
            cursor.execute(sql.SQL("create temp table {} (n int, v {})").format(sql.Identifier(name), sql.SQL(staging_type)))
        with cursor.copy("copy as_binary from stdin (format binary)") as copy:
            copy.write(payload)
        with cursor.copy("copy as_text from stdin") as copy:
            for row in enumerate(texts):
                copy.write_row(row)
        cursor.execute("select v::text from as_binary order by n")
        found = [value for (value,) in cursor.fetchall()]
        cursor.execute("select v::text from as_text order by n")
        expected = [value for (value,) in cursor.fetchall()]

    assert found == expected
    assert len(found) == len(texts)


def test_no_rows_are_a_header_and_a_trailer() -> None:
    empty = pa.table({"a": pa.array([], pa.string()), "b": pa.array([], pa.int64())})

    assert copy_binary.encode(empty, ["text", "bigint"]) == b"PGCOPY\n\xff\r\n\x00" + bytes(8) + b"\xff\xff"


def test_staging_holds_only_types_whose_bytes_are_known(warehouse_url: str) -> None:
    known = {case[0] for case in COPIED}

    assert {storage.staging for storage in STORAGE.values()} <= known


@pytest.mark.parametrize(
    ("values", "element_type", "expected"),
    [
        pytest.param(pa.array(["a", "", 'x "y" {z}', None, "é\\"]), "text", '{a,"","x \\"y\\" {z}",NULL,"é\\\\"}', id="text"),
        pytest.param(pa.array([0, -1, 2**62, None], pa.int64()), "bigint", "{0,-1,4611686018427387904,NULL}", id="bigint"),
        pytest.param(pa.array([True, None, False]), "boolean", "{t,NULL,f}", id="boolean"),
        pytest.param(
            pa.array([bytes(range(16)), bytes(16)], pa.binary(16)),
            "uuid",
            "{00010203-0405-0607-0809-0a0b0c0d0e0f,00000000-0000-0000-0000-000000000000}",
            id="uuid",
        ),
        pytest.param(pa.array([], pa.string()), "text", "{}", id="empty"),
    ],
)
def test_postgres_reads_an_array_as_it_was(warehouse_url: str, values: pa.Array, element_type: str, expected: str) -> None:
    encoded = copy_binary.encode_array(pa.chunked_array([values]), element_type)

    with psycopg.connect(warehouse_url) as connection:
        result = connection.pgconn.exec_params(f"select $1::{element_type}[]::text".encode(), [encoded], param_formats=[1])

    assert result.get_value(0, 0) == expected.encode(), result.error_message
