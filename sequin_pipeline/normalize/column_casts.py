"""This is the cast table for whole columns: usual values at the speed of Arrow, everything unusual handed back.

Each type is parsed straight into what its usual values are (`leaf_of`). A position that comes back as doubtful has no value here:
value_casts.py decides about its record, from the text. What is not doubtful is what value_casts.py would have given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import Column, ColumnType
from sequin_pipeline.normalize.json_decoders import NULL_RAW, Leaf
from sequin_pipeline.normalize.value_casts import CANONICAL_UUID, EPOCH_PLACES, INTEGER_BITS, STORAGE, Token, Value, cast_token
from sequin_pipeline.records.literals import MAX_MICROSECONDS, MIN_MICROSECONDS, InvalidLiteral

_LEAF_TYPES: Mapping[ColumnType, Any] = {  # unions have no common type
    "text": str | int | bool | None,
    "boolean": bool | str | None,
    "integer": int | str | None,
    "bigint": int | str | None,
    "numeric": msgspec.Raw,
    "double precision": float | str | None,
    "date": str | None,
    "timestamptz": str | None,
    "uuid": str | None,
    "text[]": list[str | None] | None,
    "jsonb": msgspec.Raw,
}

_FEW = 64
"""This many values cost no more one by one than a further look for the odd ones among them."""

_EXACT_DOUBLES = 2.0**53
"""Below this a double that came from an integer is that integer, so that its literal need not be looked at."""


def leaf_of(column: Column) -> Leaf:
    """Returns what to parse for a column: types that keep every digit, or the raw text."""
    leaf_type = _LEAF_TYPES[column.type]
    if column.type == "timestamptz" and column.time_format != "iso":
        leaf_type = int | str | None
    return Leaf(column.path.steps, leaf_type, NULL_RAW if leaf_type is msgspec.Raw else None)


@dataclass(frozen=True)
class CastColumn:
    """This value holds a column's values, and the positions that must be looked at one by one (their values here mean nothing)."""

    array: pa.Array
    doubtful: Sequence[int] = ()


def cast_column(column: Column, values: Sequence[Any]) -> CastColumn:
    """Casts the values of a column, which are of `leaf_of(column).type`, strings without NUL."""
    try:
        return _CASTS[column.type](column, values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if len(values) <= _FEW:
            return _one_by_one(column, values)
    # So that an odd value costs its neighbours and not the whole column.
    middle = len(values) // 2
    first, second = cast_column(column, values[:middle]), cast_column(column, values[middle:])
    array = pa.concat_arrays([first.array, second.array])
    return CastColumn(array, [*first.doubtful, *(middle + position for position in second.doubtful)])


def _one_by_one(column: Column, values: Sequence[Any]) -> CastColumn:
    cast_values: list[Value] = []
    doubtful: list[int] = []
    for position, value in enumerate(values):
        try:
            cast_values.append(None if value is None else cast_token(column, _token(value)))
        except InvalidLiteral:
            cast_values.append(None)
            doubtful.append(position)
    return CastColumn(arrow_values(column.type, cast_values), doubtful)


def _token(value: object) -> Token:
    """Returns the value as a token; raises InvalidLiteral where the value no longer tells its literal."""
    match value:
        case str():
            return Token("string", value)
        case bool():
            return Token("boolean", "true" if value else "false")
        case int() if value != 0:
            return Token("number", str(value))
        case float() if 0 < abs(value) < _EXACT_DOUBLES:
            return Token("number", repr(value))
    raise InvalidLiteral("a value that tells its literal, which -0 read as 0 does not")


def arrow_values(type_: ColumnType, values: Sequence[Value]) -> pa.Array:
    """Returns values of value_casts.py as the array that the frame holds."""
    if type_ == "date":
        return pa.array(values, pa.int32()).cast(pa.date32())
    if type_ == "timestamptz":
        return pa.array(values, pa.int64()).cast(STORAGE[type_].arrow)
    return pa.array(values, STORAGE[type_].arrow)


def _text(column: Column, values: Sequence[Any]) -> CastColumn:
    array = pa.array(values, pa.string())
    if column.empty_as_null:
        array = pc.if_else(pc.equal(array, ""), None, array)
    return CastColumn(array)


def _boolean(column: Column, values: Sequence[Any]) -> CastColumn:
    return CastColumn(pa.array(values, pa.bool_()))


def _integer(column: Column, values: Sequence[Any]) -> CastColumn:
    return CastColumn(_integers(values, INTEGER_BITS[column.type]))


def _integers(values: Sequence[Any], bits: int) -> pa.Array:
    """Returns the values as integers; raises ArrowInvalid or OverflowError unless all are integers in range, or strings of digits."""
    arrow_type = pa.int32() if bits == 32 else pa.int64()
    try:
        return pa.array(values, arrow_type)
    except pa.ArrowInvalid:
        strings = pa.array(values, pa.string())
    if not pc.all(pc.match_substring_regex(strings, r"^-?[0-9]{1,18}$")).as_py():
        raise pa.ArrowInvalid("not only digits")
    return strings.cast(arrow_type)


def _double(column: Column, values: Sequence[Any]) -> CastColumn:
    array = pa.array(values, pa.float64())
    return CastColumn(array, positions(pc.greater_equal(pc.abs(array), _EXACT_DOUBLES)))


def positions(mask: pa.Array) -> Sequence[int]:
    """Returns the positions at which `mask` is true."""
    found: Sequence[int] = pc.indices_nonzero(mask).to_pylist() if pc.any(mask).as_py() else ()
    return found


def slices(texts: pa.Array) -> list[memoryview | None]:
    """Returns the bytes of each element, not copied; None for null."""
    if len(texts) == 0:
        return []
    _, offset_buffer, content_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    content = memoryview(content_buffer or b"")
    found: list[memoryview | None] = [content[start:end] for start, end in pairwise(offsets)]
    for position in positions(pc.is_null(texts)) if texts.null_count else ():
        found[position] = None
    return found


def _numeric(column: Column, values: Sequence[Any]) -> CastColumn:
    literals = raw_strings(values)
    is_usual = pc.match_substring_regex(literals, r'^(?:"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"|[-0-9][^"]*)$')
    return CastColumn(pc.ascii_trim(literals, '"'), positions(pc.invert(is_usual)))


def _jsonb(column: Column, values: Sequence[Any]) -> CastColumn:
    literals = raw_strings(values)
    return CastColumn(pc.if_else(pc.equal(literals, '""'), None, literals) if column.empty_as_null else literals)


def raw_strings(values: Sequence[msgspec.Raw]) -> pa.StringArray:
    """Returns JSON texts as one string array, the JSON null as null; the bytes are copied once, all together."""
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    offsets = np.zeros(len(values) + 1, np.int32)
    offsets[1:] = ends
    joined = b"".join(values)
    leads = np.frombuffer(joined, np.uint8)[offsets[:-1]]
    array = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(joined))
    is_null = leads == ord("n")
    return pc.if_else(pa.array(is_null), None, array) if is_null.any() else array


