"""This module says how each type of Postgres takes the values of a frame's column: all of them exactly, or the column is refused.

The array comes from frame_columns.py; what leaves here is what staging holds. A value fits where the table gives back the same one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.normalize.value_casts import CANONICAL_UUID
from sequin_pipeline.records.literals import DECIMAL
from sequin_pipeline.table.frame_columns import Misfit, at, below_a_microsecond, no_type, shown
from sequin_pipeline.table.introspect import IntrospectedColumn
from sequin_pipeline.table.type_limits import last_place
from sequin_pipeline.table.unmanaged import UTC_WITHOUT_ZONE

EXACT_FLOAT = 2**53
"""Up to here every integer is a float of its own; beyond, a float may stand for its neighbours."""

YEAR_1_SECONDS = -62_135_596_800
YEAR_10000_SECONDS = 253_402_300_800
"""Python, and so whoever loads the table, knows the years 1 to 9999."""
DAY_SECONDS = 86_400
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

Take = Callable[[pa.Array], pa.Array]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class FrameType:
    """This value is a type of Postgres as frames are written to it.

    `take` raises Misfit, `staging` and `cast` are those of TargetColumn. `is_key`: values that are equal are so in staging too.
    """

    take: Take = field(repr=False)
    staging: str
    cast: str | None = None
    is_key: bool = True


def new_type(values: pa.Array) -> str | None:
    """Returns the type for a new column; None where the frame tells none and brings no value. Raises Misfit."""
    kind = values.type
    for is_kind, name in _NEW_TYPES:
        if is_kind(kind):
            return name
    if values.null_count == len(values):
        return None
    if pa.types.is_timestamp(kind):
        raise Misfit("holds times without zone", "say which with dt.tz_localize")
    if kind == pa.list_(pa.null()):
        raise Misfit(
            "holds only lists without elements, which tell no type", "create the column first, or say the type of the lists"
        )
    raise no_type(kind)


def frame_type(name: str) -> FrameType:
    """Returns the frame's type for a name as `new_type` gives it. Raises KeyError."""
    return _TYPES[_LONG_NAMES.get(name, name)]


def found_type(column: IntrospectedColumn) -> FrameType | None:
    """Returns the type of a column that is there; None for a type that frames are not written to."""
    if column.is_enum and not column.cast.endswith("[]"):
        return FrameType(_texts, "text", column.cast)
    if column.type == "character varying[]" and column.shown != column.type:
        # Nothing tells us the length of its elements.
        return None
    return _TYPES.get(column.type)


def staged(values: pa.Array, kind: FrameType, column: IntrospectedColumn | None) -> pa.Array:
    """Returns the values as staging holds them. A column of nulls fits every type. Raises Misfit."""
    if values.null_count == len(values):
        return pa.nulls(len(values), _STAGING[kind.staging])
    taken = kind.take(values)
    if column is not None:
        _check_limits(taken, column)
    return taken


def _check_limits(values: pa.Array, column: IntrospectedColumn) -> None:
    """Refuses what Postgres would cut or round in silence."""
    if column.characters is not None:
        is_over = _flags(pc.greater(pc.utf8_length(values), column.characters))
        _check(values, is_over, f"more than {column.characters} characters", "shorten it, or make the column text")
    if column.decimals is not None:
        digits = column.decimals
        is_over = np.array([text is not None and last_place(text) < -digits for text in values.to_pylist()])
        _check(values, is_over, f"more than {digits} digits behind the point", "round it, or make the column numeric")
    if column.second_digits is not None and column.second_digits < 6:
        step = 10 ** (6 - column.second_digits)
        is_over = _numbers(values.cast(pa.int64())) % step != 0
        _check(values, is_over, f"more than {column.second_digits} digits of a second", "round it, as in dt.round")


def _check(values: pa.Array, is_wrong: Flags, expected: str, fix: str) -> None:
    row = _first(is_wrong)
    if row is not None:
        raise Misfit(f"holds {shown(_plain_text(values[row]))} {at(row)}, {expected}", fix)


def _plain_text(value: pa.Scalar) -> object:
    found = value.as_py()
    return found if isinstance(found, str | int | float) else str(found)


def _first(is_wrong: Flags) -> int | None:
    found = np.flatnonzero(is_wrong)
    return int(found[0]) if len(found) else None


def _flags(values: pa.Array) -> Flags:
    flags: Flags = values.fill_null(False).to_numpy(zero_copy_only=False)
    return flags


def _numbers(values: pa.Array) -> Any:  # a numpy array, 0 for null
    return values.fill_null(0).to_numpy(zero_copy_only=False)


def _other(values: pa.Array, fix: str) -> Misfit:
    return Misfit(f"holds {values.type}", fix)


def _texts(values: pa.Array) -> pa.Array:
    if not pa.types.is_large_string(values.type):
        # The digits of a number that was a text have lost their zeros already.
        raise _other(values, 'write texts, as in astype("string"), where no zeros in front have been lost')
    return values


