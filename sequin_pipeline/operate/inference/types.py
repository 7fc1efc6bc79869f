"""From the values of a field to a column that takes every one of them.

A column is proposed only when casts.py has cast each value of the sample; among those that pass, the first in the order here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from sequin_pipeline.catalog import Column, ColumnType, Path, TimeFormat
from sequin_pipeline.normalize.value_casts import cast
from sequin_pipeline.operate.inference.sample import SampledField
from sequin_pipeline.records.literals import Unfit

_TIME_NAME = re.compile(r"(^|_)(at|on|time|timestamp|date|created|updated|start|end|until|expires|since)$|(At|Time|Date|On)$")

_EPOCHS: tuple[tuple[TimeFormat, int, int], ...] = (
    ("epoch_seconds", 631_152_000, 4_102_444_800),
    ("epoch_milliseconds", 631_152_000_000, 4_102_444_800_000),
)
"""From 1990 to 2100: a number in a field that is named as a time, and that would be one in these years."""

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
"""Words of collections endpoints for types; of another word nothing is known, and jsonb takes anything."""


def propose_column(name: str, field: SampledField, *, described_as: str = "") -> Column:
    """A column that takes every value of the field. `described_as` is the source's own word, which decides where all are null."""
    for column in _candidates(name, field, described_as=described_as):
        if takes_all(column, field.values):
            return column
    raise AssertionError(f"a jsonb column takes every value that a record can hold, but not those of {name!r}")


def fitting(name: str, field: SampledField, kind: ColumnType) -> Column | None:
    """A column of that type that takes every value of the field; None where the type takes them in no format."""
    plain = _column(name, field, kind)
    columns = [plain]
    if kind == "timestamptz":
        columns += [_column(name, field, kind, time_format=time_format) for time_format in _plausible_epochs(field)]
    return next((column for column in columns if takes_all(column, field.values)), None)


def takes_all(column: Column, values: Iterable[bytes]) -> bool:
    """Would a record be stored with any of these values?"""
    try:
        for value in values:
            cast(column, value)
    except Unfit:
        return False
    return True


def _candidates(name: str, field: SampledField, *, described_as: str) -> Iterator[Column]:
    kinds = field.kinds
    if not kinds:
        yield _column(name, field, _DESCRIBED.get(described_as.lower(), "jsonb"))
    elif kinds == {"boolean"}:
        yield _column(name, field, "boolean")
    elif kinds == {"number"}:
        if _TIME_NAME.search(field.steps[-1]):
            for time_format in _plausible_epochs(field):
                yield _column(name, field, "timestamptz", time_format=time_format)
        yield _column(name, field, "bigint")
        yield _column(name, field, "numeric")
    elif kinds == {"string"}:
        if any(value != _EMPTY for value in field.values):
            for kind in ("uuid", "date", "timestamptz"):
                yield _column(name, field, kind)
    elif kinds == {"array"} and any(value != b"[]" for value in field.values):
        yield _column(name, field, "text[]")
    if not kinds & {"array", "object"}:
        yield _column(name, field, "text")
    yield _column(name, field, "jsonb")


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
