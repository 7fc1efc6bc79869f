"""This module works out the table of a plain DataFrame.

That is which columns it has, of which types, and the frame's rows as these types take them. Where a column is there already, its
type decides; else the frame's dtype does. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import MAX_COLUMNS, MAX_IDENTIFIER_BYTES, TableName
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from sequin_pipeline.table.frame_columns import Misfit, arrow_values
from sequin_pipeline.table.frame_values import found_type, frame_type, new_type, staged
from sequin_pipeline.table.introspect import IntrospectedColumn, IntrospectedTable
from sequin_pipeline.table.target import Target, TargetColumn

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Every table has these columns (Postgres documentation, 5.6)."""

VERSION_TYPES = ("smallint", "integer", "bigint")


@dataclass(frozen=True)
class FrameRows:
    """This value is a frame as its table takes it: `rows` has the target's columns, as staging holds them.

    `untyped` are columns without any value whose dtype tells no type: the table gets them with their first value.
    """

    target: Target
    rows: pa.Table = field(repr=False)
    untyped: tuple[str, ...] = ()

    @property
    def is_typed(self) -> bool:
        """This is true where key and version are known.

        Without them, which only an empty frame can be, there is neither a table nor anything to write.
        """
        return not {*self.target.key, self.target.version} & {*self.untyped}


def frame_rows(
    table: TableName, frame: pd.DataFrame, *, key: tuple[str, ...], version: str | None, introspected: IntrospectedTable | None
) -> FrameRows:
    """Returns the frame as the table takes it, of which `introspected` is what is there (None: nothing).

    Raises TableRefused for names that no column can have, a value or a type that the table cannot hold exactly, a key or version that
    is no column, null keys, and keys that are repeated without version.
    """
    label = str(table)
    _check_names(label, frame)
    _check_named(label, frame, key=key, version=version)
    columns: list[TargetColumn] = []
    arrays: list[pa.Array] = []
    untyped: list[str] = []
    for name in frame.columns:
        found = introspected.columns.get(name) if introspected else None
        try:
            column, values = _column(name, frame[name], found, is_key=name in key)
        except Misfit as misfit:
            there = f", there of type {found.shown!r}," if found else ""
            raise TableRefused(f"column {name!r} of the frame for table {label!r}{there} {misfit}") from misfit
        if column is None:
            untyped.append(name)
        else:
            columns.append(column)
            arrays.append(values)
    rows = pa.table(arrays, names=[column.name for column in columns])
    target = Target(table=table, label=label, columns=tuple(columns), key=key, version=version)
    _check_key(target, frame, rows)
    return FrameRows(replace(target, is_partitioned=introspected is not None and introspected.kind == "p"), rows, tuple(untyped))


def _column(
    name: str, values: "pd.Series[object]", found: IntrospectedColumn | None, *, is_key: bool
) -> tuple[TargetColumn | None, pa.Array]:
    array = arrow_values(values)
    if found is None:
        type_name = new_type(array)
        if type_name is None:
            return None, array
        kind = frame_type(type_name)
    else:
        type_name, there = found.shown, found_type(found)
        if there is None:
            raise Misfit("cannot be written", "frames are written to no column of that type: leave it out of the frame")
        if found.is_generated or found.is_always_identity:
            raise Misfit("is filled by Postgres itself", "leave it out of the frame")
        kind = there
    taken = staged(array, kind, found)
    if is_key:
        if not kind.is_key or (found and found.folds):
            raise Misfit(
                "is part of the key, for which its values cannot be told apart", "name columns of texts, numbers or times"
            )
        taken = _as_key(taken, type_name)
    compared_as = 'text collate "C"' if found and found.folds else None
    column = TargetColumn(name, type_name, kind.staging, kind.cast, is_nullable=not is_key, compared_as=compared_as)
    return column, taken


def _as_key(values: pa.Array, type_name: str) -> pa.Array:
    """Gives each value one spelling, since 1.0 and 1.00, or 0 and -0, are one key to Postgres."""
    if pa.types.is_floating(values.type):
        return pc.add(values, 0.0)
    if type_name.startswith("numeric"):
        return pa.array([None if each is None else _one_spelling(each) for each in values.to_pylist()], pa.string())
    return values


