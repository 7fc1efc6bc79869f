"""What a frame's column becomes in Postgres, whatever pandas and Arrow have made of its values today."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import FrameOutcome, read_frame, write_frame
from tests.support.postgres import PostgresServer

TABLE = TableName("shop", "orders")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
USE = (
    "use strings, booleans, integers, floats, dates, times with zone, decimals, uuids or lists of strings or integers, for instance by "
    "astype"
)


@pytest.fixture(scope="module")
def module_url(postgres_server: PostgresServer) -> Iterator[str]:
    """One database for all of these tests."""
    name = postgres_server.make_database()
    yield postgres_server.url(name)
    postgres_server.release(name)


@pytest.fixture
def warehouse_url(module_url: str) -> str:
    """The database, empty again: a fresh one for each row would cost more than the test."""
    execute(module_url, "drop schema if exists shop, sequin_pipeline cascade")
    execute(module_url, "drop domain if exists public.short; drop type if exists public.mood")
    return module_url


def write(warehouse_url: str, frame: pd.DataFrame, table: TableName = TABLE, **arguments: Any) -> FrameOutcome:
    return write_frame(
        Warehouse(warehouse_url), table, frame, **{"key": ("id",), "version": None, "run_id": "run-1", **arguments}
    )


def loaded(warehouse_url: str, name: str = "value", table: TableName = TABLE) -> list[object]:
    """The column as the table gives it back, by id."""
    return list(pa.array(read_frame(Warehouse(warehouse_url), table).sort_values("id")[name]).to_pylist())


def execute(warehouse_url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(warehouse_url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def arrow(values: list[object], kind: pa.DataType) -> "pd.Series[Any]":
    return series(pa.array(values, kind))


def series(values: pa.Array) -> "pd.Series[Any]":
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([values])))


def objects(*values: object) -> "pd.Series[Any]":
    return pd.Series(list(values), dtype=object)


def framed(values: "pd.Series[Any]") -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(values)), "value": values})


# By the columns that are there

DAYS: dict[str, tuple[str, "pd.Series[Any]", list[object]]] = {
    # name: type of the column that is there, what comes, what is loaded
    "objects of nulls in text": ("text", objects(None, None), [None, None]),
    "floats of nulls in text": ("text", pd.Series([np.nan, np.nan]), [None, None]),
    "floats of nulls in a list": ("text[]", pd.Series([np.nan, np.nan]), [None, None]),
    "times of nulls without zone in timestamptz": ("timestamptz", pd.Series(pd.to_datetime([None])), [None]),
    "booleans of nulls in jsonb": ("jsonb", pd.Series([None], dtype="boolean"), [None]),
    "integers that became floats": ("bigint", pd.Series([1, None, -(2.0**53)]), [1, None, -(2**53)]),
    "small integers that became floats": ("smallint", pd.Series([-32768, None]), [-32768, None]),
    "decimals that are integers": ("integer", objects(Decimal("7.00"), None), [7, None]),
    "integers in double precision": ("double precision", pd.Series([1, 2**53]), [1.0, 2.0**53]),
    "integers in numeric": ("numeric", pd.Series([2**64 - 1, 0], dtype="uint64"), ["18446744073709551615", "0"]),
    "floats in numeric": ("numeric", pd.Series([0.1, None, 1e-7]), ["0.1", None, "0.0000001"]),
    "floats in numeric(10, 2)": ("numeric(10, 2)", pd.Series([0.1, None]), ["0.10", None]),
    "texts of numbers in numeric": ("numeric", objects("1.50", "-2e3"), ["1.50", "-2000"]),
    "decimals in double precision": ("double precision", objects(Decimal("0.1"), None), [0.1, None]),
    "floats in real": ("real", pd.Series([0.5, None]), [0.5, None]),
    "64 bits in 32": ("integer", pd.Series([2**31 - 1, -(2**31)]), [2**31 - 1, -(2**31)]),
    "unsigned in 64 bits": ("bigint", pd.Series([2**63 - 1], dtype="uint64"), [2**63 - 1]),
    "days that became times": ("date", pd.Series(pd.to_datetime(["2024-05-01", None])), [date(2024, 5, 1), None]),
    "days in timestamp": ("timestamp", objects(date(2024, 5, 1), None), [datetime(2024, 5, 1), None]),  # noqa: DTZ001
    "times without zone in timestamp": (
        "timestamp",
        pd.Series(pd.to_datetime(["2024-05-01 12:00"])),
        [NOON.replace(tzinfo=None)],
    ),
    "whole seconds in timestamptz(0)": ("timestamptz(0)", pd.Series([NOON, None]), [NOON, None]),
    "categories in text": ("text", pd.Series(pd.Categorical(["a", None])), ["a", None]),
    "categories without any in text": ("text", pd.Series(pd.Categorical([None, None])), [None, None]),
    "texts in varchar": ("varchar(3)", objects("abc", "äöü"), ["abc", "äöü"]),
    "texts in an enum": ("public.mood", objects("glad", None), ["glad", None]),
    "texts in a domain": ("public.short", objects("abc", None), ["abc", None]),
    "texts in uuid": ("uuid", objects("0000000A-0000-0000-0000-00000000000B"), ["0000000a-0000-0000-0000-00000000000b"]),
    "texts in jsonb": ("jsonb", objects('{"b":1}', None), ['{"b": 1}', None]),
    "lists of nothing in text[]": ("text[]", objects([], [None], None), [[], [None], None]),
    "lists of nothing in bigint[]": ("bigint[]", objects([], [None]), [[], [None]]),
    "lists of texts in varchar[]": ("varchar[]", objects(["a", None]), [["a", None]]),
    "lists of integers in smallint[]": ("smallint[]", objects([1, None], []), [[1, None], []]),
}


@pytest.mark.parametrize(("sql_type", "values", "expected"), DAYS.values(), ids=DAYS)
def test_the_type_of_a_column_that_is_there_decides(
    warehouse_url: str, sql_type: str, values: "pd.Series[Any]", expected: list[object]
) -> None:
    execute(warehouse_url, "create type public.mood as enum ('sad', 'glad'); create domain public.short as varchar(3)")
    execute(warehouse_url, f"create schema shop; create table shop.orders (id bigint primary key, value {sql_type})")
    before = execute(
        warehouse_url, "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'shop.orders'::regclass"
    )

    first = write(warehouse_url, framed(values))
    again = write(warehouse_url, framed(values))

    assert loaded(warehouse_url) == expected
    assert (first.counts.inserted, again.counts.unchanged) == (len(values), len(values))
    assert before == execute(
        warehouse_url, "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'shop.orders'::regclass"
    )


MISFITS: dict[str, tuple[str, "pd.Series[Any]", str]] = {
    "a half in bigint": (
        "bigint",
        pd.Series([1.0, 1.5]),
        "holds 1.5 in row 1, counted from 0, a float that is no integer within its exact range: write what fits, or make the column "
        "numeric",
    ),
    "a float beyond its exact range": (
        "bigint",
        pd.Series([2.0**53 + 2]),
        "holds 9007199254740994.0 in row 0, counted from 0, a float that is no integer within its exact range: write what fits, or make "
        "the column numeric",
    ),
    "64 bits in integer": (
        "integer",
        pd.Series([2**31]),
        "holds 2147483648 in row 0, counted from 0, beyond 32 bits: write what fits, or make the column bigint or numeric",
    ),
    "unsigned in bigint": (
        "bigint",
        pd.Series([1, 2**63], dtype="uint64"),
        "holds 9223372036854775808 in row 1, counted from 0, beyond 64 bits: write what fits, or make the column numeric",
    ),
    "a large integer in double precision": (
        "double precision",
        pd.Series([2**53 + 1]),
        "holds 9007199254740993 in row 0, counted from 0, beyond the exact range of a float: make the column numeric, or write what fits",
    ),
    "a long decimal in double precision": (
        "double precision",
        objects(Decimal("0.12345678901234567890")),
        "holds '0.12345678901234567890' in row 0, counted from 0, which has more digits than a float: round it, or make the column numeric",
    ),
    "infinity in numeric": (
        "numeric",
        pd.Series([0.5, float("inf")]),
        "holds inf in row 1, counted from 0, no finite number: use floats for it, or leave it out",
    ),
    "digits in numeric(10, 2)": (
        "numeric(10,2)",
        pd.Series([0.1 + 0.2]),
        "holds '0.30000000000000004' in row 0, counted from 0, more than 2 digits behind the point: round it, or make the column numeric",
    ),
    "a text in numeric": (
        "numeric",
        objects("1,50"),
        "holds '1,50' in row 0, counted from 0, no number: write decimals or their texts",
    ),
    "a double in real": (
        "real",
        pd.Series([0.1]),
        "holds 0.1 in row 0, counted from 0, which has more digits than a real: make the column double precision",
    ),
    "integers in text": (
        "text",
        pd.Series([1]),
        'holds int64: write texts, as in astype("string"), where no zeros in front have been lost',
    ),
    "spaces beyond varchar": (
        "character varying(3)",
        objects("abc "),
        "holds 'abc ' in row 0, counted from 0, more than 3 characters: shorten it, or make the column text",
    ),
    "a text in boolean": ("boolean", objects("yes"), 'holds large_string: write booleans, as in astype("boolean")'),
    "a time in date": (
        "date",
        pd.Series(pd.to_datetime(["2024-05-01 12:00"])),
        "holds '2024-05-01 12:00:00' in row 0, counted from 0, which is no whole day: write dates, as in dt.date",
    ),
    "a zone in timestamp": (
        "timestamp without time zone",
        pd.Series([NOON]),
        'holds times with a zone, which the column drops: say in which one, as in dt.tz_convert("UTC").dt.tz_localize(None)',
    ),
    "no zone in timestamptz": (
        "timestamp with time zone",
        pd.Series(pd.to_datetime(["2024-05-01 12:00"])),
        "holds times without zone: say which with dt.tz_localize",
    ),
    "milliseconds in timestamptz(0)": (
        "timestamp(0) with time zone",
        pd.Series([NOON + timedelta(milliseconds=1)]),
        "holds '2024-05-01 12:00:00.001000+00:00' in row 0, counted from 0, more than 0 digits of a second: round it, as in dt.round",
    ),
    "no uuid": (
        "uuid",
        objects("{0000000a-0000-0000-0000-00000000000b}"),
        "holds '{0000000a-0000-0000-0000-00000000000b}' in row 0, counted from 0, no uuid as Postgres writes it: write uuids or "
        "their texts",
    ),
    "texts in bigint[]": ("bigint[]", objects(["a"]), "holds list<item: string>: write lists of integers"),
    "integers in text[]": ("text[]", objects([1]), "holds list<item: int64>: write lists of strings"),
    "64 bits in integer[]": (
        "integer[]",
        objects([], [2**31]),
        "holds '[2147483648]' in row 1, counted from 0, beyond 32 bits: write what fits, or make the column bigint[]",
    ),
    "a type of no frame": (
        "interval",
        objects("1 day"),
        "cannot be written: frames are written to no column of that type: leave it out of the frame",
    ),
}


@pytest.mark.parametrize(("sql_type", "values", "message"), MISFITS.values(), ids=MISFITS)
def test_what_a_column_that_is_there_cannot_keep_is_refused_and_nothing_is_written(
    warehouse_url: str, sql_type: str, values: "pd.Series[Any]", message: str
) -> None:
    execute(warehouse_url, f"create schema shop; create table shop.orders (id bigint primary key, value {sql_type})")

    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, framed(values))

    assert str(raised.value) == f"column 'value' of the frame for table 'shop.orders', there of type {sql_type!r}, {message}"
    assert execute(warehouse_url, "select count(*), to_regnamespace('sequin_pipeline') is null from shop.orders") == [(0, True)]


@pytest.mark.parametrize("generated", ["generated always as (1) stored", "generated always as identity"])
def test_a_column_that_postgres_fills_is_refused(warehouse_url: str, generated: str) -> None:
    execute(warehouse_url, f"create schema shop; create table shop.orders (id bigint primary key, value bigint {generated})")

    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, framed(pd.Series([1])))

    assert str(raised.value) == (
        "column 'value' of the frame for table 'shop.orders', there of type 'bigint', is filled by Postgres itself: "
        "leave it out of the frame"
    )


# Day after day

TYPED_DAYS: dict[str, tuple[list["pd.Series[Any]"], list[object]]] = {
    "null yesterday": ([pd.Series([1, None]), pd.Series([1, 2])], [1.0, 2.0]),
    "null today": ([pd.Series([1, 2]), pd.Series([1, None])], [1, None]),
    "all null today": ([objects("a"), objects(None)], [None]),
    "all null first": ([objects(None), objects("a")], ["a"]),
    "floats without a value first": ([pd.Series([np.nan]), pd.Series(["a"])], ["a"]),
    "times without a value first": ([pd.Series(pd.to_datetime([None])), pd.Series([NOON])], [NOON]),
    "no category first": ([pd.Series(pd.Categorical([None])), pd.Series(pd.Categorical(["a"]))], ["a"]),
    "empty lists today": ([objects(["a"]), objects([])], [[]]),
}


@pytest.mark.parametrize(("days", "expected"), TYPED_DAYS.values(), ids=TYPED_DAYS)
def test_a_column_is_written_each_day_whatever_its_dtype_is(
    warehouse_url: str, days: list["pd.Series[Any]"], expected: list[object]
) -> None:
    for values in days:
        write(warehouse_url, framed(values))

    assert loaded(warehouse_url) == expected


def test_a_column_without_a_value_is_told_and_comes_to_the_table_with_its_first_one(warehouse_url: str) -> None:
    first = write(warehouse_url, framed(objects(None)))

    assert first.untyped == ("value",)
    assert list(read_frame(Warehouse(warehouse_url), TABLE).columns) == ["id"]


@pytest.mark.parametrize(
    "empty",
    [
        pytest.param(pd.DataFrame({"id": [], "value": []}), id="empty lists, which pandas takes for floats"),
        pytest.param(pd.DataFrame(columns=["id", "value"]), id="no rows, which pandas takes for objects"),
        pytest.param(pd.DataFrame({"id": pd.Categorical([]), "value": []}), id="no categories"),
    ],
)
def test_an_empty_frame_without_dtypes_makes_no_wrong_table_and_fits_every_table(warehouse_url: str, empty: pd.DataFrame) -> None:
    frame = framed(pd.Series(["a"]))

    before = write(warehouse_url, empty)
    write(warehouse_url, frame)
    after = write(warehouse_url, empty)

    assert (before.rows, before.untyped) == (0, ("id", "value"))
    assert (after.rows, after.counts.fetched) == (1, 0)
    assert loaded(warehouse_url) == ["a"]


def test_a_version_may_have_become_floats(warehouse_url: str) -> None:
    write(warehouse_url, pd.DataFrame({"id": [1], "v": [2], "value": ["new"]}), version="v")

    outcome = write(warehouse_url, pd.DataFrame({"id": [1], "v": [1.0], "value": ["old"]}), version="v")

    assert outcome.counts.stale == 1
    assert loaded(warehouse_url) == ["new"]


# New columns, by every type of Arrow

ARROW_TYPES: list[tuple[pa.DataType, object, str | None]] = [
    # type, a value, the column's type in Postgres; None: refused
    (pa.bool_(), True, "boolean"),
    (pa.int8(), -128, "integer"),
    (pa.int16(), 1, "integer"),
    (pa.int32(), 1, "integer"),
    (pa.int64(), -(2**63), "bigint"),
    (pa.uint8(), 255, "integer"),
    (pa.uint16(), 65_535, "integer"),
    (pa.uint32(), 2**32 - 1, "bigint"),
    (pa.uint64(), 2**63 - 1, "bigint"),
    (pa.float16(), np.float16(1.5), "double precision"),
    (pa.float32(), 1.5, "double precision"),
    (pa.float64(), 0.1, "double precision"),
    (pa.decimal32(5, 2), Decimal("1.50"), "numeric"),
    (pa.decimal64(5, 2), Decimal("1.50"), "numeric"),
    (pa.decimal128(5, 2), Decimal("1.50"), "numeric"),
    (pa.decimal256(60, 2), Decimal("1.50"), "numeric"),
    (pa.string(), "a", "text"),
    (pa.large_string(), "a", "text"),
    (pa.string_view(), "a", "text"),
    (pa.dictionary(pa.int8(), pa.string()), "a", "text"),
    (pa.dictionary(pa.int8(), pa.int64()), 5, "bigint"),
    (pa.date32(), date(1, 1, 1), "date"),
    (pa.date64(), date(9999, 12, 31), "date"),
    (pa.timestamp("s", "UTC"), NOON, "timestamp with time zone"),
    (pa.timestamp("ms", "Asia/Tokyo"), NOON, "timestamp with time zone"),
    (pa.timestamp("us", "+02:00"), NOON, "timestamp with time zone"),
    (pa.timestamp("ns", "UTC"), NOON, "timestamp with time zone"),
    (pa.uuid(), UUID(int=5).bytes, "uuid"),
    (pa.list_(pa.string()), ["a", None], "text[]"),
    (pa.list_(pa.string(), 2), ["a", "b"], "text[]"),
    (pa.large_list(pa.large_string()), ["a"], "text[]"),
    (pa.list_view(pa.string_view()), ["a"], "text[]"),
    (pa.large_list_view(pa.dictionary(pa.int8(), pa.string())), ["a"], "text[]"),
    (pa.list_(pa.int8()), [1, None], "integer[]"),
    (pa.list_(pa.int64()), [2**62], "bigint[]"),
    (pa.large_list(pa.uint64()), [2**63 - 1], "bigint[]"),
    (pa.timestamp("us"), NOON.replace(tzinfo=None), None),
    (pa.time32("s"), time(1), None),
    (pa.time64("us"), time(1), None),
    (pa.duration("us"), timedelta(1), None),
    (pa.month_day_nano_interval(), (1, 2, 3), None),
    (pa.binary(), b"a", None),
    (pa.large_binary(), b"a", None),
    (pa.binary(2), b"ab", None),
    (pa.binary_view(), b"a", None),
    (pa.list_(pa.float64()), [1.5], None),
    (pa.list_(pa.bool_()), [True], None),
    (pa.list_(pa.list_(pa.string())), [["a"]], None),
    (pa.struct([("a", pa.int64())]), {"a": 1}, None),
    (pa.map_(pa.string(), pa.int64()), [("a", 1)], None),
    (pa.json_(), "{}", None),
]
STORED_AS_ITS_TEXT = ("numeric", "uuid")


@pytest.mark.parametrize(("number", "kind", "value", "sql_type"), [(n, *row) for n, row in enumerate(ARROW_TYPES)])
def test_every_type_of_arrow_is_taken_exactly_or_refused_by_name(
    module_url: str, number: int, kind: pa.DataType, value: Any, sql_type: str | None
) -> None:
    table = TableName("arrow", f"type_{number}")
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    array = pa.array([None, value], storage)
    frame = framed(series(pa.ExtensionArray.from_storage(kind, array) if storage != kind else array))

    if sql_type is None:
        with pytest.raises(
            TableRefused, match=r"^column 'value' of the frame for table 'arrow\.type_[0-9]+' (has the type|holds) "
        ):
            write(module_url, frame, table)
        assert execute(module_url, f"select to_regclass('{table}')") == [(None,)]
        return

    write(module_url, frame, table)

    expected = {"numeric": "1.50", "uuid": str(UUID(int=5))}.get(sql_type, value)
    assert loaded(module_url, table=table) == [None, expected]
    assert execute(module_url, f"select pg_typeof(value)::text from {table} limit 1") == [(sql_type,)]


OTHER_COLUMNS: dict[str, tuple["pd.Series[Any]", str, list[object]]] = {
    "runs": (series(pc.run_end_encode(pa.array(["a", "a"]))), "text", ["a", "a"]),
    "bytes of booleans": (
        series(pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8()))),
        "boolean",
        [True, None],
    ),
    "categories of times": (pd.Series(pd.Categorical(pd.to_datetime(["2024-05-01T12:00Z"]))), "timestamp with time zone", [NOON]),
    "uuids": (objects(UUID(int=5), None), "uuid", [str(UUID(int=5)), None]),
    "lists of numpy": (objects(np.array([1, 2])), "bigint[]", [[1, 2]]),
    "tuples": (objects(("a", None)), "text[]", [["a", None]]),
    "times of two zones": (
        objects(NOON, pd.Timestamp("2024-05-01 14:00", tz="Europe/Berlin")),
        "timestamp with time zone",
        [NOON, NOON],
    ),
    "integers with a missing one": (objects(2**53 + 1, float("nan")), "bigint", [2**53 + 1, None]),
    "decimals and integers": (objects(Decimal("1.5"), 2), "numeric", ["1.5", "2.0"]),
    "chunks": (
        pd.concat([arrow(["a"], pa.string()), arrow(["b"], pa.string())], ignore_index=True),
        "text",
        ["a", "b"],
    ),
}


@pytest.mark.parametrize(("values", "sql_type", "expected"), OTHER_COLUMNS.values(), ids=OTHER_COLUMNS)
def test_other_forms_of_these_types_are_taken(
    warehouse_url: str, values: "pd.Series[Any]", sql_type: str, expected: list[object]
) -> None:
    write(warehouse_url, framed(values))

    assert loaded(warehouse_url) == expected
    assert execute(warehouse_url, "select pg_typeof(value)::text from shop.orders limit 1") == [(sql_type,)]


# What is refused by name

SEVERAL = "holds values of several types ({}): give it one"
NANOSECONDS = 'holds nanoseconds below a microsecond in row 1, counted from 0: say how to round, as in dt.floor("us")'
YEARS = "holds a time outside the years 1 to 9999 in row 0, counted from 0, which nobody could load again: leave it out, or write a text"

REFUSED: dict[str, tuple[Callable[[], "pd.Series[Any]"], str]] = {
    "nanoseconds": (
        lambda: pd.Series(pd.to_datetime(["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123456789Z"], format="ISO8601")),
        NANOSECONDS,
    ),
    "nanoseconds of arrow": (lambda: arrow([1_000, 1], pa.timestamp("ns", "UTC")), NANOSECONDS),
    "nanoseconds of objects": (lambda: objects(NOON, pd.Timestamp("2024-01-01T00:00:00.000000001Z")), NANOSECONDS),
    "an infinite decimal": (
        lambda: objects(Decimal(1), Decimal("-Infinity")),
        "holds the decimal -Infinity in row 1, counted from 0: use floats for it, or leave it out",
    ),
    "a signalling NaN": (
        lambda: objects(Decimal("sNaN")),
        "holds a signalling NaN, which cannot be compared: use None in its place",
    ),
    "77 digits": (
        lambda: objects(Decimal("1" * 77)),
        "holds values that do not go together (Arrow says 'Decimal precision out of range [1, 76]: 77'): give it one type",
    ),
    "integers beyond 64 bits": (
        lambda: objects(1, 2**63),
        "holds integers such as 9223372036854775808, beyond the 64 bits of a bigint: use decimals, or strings",
    ),
    "integers below 64 bits": (
        lambda: objects(-(2**63) - 1),
        "holds integers such as -9223372036854775809, beyond the 64 bits of a bigint: use decimals, or strings",
    ),
    "unsigned integers beyond 63 bits": (
        lambda: pd.Series([2**63], dtype="uint64"),
        "holds 9223372036854775808 in row 0, counted from 0, beyond 64 bits: write what fits, or make the column numeric",
    ),
    "lists of integers beyond 64 bits": (
        lambda: objects([2**64]),
        "holds lists of integers such as 18446744073709551616, beyond the 64 bits of a bigint: use decimals, or strings",
    ),
    "complex numbers": (
        lambda: pd.Series([1j]),
        f"has the type complex128, which no column type of Postgres stands for here: {USE}",
    ),
    "complex objects": (
        lambda: objects(1j),
        f"holds values of the class complex, for which no column type of Postgres stands here: {USE}",
    ),
    "fractions": (
        lambda: objects(Fraction(1, 3)),
        f"holds values of the class Fraction, for which no column type of Postgres stands here: {USE}",
    ),
    "sets": (lambda: objects({1}), f"holds values of the class set, for which no column type of Postgres stands here: {USE}"),
    "periods": (
        lambda: pd.Series(pd.period_range("2024", periods=1, freq="D")),
        f"has the type extension<pandas.period<ArrowPeriodType>>, which no column type of Postgres stands for here: {USE}",
    ),
    "sparse": (
        lambda: pd.Series(pd.arrays.SparseArray([1])),
        f"has the type Sparse[int64, 0], which no column type of Postgres stands for here: {USE}",
    ),
    "a lone surrogate": (
        lambda: objects("a", "b\ud800"),
        "holds a text with a lone surrogate in row 1, counted from 0, which UTF-8 cannot say: replace or drop that character",
    ),
    "a lone surrogate in a list": (
        lambda: objects(["a", "\udfff"]),
        "holds a text with a lone surrogate in row 0, counted from 0, which UTF-8 cannot say: replace or drop that character",
    ),
    "a lone surrogate of a dtype of strings": (
        lambda: pd.Series(["\ud800"], dtype="string[python]"),
        "holds a text with a lone surrogate in row 0, counted from 0, which UTF-8 cannot say: replace or drop that character",
    ),
    "the year 10000 in seconds": (lambda: arrow([253_402_300_800], pa.timestamp("s", "UTC")), YEARS),
    "the year 10000 in days": (lambda: series(pa.array([2_932_897], pa.int32()).cast(pa.date32())), YEARS),
    "the year 0 in microseconds": (lambda: arrow([-62_135_596_800_000_001], pa.timestamp("us", "UTC")), YEARS),
    "a date64 within a day": (
        lambda: series(pa.array([1], pa.int64()).view(pa.date64())),
        'holds a date64 that is no whole day in row 0, counted from 0: use times, as in astype(pd.ArrowDtype(pa.timestamp("ms", "UTC")))',
    ),
    "a date, then a time": (lambda: objects(NOON.date(), NOON), SEVERAL.format("dates, times")),
    "a float, then a flag": (lambda: objects(1.5, True), SEVERAL.format("booleans, floats")),
    "bytes, then a text": (lambda: objects(b"a", "a"), SEVERAL.format("bytes, strings")),
    "a time without zone, then one with": (
        lambda: objects(NOON.replace(tzinfo=None), NOON),
        "holds times with and without zone: say one for all of them, as in pd.to_datetime(…, utc=True)",
    ),
    "lists of a number and a flag": (
        lambda: objects([1], [True]),
        "holds lists of values of several types (booleans, integers): give it one",
    ),
    "lists without elements": (
        lambda: objects([], []),
        "holds only lists without elements, which tell no type: create the column first, or say the type of the lists",
    ),
    "a date, then a time, as categories": (lambda: objects(NOON.date(), NOON).astype("category"), SEVERAL.format("dates, times")),
    "a float, then a flag, as categories": (
        lambda: pd.Series(pd.Categorical.from_codes([0, 1], pd.Index([1.5, "x"], dtype=object))),
        SEVERAL.format("floats, strings"),
    ),
    "a time without zone, then one with, as categories": (
        lambda: objects(NOON.replace(tzinfo=None), NOON).astype("category"),
        "holds times with and without zone: say one for all of them, as in pd.to_datetime(…, utc=True)",
    ),
    "lists of lists": (lambda: objects([["a"]]), "holds lists of lists: flatten them"),
    "lists of lists with a lone surrogate": (lambda: objects([["\ud800"]]), "holds lists of lists: flatten them"),
    "arrays of two dimensions": (lambda: objects(np.array([[1]])), "holds arrays of several dimensions: flatten them"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_column_keeps_is_refused_by_its_name(
    warehouse_url: str, make: Callable[[], "pd.Series[Any]"], message: str
) -> None:
    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, framed(make()))

    assert str(raised.value) == f"column 'value' of the frame for table 'shop.orders' {message}"
    assert execute(warehouse_url, "select to_regclass('shop.orders')") == [(None,)]


UNTOLD = "is part of the key, for which its values cannot be told apart: name columns of texts, numbers or times"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param(objects(["a"], ["b"]), f"column 'id' of the frame for table 'shop.orders' {UNTOLD}", id="lists of texts"),
        pytest.param(objects([1], [2]), f"column 'id' of the frame for table 'shop.orders' {UNTOLD}", id="lists of integers"),
        pytest.param(
            arrow([float("nan"), 1.0], pa.float64()),
            "1 rows of the frame for table 'shop.orders' have no value in the key (id): a row without a key cannot be found again; "
            "fill it or drop those rows",
            id="NaN",
        ),
        pytest.param(
            pd.Series([0.0, -0.0]),
            "the frame for table 'shop.orders' holds the key ('0.0',) more than once, and no version says which is newest: "
            "drop the duplicates, or name a version column with the metadata sequin_pipeline/version",
            id="two zeros",
        ),
        pytest.param(
            objects(*pd.to_datetime(["2024-01-01T12:00Z", "2024-01-01T14:00+02:00"], utc=True)),
            "the frame for table 'shop.orders' holds the key ('2024-01-01 12:00:00+00:00',) more than once, and no version says which "
            "is newest: drop the duplicates, or name a version column with the metadata sequin_pipeline/version",
            id="one moment twice",
        ),
    ],
)
def test_a_key_that_cannot_be_told_apart_is_refused(warehouse_url: str, keys: "pd.Series[Any]", message: str) -> None:
    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, pd.DataFrame({"id": keys, "value": [1, 2]}))

    assert str(raised.value) == message
    assert execute(warehouse_url, "select to_regclass('shop.orders')") == [(None,)]


def test_keys_of_many_digits_are_kept_apart(warehouse_url: str) -> None:
    """Python's decimals compute with 28 digits: two rows became one."""
    keys = ["123456789012345678901234567890123451", "123456789012345678901234567890123452", "1234567890123456789012345.6789"]
    execute(warehouse_url, "create schema shop; create table shop.orders (id numeric primary key, value bigint)")

    write(warehouse_url, pd.DataFrame({"id": objects(*map(Decimal, keys)), "value": [1, 2, 3]}))
    write(warehouse_url, pd.DataFrame({"id": objects(Decimal(keys[1]), Decimal("-0.00")), "value": [4, 5]}))

    stored = execute(warehouse_url, "select id::text, value from shop.orders order by value")
    assert stored == [(keys[0], 1), (keys[2], 3), (keys[1], 4), ("0", 5)]


