"""The cast table, row by row: what each type takes, as what, and what it refuses, saying what it found."""

from datetime import UTC, date, datetime

import pytest

from tests.normalize.records import column, normalize, record, rows, with_value

EPOCH = {"time_format": "epoch_seconds"}
MILLISECONDS = {"time_format": "epoch_milliseconds"}
ROUNDS = {"rounds": True}
NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
A_UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

TAKEN = {
    "text takes a string": ("text", {}, '"abc"', "abc"),
    "text takes the empty string": ("text", {}, '""', ""),
    "text takes an escaped pair of surrogates": ("text", {}, r'"\ud83d\ude00"', "😀"),
    "text takes a backslash before u0000": ("text", {}, r'"\\u0000"', r"\u0000"),
    "text takes a number as its literal": ("text", {}, "1.10", "1.10"),
    "text takes an exponent as its literal": ("text", {}, "1E+3", "1E+3"),
    "text takes an integer as its literal": ("text", {}, "632910392", "632910392"),
    "text takes minus zero as its literal": ("text", {}, "-0", "-0"),
    "text takes 30 digits as their literal": ("text", {}, "123456789012345678901234567890", "123456789012345678901234567890"),
    "text takes true as its literal": ("text", {}, "true", "true"),
    "text takes null": ("text", {}, "null", None),
    "text takes the empty string as null where told": ("text", {"empty_as_null": True}, '""', None),
    "boolean takes true": ("boolean", {}, "true", True),
    "boolean takes false": ("boolean", {}, "false", False),
    "boolean takes the string true": ("boolean", {}, '"true"', True),
    "boolean takes the string false": ("boolean", {}, '"false"', False),
    "boolean takes the empty string as null where told": ("boolean", {"empty_as_null": True}, '""', None),
    "integer takes its least": ("integer", {}, "-2147483648", -2147483648),
    "integer takes its greatest": ("integer", {}, "2147483647", 2147483647),
    "integer takes a fraction of zero": ("integer", {}, "1.0", 1),
    "integer takes an exponent": ("integer", {}, "1e3", 1000),
    "integer takes a negative exponent": ("integer", {}, "1200e-2", 12),
    "integer takes minus zero": ("integer", {}, "-0", 0),
    "integer takes a string": ("integer", {}, '"42"', 42),
    "integer takes a string with a fraction of zero": ("integer", {}, '"-1.0"', -1),
    "integer takes a string with leading zeros": ("integer", {}, '"007"', 7),
    "integer takes zero with any exponent": ("integer", {}, "0e999999999", 0),
    "bigint takes its least": ("bigint", {}, "-9223372036854775808", -9223372036854775808),
    "bigint takes its greatest": ("bigint", {}, "9223372036854775807", 9223372036854775807),
    "bigint takes what a double does not hold": ("bigint", {}, "9007199254740993.0", 9007199254740993),
    "bigint takes a string": ("bigint", {}, '"9223372036854775807"', 9223372036854775807),
    "numeric takes an integer": ("numeric", {}, "12", "12"),
    "numeric keeps a last zero": ("numeric", {}, "1.10", "1.10"),
    "numeric keeps 30 digits": ("numeric", {}, "0.123456789012345678901234567891", "0.123456789012345678901234567891"),
    "numeric takes a string": ("numeric", {}, '"-12.50"', "-12.50"),
    "numeric takes a sign and an exponent": ("numeric", {}, '"+1E+3"', "+1E+3"),
    "numeric takes a string without whole part": ("numeric", {}, '".5"', ".5"),
    "numeric takes what a double cannot": ("numeric", {}, "1e400", "1e400"),
    "double precision takes an integer": ("double precision", {}, "3", 3.0),
    "double precision takes the nearest double": ("double precision", {}, "0.1", 0.1),
    "double precision takes a fraction beyond its digits": ("double precision", {}, "0.1000000000000000055511151231257827", 0.1),
    "double precision takes 2 to the 53": ("double precision", {}, "9007199254740992", 9007199254740992.0),
    "double precision takes a big even integer": ("double precision", {}, "9007199254740994", 9007199254740994.0),
    "double precision takes its greatest": ("double precision", {}, "1.7976931348623157e308", 1.7976931348623157e308),
    "double precision takes its least": ("double precision", {}, "5e-324", 5e-324),
    "double precision takes a string": ("double precision", {}, '"-2.5"', -2.5),
    "date takes a date": ("date", {}, '"2024-02-29"', date(2024, 2, 29)),
    "date takes the first day": ("date", {}, '"0001-01-01"', date(1, 1, 1)),
    "date takes the last day": ("date", {}, '"9999-12-31"', date(9999, 12, 31)),
    "timestamptz takes Z": ("timestamptz", {}, '"2024-01-31T12:00:00Z"', NOON),
    "timestamptz takes small letters": ("timestamptz", {}, '"2024-01-31t12:00:00z"', NOON),
    "timestamptz takes a space": ("timestamptz", {}, '"2024-01-31 12:00:00Z"', NOON),
    "timestamptz takes a zone with a colon": ("timestamptz", {}, '"2024-01-31T14:00:00+02:00"', NOON),
    "timestamptz takes a zone without a colon": ("timestamptz", {}, '"2024-01-31T12:00:00.000+0000"', NOON),
    "timestamptz takes a zone of hours": ("timestamptz", {}, '"2024-01-31T07:00:00-05"', NOON),
    "timestamptz takes a zone to the minute": ("timestamptz", {}, '"2024-01-31T17:45:00+05:45"', NOON),
    "timestamptz takes hours and minutes": ("timestamptz", {}, '"2024-01-31T12:00Z"', NOON),
    "timestamptz takes microseconds": ("timestamptz", {}, '"2024-01-31T12:00:00.123456Z"', NOON.replace(microsecond=123456)),
    "timestamptz takes zeros behind microseconds": (
        "timestamptz",
        {},
        '"2024-01-31T12:00:00.1234560Z"',
        NOON.replace(microsecond=123456),
    ),
    "timestamptz rounds where told": ("timestamptz", ROUNDS, '"2024-01-31T12:00:00.1234567Z"', NOON.replace(microsecond=123457)),
    "timestamptz rounds a half to even": (
        "timestamptz",
        ROUNDS,
        '"2024-01-31T12:00:00.1234565Z"',
        NOON.replace(microsecond=123456),
    ),
    "timestamptz rounds into the next second": ("timestamptz", ROUNDS, '"2024-01-31T11:59:59.9999999Z"', NOON),
    "timestamptz assumes UTC where told": ("timestamptz", {"assume_utc": True}, '"2024-01-31T12:00:00"', NOON),
    "timestamptz takes its first instant": ("timestamptz", {}, '"0001-01-01T00:00:00Z"', datetime(1, 1, 1, tzinfo=UTC)),
    "timestamptz takes its last instant": (
        "timestamptz",
        {},
        '"9999-12-31T23:59:59.999999Z"',
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ),
    "epoch seconds take a number": ("timestamptz", EPOCH, "1706702400", NOON),
    "epoch seconds take a string": ("timestamptz", EPOCH, '"1706702400"', NOON),
    "epoch seconds take microseconds": ("timestamptz", EPOCH, "1706702400.000001", NOON.replace(microsecond=1)),
    "epoch seconds take what a double does not hold": (
        "timestamptz",
        EPOCH,
        "253402300799.999999",
        datetime.max.replace(tzinfo=UTC),
    ),
    "epoch seconds take an exponent": ("timestamptz", EPOCH, "1.7067024e9", NOON),
    "epoch seconds take the time before": ("timestamptz", EPOCH, "-0.5", datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)),
    "epoch seconds round where told": ("timestamptz", EPOCH | ROUNDS, "1706702400.0000015", NOON.replace(microsecond=2)),
    "epoch milliseconds take a number": ("timestamptz", MILLISECONDS, "1706702400001", NOON.replace(microsecond=1000)),
    "epoch milliseconds take microseconds": ("timestamptz", MILLISECONDS, '"1706702400000.001"', NOON.replace(microsecond=1)),
    "uuid takes the canonical form": ("uuid", {}, f'"{A_UUID}"', A_UUID),
    "uuid takes capitals as Postgres writes them": ("uuid", {}, f'"{A_UUID.upper()}"', A_UUID),
    "text[] takes strings and nulls": ("text[]", {}, '["a", null, ""]', ["a", None, ""]),
    "text[] takes an empty array": ("text[]", {}, "[]", []),
    "text[] takes null": ("text[]", {}, "null", None),
    "text[] without nulls takes strings": ("text[]", {"rejects_nulls": True}, '["a", "null"]', ["a", "null"]),
    "text[] without nulls takes an empty array": ("text[]", {"rejects_nulls": True}, "[]", []),
    "text[] without nulls takes null": ("text[]", {"rejects_nulls": True}, "null", None),
    "jsonb takes an object as it was written": ("jsonb", {}, '{"b":1.10, "a":[1e400]}', '{"b":1.10, "a":[1e400]}'),
    "jsonb takes a string": ("jsonb", {}, r'"\u00e9"', r'"\u00e9"'),
    "jsonb takes the empty string": ("jsonb", {}, '""', '""'),
    "jsonb takes the empty string as null where told": ("jsonb", {"empty_as_null": True}, '""', None),
    "jsonb takes null as null": ("jsonb", {}, "null", None),
}