def _one_spelling(number: str) -> str:
    """Spells the number without Decimal's arithmetic, which rounds to 28 digits."""
    plain = f"{Decimal(number):f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain == "-0" else plain


def _check_names(label: str, frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if not isinstance(name, str) or not name:
            raise TableRefused(f"the frame for table {label!r} has a column named {name!r}: name each column with a string")
        reason = _name_fault(name)
        if reason:
            raise TableRefused(f"the frame for table {label!r} has a column named {name!r}, {reason}: rename it")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise TableRefused(
            f"the frame for table {label!r} has more than one column {repeated[0]!r}: rename one of them, or drop it as in "
            "frame.loc[:, ~frame.columns.duplicated()]"
        )
    if len(frame.columns) > MAX_COLUMNS:
        raise TableRefused(
            f"the frame for table {label!r} has {len(frame.columns):,} columns, and a table of Postgres at most {MAX_COLUMNS:,}: "
            "write some of them as rows, or as JSON in one column"
        )


def _name_fault(name: str) -> str | None:
    """Returns what keeps Postgres, or a statement, from holding the name."""
    try:
        size = len(name.encode())
    except UnicodeError:
        return "with a lone surrogate that UTF-8 cannot say"
    if size > MAX_IDENTIFIER_BYTES:
        return f"which is {size} bytes long and Postgres would cut to {MAX_IDENTIFIER_BYTES}"
    if "\x00" in name:
        return "with a NUL that Postgres cannot hold"
    if name in SYSTEM_COLUMNS or name == ROW_NUMBER:
        return "which is taken"
    return None


def _check_named(label: str, frame: pd.DataFrame, *, key: tuple[str, ...], version: str | None) -> None:
    for name in (*key, *([version] if version else [])):
        if name in frame.columns:
            continue
        hint = "; it is in the index: call reset_index()" if name in frame.index.names else ""
        raise TableRefused(
            f"the frame for table {label!r} has no column {name!r}, which its metadata names as "
            f"{'version' if name == version else 'key'}: its columns are {', '.join(map(repr, frame.columns))}{hint}"
        )


def _check_key(target: Target, frame: pd.DataFrame, rows: pa.Table) -> None:
    label, names = target.label, list(target.key)
    missing = sum(_is_missing(rows, names, len(frame)))
    if missing:
        raise TableRefused(
            f"{missing} rows of the frame for table {label!r} have no value in the key ({', '.join(names)}): "
            "a row without a key cannot be found again; fill it or drop those rows"
        )
    if target.version is not None:
        _check_version(target, frame, rows)
    elif len(frame):
        _check_repeated(label, names, rows)


def _check_repeated(label: str, names: list[str], rows: pa.Table) -> None:
    """Refuses a key that is there twice, where no version says which row is newer."""
    counted = rows.select(names).group_by(names, use_threads=False).aggregate([([], "count_all")])
    repeated = counted.filter(pc.greater(counted["count_all"], 1))
    if repeated.num_rows:
        example = tuple(str(repeated[name][0].as_py()) for name in names)
        raise TableRefused(
            f"the frame for table {label!r} holds the key {example!r} more than once, and no version says which is newest: "
            "drop the duplicates, or name a version column with the metadata sequin_pipeline/version"
        )


def _check_version(target: Target, frame: pd.DataFrame, rows: pa.Table) -> None:
    version = target.version or ""
    if any(_is_missing(rows, [version], len(frame))):
        raise TableRefused(f"some rows of the frame for table {target.label!r} have no version in {version!r}: fill it")
    if target.is_stored(version) and target.column(version).type not in VERSION_TYPES:
        raise TableRefused(
            f"the version column {version!r} of table {target.label!r} is not an integer column: give it dtype int64"
        )


def _is_missing(rows: pa.Table, names: Sequence[str], count: int) -> list[bool]:
    """Says for each row whether one of the columns has no value; a column that tells no type has none at all."""
    if not set(names) <= set(rows.column_names):
        return [True] * count
    flags = [pc.is_null(rows[name], nan_is_null=True).to_numpy() for name in names]
    return [bool(missing) for missing in np.any(flags, axis=0)]