@pytest.mark.parametrize(
    ("key", "frame_keys", "expected"),
    [
        pytest.param("numeric", objects("1.0", "1.00"), "('1',)", id="spellings of a number"),
        pytest.param(
            "uuid", objects(str(UUID(int=10)), str(UUID(int=10)).upper()), f"('{UUID(int=10)}',)", id="spellings of a uuid"
        ),
        pytest.param("date", pd.Series(pd.to_datetime(["2024-01-01"] * 2)), "('2024-01-01',)", id="days"),
    ],
)
def test_keys_that_are_one_to_postgres_are_one_key(
    warehouse_url: str, key: str, frame_keys: "pd.Series[Any]", expected: str
) -> None:
    execute(warehouse_url, f"create schema shop; create table shop.orders (id {key} primary key, value bigint)")

    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, pd.DataFrame({"id": frame_keys, "value": [1, 2]}))

    assert str(raised.value) == (
        f"the frame for table 'shop.orders' holds the key {expected} more than once, and no version says which is newest: "
        "drop the duplicates, or name a version column with the metadata sequin_pipeline/version"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(
            ["id", "a", "a"],
            "the frame for table 'shop.orders' has more than one column 'a': rename one of them, or drop it as in "
            "frame.loc[:, ~frame.columns.duplicated()]",
            id="twice",
        ),
        pytest.param(
            ["id", "id", "a"],
            "the frame for table 'shop.orders' has more than one column 'id': rename one of them, or drop it as in "
            "frame.loc[:, ~frame.columns.duplicated()]",
            id="key twice",
        ),
        pytest.param(
            ["id", "a" * 64, "b"],
            f"the frame for table 'shop.orders' has a column named {'a' * 64!r}, which is 64 bytes long and Postgres would cut to 63: "
            "rename it",
            id="64 bytes",
        ),
        pytest.param(
            ["id" * 32, "a", "b"],
            f"the frame for table 'shop.orders' has a column named {'id' * 32!r}, which is 64 bytes long and Postgres would cut to 63: "
            "rename it",
            id="key of 64 bytes",
        ),
        pytest.param(
            ["id", "ä" * 32, "b"],
            f"the frame for table 'shop.orders' has a column named '{'ä' * 32}', which is 64 bytes long and Postgres would cut to 63: "
            "rename it",
            id="32 characters of two bytes",
        ),
        pytest.param(
            ["id", "a" * 63 + "b", "a" * 63 + "c"],
            f"the frame for table 'shop.orders' has a column named '{'a' * 63}b', which is 64 bytes long and Postgres would cut to 63: "
            "rename it",
            id="two that would be one",
        ),
        pytest.param(
            ["id", "a\x00", "b"],
            "the frame for table 'shop.orders' has a column named 'a\\x00', with a NUL that Postgres cannot hold: rename it",
            id="NUL",
        ),
        pytest.param(
            ["id", "ctid", "b"],
            "the frame for table 'shop.orders' has a column named 'ctid', which is taken: rename it",
            id="a column of every table",
        ),
    ],
)
def test_names_that_no_column_can_have_are_refused(warehouse_url: str, names: list[str], message: str) -> None:
    frame = pd.DataFrame([[1, 2, 3]])
    frame.columns = pd.Index(names)

    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, frame, key=(names[0],))

    assert str(raised.value) == message
    assert execute(warehouse_url, "select to_regclass('shop.orders')") == [(None,)]