@pytest.mark.parametrize(("type_", "options", "literal", "expected"), TAKEN.values(), ids=TAKEN)
def test_a_type_takes(type_, options, literal, expected):
    normalized = normalize(with_value(literal.encode()), columns=(column("v", "v", type_, **options),))

    assert normalized.rejects == ()
    assert rows(normalized, "v") == [(expected,)]


WHOLE = "a whole number"
INTEGER_RANGE = "a whole number from -2147483648 to 2147483647"
BIGINT_RANGE = "a whole number from -9223372036854775808 to 9223372036854775807"
DECIMAL = "a number or a decimal string"
DAY = "a date as YYYY-MM-DD"
DAY_RANGE = "a date that exists, in the years 0001 to 9999"
ISO = "an ISO time as 2024-01-31T12:00:00Z"
ZONE = "an ISO time with a zone (or say `assume_zone: UTC` where the source means UTC)"
CLOCK = "an ISO time from 00:00:00 to 23:59:59 with a zone of less than 24 hours"
YEARS = "a time in the years 0001 to 9999, in UTC"
SIX = "at most 6 digits after the point"
CANONICAL = "a UUID as 8-4-4-4-12 hexadecimal digits"
NO_NULLS = "an array without nulls (the column says `nulls: reject`)"
NOT_EMPTY = "something other than an empty string (or say `empty_as_null: true`)"

