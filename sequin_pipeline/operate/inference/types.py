"""This module finds a column that takes every value of a field.

A column is proposed only when value_casts.py has cast each value of the sample; among those that pass, the first in the order here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from sequin_pipeline.catalog import Column, ColumnType, Path, TimeFormat
from sequin_pipeline.normalize.value_casts import cast
from sequin_pipeline.operate.inference.sample import SampledField
from sequin_pipeline.records.json_text import Kind
from sequin_pipeline.records.literals import InvalidLiteral

_TIME_NAME = re.compile(r"(^|_)(at|on|time|timestamp|date|created|updated|start|end|until|expires|since)$|(At|Time|Date|On)$")

_EPOCHS: tuple[tuple[TimeFormat, int, int], ...] = (
    ("epoch_seconds", 631_152_000, 4_102_444_800),
    ("epoch_milliseconds", 631_152_000_000, 4_102_444_800_000),
)
"""A number in a field that is named as a time counts as one if it falls into the years 1990 to 2100."""

_EMPTY = b'""'

_DESCRIBED: Mapping[str, ColumnType] = {
    "string": "text",
    "text": "text",
    "boolean": "boolean",
    "integer": "bigint",
    "number": "numeric",
    "float": "numeric",
    "decimal": "numeric",
}
"""Collections endpoints use these words for types; of another word nothing is known, and jsonb takes anything."""


_OF_KIND: Mapping[Kind, tuple[ColumnType, ...]] = {
    "boolean": ("boolean",),
    "number": ("bigint", "numeric"),
    "string": ("uuid", "date", "timestamptz"),
    "array": ("text[]",),
}
"""By kind of JSON value, these types are tried before text and jsonb."""


def propose_column(name: str, field: SampledField, *, described_as: str = "") -> Column:
    """Returns a column that takes every value of the field; `described_as`, the source's own word, decides where all are null."""
    for column in _candidates(name, field, described_as=described_as):
        if takes_all(column, field.values):
            return column
    raise AssertionError(f"a jsonb column takes every value that a record can hold, but not those of {name!r}")


def fitting(name: str, field: SampledField, kind: ColumnType) -> Column | None:
    """Returns a column of that type that takes every value of the field, or None where the type takes them in no format."""
    plain = _column(name, field, kind)
    columns = [plain]
    if kind == "timestamptz":
        columns += [_column(name, field, kind, time_format=time_format) for time_format in _plausible_epochs(field)]
    return next((column for column in columns if takes_all(column, field.values)), None)


def takes_all(column: Column, values: Iterable[bytes]) -> bool:
    """Says whether a record would be stored with any of these values."""
    try:
        for value in values:
            cast(column, value)
    except InvalidLiteral:
        return False
    return True


def _candidates(name: str, field: SampledField, *, described_as: str) -> Iterator[Column]:
    kinds = field.kinds
    if kinds == {"number"} and _TIME_NAME.search(field.steps[-1]):
        for time_format in _plausible_epochs(field):
            yield _column(name, field, "timestamptz", time_format=time_format)
    for kind in (_DESCRIBED.get(described_as.lower(), "jsonb"),) if not kinds else _typed(kinds, field):
        yield _column(name, field, kind)
    if not kinds & {"array", "object"}:
        yield _column(name, field, "text")
    yield _column(name, field, "jsonb")


def _typed(kinds: frozenset[Kind], field: SampledField) -> tuple[ColumnType, ...]:
    """Returns the types for values of one kind, narrowest first; an empty string or array tells no type."""
    empty = _EMPTY if kinds == {"string"} else b"[]"
    if len(kinds) > 1 or all(value == empty for value in field.values):
        return ()
    return _OF_KIND.get(next(iter(kinds)), ())


def _column(name: str, field: SampledField, kind: ColumnType, *, time_format: TimeFormat = "iso") -> Column:
    empty_as_null = kind not in ("text", "jsonb") and _EMPTY in field.values
    return Column(name, Path("data", field.steps), kind, time_format=time_format, empty_as_null=empty_as_null)


def _plausible_epochs(field: SampledField) -> Iterator[TimeFormat]:
    for time_format, least, most in _EPOCHS:
        if field.values and all(_is_between(value, least, most) for value in field.values):
            yield time_format


def _is_between(value: bytes, least: int, most: int) -> bool:
    try:
        return least <= float(value) <= most
    except ValueError:
        return False