def _booleans(values: pa.Array) -> pa.Array:
    if not pa.types.is_boolean(values.type):
        raise _other(values, 'write booleans, as in astype("boolean")')
    return values


def _integers(values: pa.Array, bits: int) -> pa.Array:
    kind = pa.int64() if bits == 64 else pa.int32()
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if pa.types.is_floating(values.type):
        floats = _numbers(values)
        is_exact = np.isfinite(floats) & (np.floor(floats) == floats) & (np.abs(floats) <= EXACT_FLOAT)
        is_wrong = ~(is_exact & (floats >= low) & (floats <= high))
        _check(values, is_wrong, "a float that is no integer within its exact range", _wider(bits))
        return values.cast(kind)
    if pa.types.is_decimal(values.type):
        found = values.to_pylist()
        wrong = [each is not None and not (each == each.to_integral_value() and low <= each <= high) for each in found]
        _check(values, np.array(wrong), f"no integer of {bits} bits", _wider(bits))
        return pa.array([None if each is None else int(each) for each in found], kind)
    if not pa.types.is_integer(values.type):
        raise _other(values, "write integers")
    integers = _numbers(values)
    _check(values, (integers < low) | (integers > high), f"beyond {bits} bits", _wider(bits))
    return values.cast(kind)


def _wider(bits: int) -> str:
    # From bigint to double precision digits would be lost.
    return f"write what fits, or make the column {'numeric' if bits == 64 else 'bigint or numeric'}"


def _decimals(values: pa.Array) -> pa.Array:
    if pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        return values.cast(pa.string())
    if pa.types.is_floating(values.type):
        _check(values, ~np.isfinite(_numbers(values)), "no finite number", "use floats for it, or leave it out")
        return pa.array([None if each is None else repr(each) for each in values.to_pylist()], pa.string())
    if not pa.types.is_large_string(values.type):
        raise _other(values, "write decimals, integers, floats, or their texts")
    found = values.to_pylist()
    is_wrong = [each is not None and DECIMAL.fullmatch(each) is None for each in found]
    _check(values, np.array(is_wrong), "no number", "write decimals or their texts")
    return values.cast(pa.string())


def _doubles(values: pa.Array, *, is_single: bool = False) -> pa.Array:
    if pa.types.is_integer(values.type):
        limit = 2**24 if is_single else EXACT_FLOAT
        integers = _numbers(values)
        is_over = (integers < -limit) | (integers > limit)
        _check(values, is_over, "beyond the exact range of a float", "make the column numeric, or write what fits")
        return values.cast(pa.float64())
    if pa.types.is_decimal(values.type):
        found = values.to_pylist()
        is_wrong = [each is not None and Decimal(repr(float(each))) != each for each in found]
        _check(values, np.array(is_wrong), "which has more digits than a float", "round it, or make the column numeric")
        values = pa.array([None if each is None else float(each) for each in found], pa.float64())
    if not pa.types.is_floating(values.type):
        raise _other(values, "write floats")
    if is_single:
        floats = _numbers(values)
        with np.errstate(over="ignore"):
            narrowed = floats.astype(np.float32).astype(np.float64)
        is_wrong = (narrowed != floats) & ~np.isnan(floats)
        _check(values, np.array(is_wrong), "which has more digits than a real", "make the column double precision")
    return values


def _dates(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        moments = _microseconds(values)
        is_wrong = _numbers(moments.cast(pa.int64())) % (DAY_SECONDS * TICKS["us"]) != 0
        _check(values, np.array(is_wrong), "which is no whole day", "write dates, as in dt.date")
        return moments.cast(pa.date32())
    if not pa.types.is_date32(values.type):
        raise _other(values, "write dates, as in dt.date")
    days = _numbers(values.cast(pa.int32()))
    _check_years(days.astype(np.int64) * DAY_SECONDS, 1)
    return values


def _times(values: pa.Array) -> pa.Array:
    if not pa.types.is_timestamp(values.type):
        raise _other(values, "write times with a zone, as in dt.tz_localize")
    if values.type.tz is None:
        raise Misfit("holds times without zone", "say which with dt.tz_localize")
    return _microseconds(values).cast(pa.timestamp("us", "UTC"))


def _local_times(values: pa.Array) -> pa.Array:
    if pa.types.is_date32(values.type):
        values = _dates(values).cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(values.type):
        raise _other(values, "write times")
    if values.type.tz is not None:
        raise Misfit(
            "holds times with a zone, which the column drops", 'say in which one, as in dt.tz_convert("UTC").dt.tz_localize(None)'
        )
    return _microseconds(values).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))