REFUSED = {
    "text refuses an object": (
        "text",
        {},
        '{"a": 1}',
        "the object '{\"a\": 1}'",
        "a string, number or boolean (or declare it as jsonb)",
    ),
    "text refuses an array": ("text", {}, "[1]", "the array '[1]'", "a string, number or boolean (or declare it as jsonb)"),
    "boolean refuses a number": ("boolean", {}, "1", "the number '1'", "true or false"),
    "boolean refuses capitals": ("boolean", {}, '"True"', "the string 'True'", "true or false"),
    "boolean refuses the empty string": ("boolean", {}, '""', "the string ''", NOT_EMPTY),
    "integer refuses a fraction": ("integer", {}, "1.5", "the number '1.5'", WHOLE),
    "integer refuses nearly one": ("integer", {}, "0.99999999999999999999", "the number '0.99999999999999999999'", WHOLE),
    "integer refuses more than its range": ("integer", {}, "2147483648", "the number '2147483648'", INTEGER_RANGE),
    "integer refuses less than its range": ("integer", {}, "-2147483649", "the number '-2147483649'", INTEGER_RANGE),
    "integer refuses a boolean": ("integer", {}, "true", "the boolean 'true'", DECIMAL),
    "integer refuses a space": ("integer", {}, '" 42"', "the string ' 42'", DECIMAL),
    "integer refuses an underscore": ("integer", {}, '"1_000"', "the string '1_000'", DECIMAL),
    "integer refuses digits of another script": ("integer", {}, '"٤٢"', "the string '٤٢'", DECIMAL),
    "integer refuses the empty string": ("integer", {}, '""', "the string ''", NOT_EMPTY),
    "integer refuses a huge exponent": (
        "integer",
        {},
        "1e999999999999999999999",
        "the number '1e999999999999999999999'",
        "a number of at most 20 digits before the point",
    ),
    "integer refuses a tiny exponent": ("integer", {}, "1e-999999999999", "the number '1e-999999999999'", WHOLE),
    "bigint refuses more than its range": ("bigint", {}, "9223372036854775808", "the number '9223372036854775808'", BIGINT_RANGE),
    "numeric refuses a word": ("numeric", {}, '"NaN"', "the string 'NaN'", DECIMAL),
    "numeric refuses a comma": ("numeric", {}, '"1,5"', "the string '1,5'", DECIMAL),
    "numeric refuses a boolean": ("numeric", {}, "false", "the boolean 'false'", DECIMAL),
    "numeric refuses the empty string": ("numeric", {}, '""', "the string ''", NOT_EMPTY),
    "double precision refuses an overflow": (
        "double precision",
        {},
        "1e309",
        "the number '1e309'",
        "a number up to 1.7976931348623157e308, either sign",
    ),
    "double precision refuses 2 to the 53 and one": (
        "double precision",
        {},
        "9007199254740993",
        "the number '9007199254740993'",
        "an integer that a double can hold, as all up to 2^53 are",
    ),
    "double precision refuses infinity": ("double precision", {}, '"Infinity"', "the string 'Infinity'", DECIMAL),
    "date refuses a day that is not": ("date", {}, '"2023-02-29"', "the string '2023-02-29'", DAY_RANGE),
    "date refuses the year 0": ("date", {}, '"0000-01-01"', "the string '0000-01-01'", DAY_RANGE),
    "date refuses a time": ("date", {}, '"2024-01-01T00:00:00Z"', "the string '2024-01-01T00:00:00Z'", DAY),
    "date refuses a short month": ("date", {}, '"2024-1-01"', "the string '2024-1-01'", DAY),
    "date refuses a number": ("date", {}, "20240101", "the number '20240101'", "a date as the string YYYY-MM-DD"),
    "timestamptz refuses a time without zone": (
        "timestamptz",
        {},
        '"2024-01-31T12:00:00"',
        "the string '2024-01-31T12:00:00'",
        ZONE,
    ),
    "timestamptz refuses a date": ("timestamptz", {"assume_utc": True}, '"2024-01-31"', "the string '2024-01-31'", ISO),
    "timestamptz refuses a leap second": (
        "timestamptz",
        {},
        '"2016-12-31T23:59:60Z"',
        "the string '2016-12-31T23:59:60Z'",
        CLOCK,
    ),
    "timestamptz refuses hour 24": ("timestamptz", {}, '"2024-01-31T24:00:00Z"', "the string '2024-01-31T24:00:00Z'", CLOCK),
    "timestamptz refuses a zone of 24 hours": (
        "timestamptz",
        {},
        '"2024-01-31T12:00:00+24:00"',
        "the string '2024-01-31T12:00:00+24:00'",
        CLOCK,
    ),
    "timestamptz refuses nanoseconds": (
        "timestamptz",
        {},
        '"2024-01-31T12:00:00.1234567Z"',
        "the string '2024-01-31T12:00:00.1234567Z'",
        SIX,
    ),
    "timestamptz refuses what is before the year 1 in UTC": (
        "timestamptz",
        {},
        '"0001-01-01T00:00:00+00:01"',
        "the string '0001-01-01T00:00:00+00:01'",
        YEARS,
    ),
    "timestamptz refuses what is after the year 9999 in UTC": (
        "timestamptz",
        {},
        '"9999-12-31T23:59:59-00:01"',
        "the string '9999-12-31T23:59:59-00:01'",
        YEARS,
    ),
    "timestamptz refuses a number": (
        "timestamptz",
        {},
        "1706702400",
        "the number '1706702400'",
        "an ISO time as a string (or say `format: epoch_seconds` or `epoch_milliseconds`)",
    ),
    "epoch seconds refuse nanoseconds": ("timestamptz", EPOCH, "1.0000001", "the number '1.0000001'", SIX),
    "epoch seconds refuse milliseconds by their size": (
        "timestamptz",
        EPOCH,
        "1706702400000",
        "the number '1706702400000'",
        YEARS,
    ),
    "epoch seconds refuse a time": ("timestamptz", EPOCH, '"2024-01-31T12:00:00Z"', "the string '2024-01-31T12:00:00Z'", DECIMAL),
    "epoch milliseconds refuse nanoseconds": (
        "timestamptz",
        MILLISECONDS,
        "1.0001",
        "the number '1.0001'",
        "at most 3 digits after the point",
    ),
    "uuid refuses braces": ("uuid", {}, f'"{{{A_UUID}}}"', f"the string '{{{A_UUID}}}'", CANONICAL),
    "uuid refuses missing hyphens": (
        "uuid",
        {},
        '"a0eebc999c0b4ef8bb6d6bb9bd380a11"',
        "the string 'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
        CANONICAL,
    ),
    "text[] refuses a number among strings": (
        "text[]",
        {},
        '["a", 1]',
        "the array '[\"a\", 1]'",
        "an array of strings and nulls only (or declare it as jsonb)",
    ),
    "text[] refuses a string": ("text[]", {}, '"a,b"', "the string 'a,b'", "an array of strings and nulls"),
    "text[] without nulls refuses one that is alone": (
        "text[]",
        {"rejects_nulls": True},
        "[null]",
        "the array '[null]'",
        NO_NULLS,
    ),
    "text[] without nulls refuses one among strings": (
        "text[]",
        {"rejects_nulls": True},
        '["a", null, ""]',
        'the array \'["a", null, ""]\'',
        NO_NULLS,
    ),
    "text[] without nulls refuses two": ("text[]", {"rejects_nulls": True}, "[null,null]", "the array '[null,null]'", NO_NULLS),
    "text[] refuses the empty string": ("text[]", {}, '""', "the string ''", NOT_EMPTY),
    "a long value is cut in the reason": ("integer", {}, f'"{"x" * 200}"', f"the string '{'x' * 79}…", DECIMAL),
}