def test_a_key_in_the_index_is_told(warehouse_url: str) -> None:
    with pytest.raises(TableRefused) as raised:
        write(warehouse_url, framed(pd.Series([1])).set_index("id"))

    assert str(raised.value) == (
        "the frame for table 'shop.orders' has no column 'id', which its metadata names as key: its columns are 'value'; "
        "it is in the index: call reset_index()"
    )


def test_a_name_of_63_bytes_is_kept(warehouse_url: str) -> None:
    name = "ä" * 31 + "b"

    write(warehouse_url, pd.DataFrame({name: [1], "value": ["a"]}), key=(name,))
    again = write(warehouse_url, pd.DataFrame({name: [1], "value": ["b"]}), key=(name,))

    assert (again.counts.updated, list(read_frame(Warehouse(warehouse_url), TABLE).columns)) == (1, [name, "value"])


@pytest.mark.parametrize("name", ["share %", "%s", "%(id)s", '"quoted"', "two words", "läßt", "select"])
def test_any_other_name_is_kept(warehouse_url: str, name: str) -> None:
    frame = pd.DataFrame({"id": [1], name: ["a"]})

    first, again = (write(warehouse_url, frame, key=("id", name)) for _ in range(2))

    assert (first.counts.inserted, again.counts.unchanged) == (1, 1)
    assert read_frame(Warehouse(warehouse_url), TABLE).to_dict("records") == [{"id": 1, name: "a"}]