def _date(column: Column, values: Sequence[Any]) -> CastColumn:
    array = pa.array(values, pa.string()).cast(pa.date32())
    return CastColumn(array, positions(pc.less(array.cast(pa.int32()), _FIRST_DAY)))


_FIRST_DAY = MIN_MICROSECONDS // 86_400_000_000


def _timestamptz(column: Column, values: Sequence[Any]) -> CastColumn:
    if column.time_format == "iso":
        array = pa.array(values, pa.string()).cast(STORAGE["timestamptz"].arrow)
        microseconds = array.cast(pa.int64())
    else:
        microseconds = pc.multiply_checked(_integers(values, 64), 10 ** EPOCH_PLACES[column.time_format])
        array = microseconds.cast(STORAGE["timestamptz"].arrow)
    extremes = pc.min_max(microseconds)
    if len(array) == array.null_count or (
        extremes["min"].as_py() >= MIN_MICROSECONDS and extremes["max"].as_py() <= MAX_MICROSECONDS
    ):
        return CastColumn(array)
    is_outside = pc.or_(pc.less(microseconds, MIN_MICROSECONDS), pc.greater(microseconds, MAX_MICROSECONDS))
    return CastColumn(array, positions(is_outside))


def _uuid(column: Column, values: Sequence[Any]) -> CastColumn:
    array = pa.array(values, pa.string())
    is_usual = pc.match_substring_regex(array, f"^{CANONICAL_UUID}$")
    return CastColumn(pc.ascii_lower(array), positions(pc.invert(is_usual)))


def _text_array(column: Column, values: Sequence[Any]) -> CastColumn:
    array = pa.array(values, pa.list_(pa.string()))
    if not column.rejects_nulls:
        return CastColumn(array)
    elements = pc.list_flatten(array)
    holders = pc.list_parent_indices(array).filter(pc.is_null(elements))
    return CastColumn(array, pc.unique(holders).to_pylist())


_CASTS: Mapping[ColumnType, Callable[[Column, Sequence[Any]], CastColumn]] = {
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
    "jsonb": _jsonb,
}
