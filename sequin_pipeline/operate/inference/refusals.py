"""This module asks which values of a sample a table would refuse: by the limits of a run, then by Postgres, which writes nothing.

What needs more than one value to be decided (a CHECK, keys, triggers) only a run finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.operate.inference.examples import example_of
from sequin_pipeline.operate.inference.sample import Sample
from sequin_pipeline.postgres.percent_signs import TypeName
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.introspect import IntrospectedColumn, IntrospectedTable
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.write.misfits import misfits

PARTS = 8
"""A part of the values that Postgres refuses is divided into this many, as in write/bad_rows.py."""


@dataclass(frozen=True)
class Refusal:
    """This value says which rows of the sample a column of the table refuses, of how many that have a value, and shows one of them.

    `example` is as far as it may be shown, empty for a value that is missing.
    """

    column: TargetColumn
    rows: frozenset[int]
    of: int
    expected: str
    example: str = field(repr=False)

    def __str__(self) -> str:
        shown = f", as for {self.example}" if self.example else ""
        return (
            f"{len(self.rows):,} of {self.of:,} values of {self.column.name} would be rejected{shown}: "
            f"column {self.column.table_name!r} of the table takes {self.expected}"
        )


def refusals(
    connection: Connection, collection: Collection, target: Target, introspected: IntrospectedTable, sample: Sample
) -> tuple[Refusal, ...]:
    """Returns what the columns of `target`, which is fitted to the table, would refuse of the sample. Raises psycopg.Error."""
    normalize = Normalizer(collection)
    frames = [normalize(page).frame for page in sample.pages]
    if not frames:
        return ()
    frame = pd.concat(frames, ignore_index=True)
    is_bare = (frame["deleted"] & frame["data"].isna()).to_numpy(dtype=bool, na_value=False)
    steps = {column.name: tuple(map(str, column.path.steps)) for column in collection.columns}
    found: list[Refusal] = []
    for column in target.stored:
        values, shape = _array(frame[column.name]), introspected.columns[column.table_name]
        path = steps.get(column.name, (column.name,))
        for expected, rows in _refused(connection, column, shape, values, is_bare).items():
            found.append(_refusal(column, path, values, expected, rows))
    return tuple(found)


def _refusal(column: TargetColumn, steps: tuple[str, ...], values: pa.Array, expected: str, rows: Sequence[int]) -> Refusal:
    # The shortest one tells most in a line.
    value = min((_json(column, values[row]) for row in rows), key=len)
    example = example_of(value, steps=steps) if value else ""
    of = len(values) - values.null_count if value else len(values)
    return Refusal(column, frozenset(rows), of, expected, example)


def _array(values: "pd.Series[object]") -> pa.Array:
    array = pa.Array.from_pandas(values)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _refused(
    connection: Connection, column: TargetColumn, shape: IntrospectedColumn, values: pa.Array, is_bare: np.ndarray
) -> Mapping[str, Sequence[int]]:
    """Returns rows by what was expected of them; each row once."""
    by_limit: dict[int, str] = {}
    for row, expected in misfits(column, values):
        by_limit.setdefault(row, expected)
    by_expected: dict[str, list[int]] = {}
    for row, expected in by_limit.items():
        by_expected.setdefault(expected, []).append(row)
    if shape.is_not_null:
        # A tombstone without an object leaves the stored one as it is.
        is_missing = ~np.asarray(values.is_valid()) & ~(is_bare & column.is_object)
        missing = [int(row) for row in np.flatnonzero(is_missing) if int(row) not in by_limit]
        if missing:
            by_expected["a value in every row"] = missing
    rows = [int(row) for row in np.flatnonzero(np.asarray(values.is_valid())) if int(row) not in by_limit]
    refused = _refused_by_postgres(connection, column, shape, values, rows)
    if refused:
        by_expected[f"values of its type {shape.shown}"] = refused
    return by_expected


def _refused_by_postgres(
    connection: Connection, column: TargetColumn, shape: IntrospectedColumn, values: pa.Array, rows: Sequence[int]
) -> list[int]:
    texts: dict[str, list[int]] = {}
    for row in rows:
        texts.setdefault(_text(values[row]), []).append(row)
    check = sql.SQL("select count({}) from unnest(%s::text[]) as sampled (v)").format(_assigned(column, shape))
    return sorted(row for text in _divided(connection, check, list(texts)) for row in texts[text])


def _divided(connection: Connection, check: sql.Composed, texts: Sequence[str]) -> Iterator[str]:
    if not texts or _passes(connection, check, texts):
        return
    if len(texts) == 1:
        yield texts[0]
        return
    step = -(-len(texts) // PARTS)
    for start in range(0, len(texts), step):
        yield from _divided(connection, check, texts[start : start + step])


def _passes(connection: Connection, check: sql.Composed, texts: Sequence[str]) -> bool:
    try:
        with connection.transaction():
            connection.execute(check, [list(texts)])
    except (psycopg.DataError, psycopg.IntegrityError):
        return False
    return True


def _assigned(column: TargetColumn, shape: IntrospectedColumn) -> sql.Composed:
    """Returns the value `v` as the merge casts it, then as the column takes it: what a type would cut or round, the limits have found."""
    elements = sql.SQL("select array_agg(item) from jsonb_array_elements_text(v::jsonb) item")
    value = elements if column.type == "text[]" else sql.SQL("v::{}").format(TypeName(column.staging))
    for wanted in filter(None, (column.cast, shape.shown)):
        value = sql.SQL("({})::{}").format(value, TypeName(wanted))
    return sql.Composed([value])


def _text(value: pa.Scalar) -> str:
    if pa.types.is_list(value.type):
        return msgspec.json.encode(value.as_py()).decode()
    return str(value.cast(pa.string()).as_py())


def _json(column: TargetColumn, value: pa.Scalar) -> bytes:
    if not value.is_valid:
        return b""
    text = _text(value)
    is_json = column.type in ("text[]", "jsonb", "numeric", "integer", "bigint", "boolean", "double precision")
    return text.encode() if is_json else msgspec.json.encode(text)