def _microseconds(values: pa.Array) -> pa.Array:
    """Returns times of any unit in microseconds, exactly."""
    unit, zone = values.type.unit, values.type.tz
    numbers = _numbers(values.cast(pa.int64()))
    _check_years(numbers, TICKS[unit])
    if unit == "ns":
        row = _first(numbers % 1_000 != 0)
        if row is not None:
            raise below_a_microsecond(row)
    return values.cast(pa.timestamp("us", zone))


def _check_years(numbers: Any, ticks: int) -> None:  # a numpy array
    if ticks == TICKS["ns"]:
        return  # 64 bits do not reach that far
    row = _first((numbers < YEAR_1_SECONDS * ticks) | (numbers >= YEAR_10000_SECONDS * ticks))
    if row is not None:
        raise Misfit(
            f"holds a time outside the years 1 to 9999 {at(row)}, which nobody could load again", "leave it out, or write a text"
        )


def _uuids(values: pa.Array) -> pa.Array:
    if isinstance(values.type, pa.UuidType):
        return pa.array([None if each is None else str(each) for each in values.to_pylist()], pa.string())
    if not pa.types.is_large_string(values.type):
        raise _other(values, "write uuids or their texts")
    is_uuid = pc.match_substring_regex(values, f"^{CANONICAL_UUID}$")
    _check(values, _flags(pc.invert(is_uuid)), "no uuid as Postgres writes it", "write uuids or their texts")
    return pc.utf8_lower(values)


def _objects(values: pa.Array) -> pa.Array:
    if not pa.types.is_large_string(values.type):
        raise _other(values, "write the texts of JSON values, as from json.dumps")
    return values


def _lists(values: pa.Array, bits: int | None = None) -> pa.Array:
    """Stages lists as texts whatever the elements are: an array literal quotes each."""
    kind = values.type
    if not pa.types.is_list(kind):
        raise _other(values, "write lists")
    found = values.to_pylist()
    if pa.types.is_null(kind.value_type):
        return pa.array(found, pa.list_(pa.string()))
    is_integer = pa.types.is_integer(kind.value_type)
    if is_integer != (bits is not None) or not (is_integer or pa.types.is_string(kind.value_type)):
        raise _other(values, f"write lists of {'integers' if bits else 'strings'}")
    if bits is None:
        return values
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    is_over = [each is not None and any(one is not None and not low <= one <= high for one in each) for each in found]
    _check(values, np.array(is_over), f"beyond {bits} bits", "write what fits, or make the column bigint[]")
    texts = [None if each is None else [None if one is None else str(one) for one in each] for each in found]
    return pa.array(texts, pa.list_(pa.string()))


_TYPES: Mapping[str, FrameType] = {
    "text": FrameType(_texts, "text"),
    "character varying": FrameType(_texts, "text"),
    "boolean": FrameType(_booleans, "boolean"),
    "smallint": FrameType(lambda values: _integers(values, 16), "integer", "smallint"),
    "integer": FrameType(lambda values: _integers(values, 32), "integer"),
    "bigint": FrameType(lambda values: _integers(values, 64), "bigint"),
    "numeric": FrameType(_decimals, "text", "numeric"),
    "real": FrameType(lambda values: _doubles(values, is_single=True), "double precision", "real"),
    "double precision": FrameType(_doubles, "double precision"),
    "date": FrameType(_dates, "date"),
    "timestamp with time zone": FrameType(_times, "timestamptz"),
    "timestamp without time zone": FrameType(_local_times, "timestamptz", UTC_WITHOUT_ZONE),
    "uuid": FrameType(_uuids, "text", "uuid"),
    "jsonb": FrameType(_objects, "text", "jsonb", is_key=False),
    "text[]": FrameType(_lists, "text", "text[]", is_key=False),
    "character varying[]": FrameType(_lists, "text", "character varying[]", is_key=False),
    "smallint[]": FrameType(lambda values: _lists(values, 16), "text", "smallint[]", is_key=False),
    "integer[]": FrameType(lambda values: _lists(values, 32), "text", "integer[]", is_key=False),
    "bigint[]": FrameType(lambda values: _lists(values, 64), "text", "bigint[]", is_key=False),
}
"""These types stand by the name that format_type has for each, without length and precision."""

_LONG_NAMES = {"timestamptz": "timestamp with time zone"}

_NEW_TYPES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_large_string, "text"),
    (pa.types.is_boolean, "boolean"),
    (lambda kind: kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), "integer"),
    (pa.types.is_integer, "bigint"),
    (pa.types.is_floating, "double precision"),
    (pa.types.is_decimal, "numeric"),
    (pa.types.is_date32, "date"),
    (lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None, "timestamptz"),
    (lambda kind: isinstance(kind, pa.UuidType), "uuid"),
    (lambda kind: kind == pa.list_(pa.string()), "text[]"),
    (lambda kind: kind == pa.list_(pa.int32()), "integer[]"),
    (lambda kind: kind == pa.list_(pa.int64()), "bigint[]"),
)

_STAGING: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
}
