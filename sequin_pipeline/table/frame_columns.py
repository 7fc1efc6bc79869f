"""This module turns a column of a DataFrame into one plain Arrow array.

It is refused where Arrow's inference would change its values in silence. Knows pandas and Arrow, not Postgres: which column takes
the array is decided in frame_values.py. Pure.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

USE = (
    "use strings, booleans, integers, floats, dates, times with zone, decimals, uuids or lists of strings or integers, for instance by "
    "astype"
)

DAY_MILLISECONDS = 86_400_000

STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)

_KINDS: Mapping[str, tuple[type, ...]] = {
    "strings": (str,),
    "booleans": (bool, np.bool_),
    "integers": (int, np.integer),
    "floats": (float, np.floating),
    "decimals": (Decimal,),
    "times": (datetime, np.datetime64),
    "dates": (date,),
    "lists": (list, tuple, np.ndarray),
    "uuids": (UUID,),
    "bytes": (bytes,),
    "times of day": (time,),
    "spans": (timedelta, np.timedelta64),
    "dicts": (dict,),
}
"""Objects of a column can be of these kinds. Within a kind Arrow's inference keeps every value, or raises."""


class Misfit(Exception):
    """This column cannot be taken: `found` completes "column 'x' of the frame …", `fix` says what to do."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}: {fix}")


def shown(value: object) -> str:
    """Returns the value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def at(row: int) -> str:
    """Says where a value stands; rows of a frame have no other name that is theirs for certain."""
    return f"in row {row}, counted from 0"


def arrow_values(values: "pd.Series[Any]") -> pa.Array:
    """Returns the column with its nulls, of the type null where neither dtype nor values tell one.

    Strings come as large_string, floats as double, dates as date32, lists as list; categories, views and runs are spelled out.
    Raises Misfit.
    """
    values = _without_categories(values)
    if values.dtype == object and _check_objects(values) == {"uuids"}:
        return _uuids(values)
    if _tells_no_type(values):
        return pa.nulls(len(values))
    try:
        found = pa.Array.from_pandas(values)
    except (pa.ArrowException, ArithmeticError, UnicodeError, TypeError, ValueError) as error:
        raise _unreadable(values, error) from error
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    plain = [_plain(chunk) for chunk in chunks or [pa.array([], found.type)]]
    return plain[0] if len(plain) == 1 else pa.chunked_array(plain).combine_chunks()