def test_first_frames_of_different_dtypes_that_race_end_in_one_table(warehouse_url: str) -> None:
    """Whichever comes first makes the column; the others are written as it takes them."""
    frames = [
        pd.DataFrame({"id": [number], "value": pd.Series([1], dtype=dtype)})
        for number, dtype in enumerate(["int32", "int64", "float64", "uint8"])
    ]

    with ThreadPoolExecutor(len(frames)) as pool:
        outcomes = list(pool.map(lambda frame: write(warehouse_url, frame), frames))

    assert [outcome.counts.inserted for outcome in outcomes] == [1, 1, 1, 1]
    assert loaded(warehouse_url) == [1, 1, 1, 1]


# Loading again


@pytest.mark.parametrize(
    ("kind", "value"),
    [("date", "infinity"), ("timestamptz", "10000-01-01"), ("timestamp", "0001-01-01 BC"), ("date", "10000-01-01")],
)
def test_a_time_that_python_does_not_know_is_refused_by_its_column(warehouse_url: str, kind: str, value: str) -> None:
    execute(warehouse_url, f"create schema shop; create table shop.orders as select 1 as id, '{value}'::{kind} as value")

    with pytest.raises(TableRefused) as raised:
        read_frame(Warehouse(warehouse_url), TABLE)

    assert str(raised.value) == (
        "column 'value' of table 'shop.orders' holds a time outside the years 1 to 9999, for which Python has no value: "
        "correct it there, or leave the column out with the input's metadata `columns`"
    )
    assert read_frame(Warehouse(warehouse_url), TABLE, columns=["id"])["id"].tolist() == [1]