@pytest.mark.parametrize(("type_", "options", "literal", "found", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_type_refuses(type_, options, literal, found, wanted):
    raw = with_value(literal.encode())

    normalized = normalize(raw, columns=(column("v", "v", type_, **options),))

    assert len(normalized.frame) == 0
    [reject] = normalized.rejects
    assert (reject.record_id, reject.raw, reject.reject_class) == ("rec_1", raw, "value")
    assert reject.reason == (
        f"column 'v' (path $.v, {type_}) found {found}, where {wanted} was expected: "
        "fix the value at the provider or the column's declaration"
    )


def test_a_required_column_refuses_an_object_without_it_but_not_a_record_without_object():
    columns = (column("status", "status", is_required=True),)

    normalized = normalize(
        record(id="missing", data={}),
        record(id="null", data={"status": None}),
        record(id="no object", data=None),
        record(id="bare", deleted=True, data={}),
        record(id="there", data={"status": "active"}),
        columns=columns,
    )

    reason = (
        "column 'status' (path $.status, text) found null, where a value (the column is required) was expected: "
        "fix the value at the provider or the column's declaration"
    )
    assert [(reject.record_id, reject.reason, reject.missing) for reject in normalized.rejects] == [
        ("missing", reason, ("status",)),
        ("null", reason, ("status",)),
    ]
    assert normalized.frame["id"].tolist() == ["no object", "bare", "there"]


def test_every_misfit_of_a_record_is_named_in_its_one_reject():
    columns = (column("a", "a", "integer"), column("b", "b", "boolean"), column("c", "c"))

    normalized = normalize(record(data={"a": "x", "b": "y", "c": "z"}), columns=columns)

    assert [reject.reason for reject in normalized.rejects] == [
        "column 'a' (path $.a, integer) found the string 'x', where a number or a decimal string was expected: "
        "fix the value at the provider or the column's declaration; "
        "column 'b' (path $.b, boolean) found the string 'y', where true or false was expected: "
        "fix the value at the provider or the column's declaration"
    ]


def test_a_refill_nulls_what_does_not_fit_and_keeps_the_row():
    columns = (column("a", "a", "integer"), column("c", "c"))

    normalized = normalize(
        record(data={"a": "x", "c": "z"}), record(id="rec_2", data={"a": 2}), columns=columns, nulls_unfit=True
    )

    assert rows(normalized, "id", "a", "c", "#position") == [("rec_1", None, "z", 0), ("rec_2", 2, None, 1)]
    assert [(reject.record_id, reject.reject_class) for reject in normalized.rejects] == [("rec_1", "value")]