def _without_categories(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Spells out the categories that Arrow would not read as the values that they are."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values
    categories = values.dtype.categories
    if categories.dtype == object and len(categories):
        return values.astype(object)  # so that the check sees its values
    if isinstance(categories.dtype, pd.DatetimeTZDtype):
        return values.astype(categories.dtype)  # before pandas 3 Arrow reads these categories without their zone
    return values


def _tells_no_type(values: "pd.Series[Any]") -> bool:
    """Says whether the column is what pandas itself makes of nothing.

    That is objects or floats without a value, categories without a category.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return len(dtype.categories) == 0
    return dtype in (np.dtype(object), np.dtype(np.float64)) and bool(values.isna().all())


def _plain(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(values))
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_floating(kind):
        return values.cast(pa.float64())
    if isinstance(kind, pa.Bool8Type):
        return values.storage.cast(pa.bool_())
    if pa.types.is_date64(kind):
        return _days(values)
    if any(is_kind(kind) for is_kind in LISTS):
        return _list(values)
    return values


def _days(values: pa.Array) -> pa.Array:
    milliseconds = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(milliseconds % DAY_MILLISECONDS)[:1]:
        raise Misfit(
            f"holds a date64 that is no whole day {at(int(row))}",
            'use times, as in astype(pd.ArrowDtype(pa.timestamp("ms", "UTC")))',
        )
    return values.cast(pa.date32())


def _list(values: pa.Array) -> pa.Array:
    """Returns a list of strings, of 32-bit or 64-bit integers, or of nothing; of other elements as it is."""
    element = values.type.value_type
    if pa.types.is_dictionary(element):
        element = element.value_type
    if any(is_kind(element) for is_kind in STRINGS):
        return pa.array(values.to_pylist(), pa.list_(pa.string()))
    if pa.types.is_integer(element):
        plain = pa.int32() if element in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()) else pa.int64()
        try:
            return pa.array(values.to_pylist(), pa.list_(plain))
        except (pa.ArrowException, OverflowError) as error:
            raise _beyond_64_bits("holds lists with integers") from error
    if pa.types.is_null(element):
        return pa.array(values.to_pylist(), pa.list_(pa.null()))
    return values


def _uuids(values: "pd.Series[Any]") -> pa.Array:
    """Reads UUIDs, which older releases of Arrow do not infer."""
    stored = pa.array([each.bytes if isinstance(each, UUID) else None for each in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


def _check_objects(values: "pd.Series[Any]") -> set[str]:
    """Checks the kinds of the values.

    Arrow goes by the first value: it cuts times to dates, drops zones, nanoseconds and the difference of a flag and a number.
    """
    try:
        present = values.reset_index(drop=True).dropna()
    except ArithmeticError as error:
        raise Misfit("holds a signalling NaN, which cannot be compared", "use None in its place") from error
    kinds = _check_kinds(present)
    if kinds == {"lists"}:
        for each in present:
            if isinstance(each, np.ndarray) and each.ndim != 1:
                raise Misfit("holds arrays of several dimensions", "flatten them")
        elements = pd.Series(list(chain.from_iterable(present)), dtype=object).dropna()
        if "lists" in _check_kinds(elements, within="lists of "):
            raise Misfit("holds lists of lists", "flatten them")
    if kinds == {"times"}:
        _check_times(present)
    if "decimals" in kinds:
        for row, each in present.items():
            if isinstance(each, Decimal) and each.is_infinite():
                raise Misfit(f"holds the decimal {each} {at(row)}", "use floats for it, or leave it out")
    return kinds


def _check_kinds(present: "pd.Series[Any]", *, within: str = "") -> set[str]:
    kinds = {_kind(each) for each in set(map(type, present))}
    if len(kinds) > 1 and kinds not in ({"integers", "floats"}, {"integers", "decimals"}):
        raise Misfit(f"holds {within}values of several types ({', '.join(sorted(kinds))})", "give it one")
    if kinds & {"integers"} and "decimals" not in kinds:
        for each in present:
            if isinstance(each, int | np.integer) and not -(2**63) <= each < 2**63:
                raise _beyond_64_bits(f"holds {within}integers such as {shown(int(each))},")
    return kinds


def _beyond_64_bits(found: str) -> Misfit:
    return Misfit(f"{found} beyond the 64 bits of a bigint", "use decimals, or strings")


def _check_times(present: "pd.Series[Any]") -> None:
    has_zone = [isinstance(each, datetime) and each.tzinfo is not None for each in present]
    if any(has_zone) and not all(has_zone):
        raise Misfit("holds times with and without zone", "say one for all of them, as in pd.to_datetime(…, utc=True)")
    for row, each in present.items():
        if getattr(each, "nanosecond", 0):
            raise below_a_microsecond(row)


def below_a_microsecond(row: int) -> Misfit:
    """Returns the refusal of a time that Postgres would round."""
    return Misfit(f"holds nanoseconds below a microsecond {at(row)}", 'say how to round, as in dt.floor("us")')


def _kind(kind: type) -> str:
    """Returns the kind of a class of values, or its name; the order matters: a datetime is a date, a bool an int."""
    for name, classes in _KINDS.items():
        if issubclass(kind, classes):
            return name
    raise Misfit(f"holds values of the class {kind.__name__}, for which no column type of Postgres stands here", USE)


def _unreadable(values: "pd.Series[Any]", error: Exception) -> Misfit:
    if isinstance(error, UnicodeError):
        row = next(row for row, text in enumerate(values) if not _is_text(text))
        return Misfit(f"holds a text with a lone surrogate {at(row)}, which UTF-8 cannot say", "replace or drop that character")
    if values.dtype == object:
        return Misfit(f"holds values that do not go together (Arrow says {shown(str(error))})", "give it one type")
    return no_type(str(values.dtype))


def no_type(name: object) -> Misfit:
    """Returns the refusal of a type that is none of those taken."""
    return Misfit(f"has the type {name}, which no column type of Postgres stands for here", USE)


def _is_text(value: object) -> bool:
    texts: Iterable[object] = value if isinstance(value, list | tuple | np.ndarray) else [value]
    try:
        for text in texts:
            if isinstance(text, str):
                text.encode()
    except UnicodeError:
        return False
    return True