def test_an_array_of_several_dimensions_is_refused_by_its_column(warehouse_url: str) -> None:
    execute(warehouse_url, "create schema shop; create table shop.orders as select 1 as id, '{{1},{2}}'::bigint[] as value")

    with pytest.raises(TableRefused) as raised:
        read_frame(Warehouse(warehouse_url), TABLE)

    assert str(raised.value) == (
        "column 'value' holds arrays of several dimensions, which frames do not: leave it out with the input's metadata `columns`"
    )


# Anything at all

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
COLUMNS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), TEXTS),
    (pa.bool_(), st.booleans()),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us", "UTC"), st.datetimes().map(lambda moment: moment.replace(tzinfo=UTC))),
    (pa.list_(pa.string()), st.lists(st.none() | TEXTS, max_size=3)),
    (pa.list_(pa.int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3)),
]
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in COLUMNS)), min_size=1, max_size=5)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS, decimals=st.lists(st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=6), min_size=5, max_size=5)
)
def test_whatever_is_written_is_loaded(module_url: str, rows: list[tuple[Any, ...]], decimals: list[Decimal | None]) -> None:
    """Values, digits and nulls; as Arrow's own dtypes and as what pandas makes of them."""
    table = TableName("anything", "at_all")
    arrays = {f"c{n}": pa.array([row[n] for row in rows], kind) for n, (kind, _) in enumerate(COLUMNS)}
    frame = pa.table(arrays).to_pandas(types_mapper=pd.ArrowDtype)
    frame["amount"] = pd.Series(decimals[: len(rows)], dtype=object)
    frame["id"] = range(len(rows))
    execute(module_url, "drop schema if exists anything, sequin_pipeline cascade")

    write(module_url, frame, table)
    found = read_frame(Warehouse(module_url), table).sort_values("id")

    for name, array in arrays.items():
        assert pa.array(found[name]).to_pylist() == array.to_pylist()
    if "amount" in found:
        assert [None if text is None else Decimal(text) for text in pa.array(found["amount"]).to_pylist()] == decimals[
            : len(rows)
        ]
