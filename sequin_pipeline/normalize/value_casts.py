"""This is the cast table: how a JSON value becomes a value of a column's type, or why it does not.

One row per type: what the frame holds, what staging holds, how staging becomes the target's type. The casts are exact: a value is
never changed, truncated, rounded or nulled in silence. They take one value at a time; column_casts.py does the same for whole
columns and must agree with this module on everything that it does not hand back.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from sequin_pipeline.catalog import Column, ColumnType
from sequin_pipeline.records import json_text
from sequin_pipeline.records.json_text import Kind, kind_of
from sequin_pipeline.records.literals import (
    DECIMAL,
    InvalidLiteral,
    ZoneMissing,
    epoch_microseconds,
    iso_days,
    iso_microseconds,
    nearest_double,
    scaled_integer,
)


@dataclass(frozen=True)
class Storage:
    """This value says how a type travels: `arrow` in the frame (as pandas ArrowDtype), `staging` as the type of the staging column.

    `cast` is the type that a surviving row's value is cast to (None: staging already has the target's type).
    """

    arrow: pa.DataType
    staging: str
    cast: str | None = None


STORAGE: Mapping[ColumnType, Storage] = {
    "text": Storage(pa.string(), "text"),
    "boolean": Storage(pa.bool_(), "boolean"),
    "integer": Storage(pa.int32(), "integer"),
    "bigint": Storage(pa.int64(), "bigint"),
    "numeric": Storage(pa.string(), "text", "numeric"),
    "double precision": Storage(pa.float64(), "double precision"),
    "date": Storage(pa.date32(), "date"),
    "timestamptz": Storage(pa.timestamp("us", "UTC"), "timestamptz"),
    "uuid": Storage(pa.string(), "text", "uuid"),
    "text[]": Storage(pa.list_(pa.string()), "text", "text[]"),
    "jsonb": Storage(pa.string(), "text", "jsonb"),
}

CANONICAL_UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

INTEGER_BITS: Mapping[ColumnType, int] = {"integer": 32, "bigint": 64}

Value = str | bool | int | float | list[str | None] | None
"""This is what a cast gives: dates as days and times as microseconds since 1970, in UTC."""


@dataclass(frozen=True)
class Token:
    """A token is one JSON value other than null: strings decoded, everything else as the very characters of the page."""

    kind: Kind
    text: str


def cast(column: Column, raw: bytes) -> Value:
    """Returns the value that the frame holds for `raw`, the text of one JSON value in UTF-8 without surrounding space.

    Raises InvalidLiteral, whose message says what the column would have taken.
    """
    kind = kind_of(raw)
    if kind == "null":
        return None
    found = json_text.find_unstorable(raw)
    if found is not None:
        raise InvalidLiteral(f"what Postgres can hold, which {found} is not")
    if column.type == "jsonb" and not (column.empty_as_null and raw == b'""'):
        return raw.decode()
    return cast_token(column, Token(kind, msgspec.json.decode(raw, type=str) if kind == "string" else raw.decode()))


def cast_token(column: Column, token: Token) -> Value:
    """Does as `cast`, for a value without NUL or half a surrogate pair, of a column that is not jsonb."""
    if token.kind == "string" and token.text == "":
        if column.empty_as_null:
            return None
        if column.type != "text":
            raise InvalidLiteral("something other than an empty string (or say `empty_as_null: true`)")
    return _CASTS[column.type](column, token)


def _text(column: Column, token: Token) -> Value:
    if token.kind in ("array", "object"):
        raise InvalidLiteral("a string, number or boolean (or declare it as jsonb)")
    return token.text


def _boolean(column: Column, token: Token) -> Value:
    if token.kind in ("boolean", "string") and token.text in ("true", "false"):
        return token.text == "true"
    raise InvalidLiteral("true or false")


def _decimal(token: Token) -> str:
    if token.kind not in ("number", "string") or DECIMAL.fullmatch(token.text) is None:
        raise InvalidLiteral("a number or a decimal string")
    return token.text


def _integer(column: Column, token: Token) -> Value:
    value = scaled_integer(_decimal(token), 0)
    limit = 2 ** (INTEGER_BITS[column.type] - 1)
    if not -limit <= value < limit:
        raise InvalidLiteral(f"a whole number from {-limit} to {limit - 1}")
    return value


def _numeric(column: Column, token: Token) -> Value:
    return _decimal(token)


def _double(column: Column, token: Token) -> Value:
    return nearest_double(_decimal(token))


def _date(column: Column, token: Token) -> Value:
    if token.kind != "string":
        raise InvalidLiteral("a date as the string YYYY-MM-DD")
    return iso_days(token.text)


EPOCH_PLACES = {"epoch_seconds": 6, "epoch_milliseconds": 3}
"""This many digits behind the point still fit into whole microseconds."""


def _timestamptz(column: Column, token: Token) -> Value:
    if column.time_format != "iso":
        return epoch_microseconds(_decimal(token), EPOCH_PLACES[column.time_format], rounds=column.rounds)
    if token.kind != "string":
        raise InvalidLiteral("an ISO time as a string (or say `format: epoch_seconds` or `epoch_milliseconds`)")
    try:
        return iso_microseconds(token.text, assume_utc=column.assume_utc, rounds=column.rounds)
    except ZoneMissing as missing:
        raise InvalidLiteral(f"{missing} (or say `assume_zone: UTC` where the source means UTC)") from missing


_UUID = re.compile(CANONICAL_UUID)


def _uuid(column: Column, token: Token) -> Value:
    if token.kind != "string" or _UUID.fullmatch(token.text) is None:
        raise InvalidLiteral("a UUID as 8-4-4-4-12 hexadecimal digits")
    # Postgres writes every UUID in lower case; the same here makes equal values hash alike.
    return token.text.lower()


def _text_array(column: Column, token: Token) -> Value:
    if token.kind != "array":
        raise InvalidLiteral("an array of strings and nulls")
    try:
        elements = msgspec.json.decode(token.text, type=list[str | None])
    except msgspec.ValidationError as error:
        raise InvalidLiteral("an array of strings and nulls only (or declare it as jsonb)") from error
    if column.rejects_nulls and None in elements:
        raise InvalidLiteral("an array without nulls (the column says `nulls: reject`)")
    return elements


_CASTS: Mapping[ColumnType, Callable[[Column, Token], Value]] = {
    "text": _text,
    "boolean": _boolean,
    "integer": _integer,
    "bigint": _integer,
    "numeric": _numeric,
    "double precision": _double,
    "date": _date,
    "timestamptz": _timestamptz,
    "uuid": _uuid,
    "text[]": _text_array,
}
