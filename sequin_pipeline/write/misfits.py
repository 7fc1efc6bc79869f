"""This module takes rows whose values an unmanaged table would change in silence out of their frame; they become rejects. Pure.

Rows with elements that an unmanaged child table would change are taken out, too.

Everything else that a table refuses, Postgres says itself (bad_rows.py).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.normalize.normalizer import NormalizedPages, Reject
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from sequin_pipeline.table.target import PARENT_ID, TENANT_COLUMNS, ChildTarget, Target, TargetColumn
from sequin_pipeline.table.type_limits import rounded


def take_out_misfits(target: Target, page: NormalizedPages) -> NormalizedPages:
    """Returns the pages with only the rows that the table's types take as they are.

    Times are rounded where the declaration asks for it.
    """
    limited = [column for column in target.columns if column.limits or column.rounds_to is not None]
    of_children = [(child, column) for child in target.children for column in child.target.stored if column.limits]
    if not (limited or of_children) or page.frame.empty:
        return page
    rounding = {column.name: column.rounds_to for column in limited if column.rounds_to is not None}
    frame = page.frame.assign(**{name: _rounded(page.frame[name], digits) for name, digits in rounding.items()})
    is_kept = np.ones(len(frame), dtype=bool)
    reasons: dict[int, list[str]] = {}
    for column in limited:
        for row, expected in misfits(column, pa.Array.from_pandas(frame[column.name])):
            is_kept[row] = False
            reasons.setdefault(row, []).append(f"column {column.table_name!r} of the table takes {expected}")
    for child, column in of_children:
        for row, expected in _misfits_of_elements(target, child, column, frame):
            is_kept[row] = False
            reasons.setdefault(row, []).append(f"column {column.table_name!r} of table {child.target.table} takes {expected}")
    if is_kept.all():
        return replace(page, frame=frame)
    rejects = tuple(
        Reject(
            record_id=str(frame[target.record_id].iloc[row]),
            raw=page.raw_record(int(frame[ROW_NUMBER].iloc[row])),
            reason="; ".join(found),
            reject_class="value",
        )
        for row, found in sorted(reasons.items())
    )
    return replace(page, frame=frame[is_kept].reset_index(drop=True), rejects=(*page.rejects, *rejects))


def misfits(column: TargetColumn, values: pa.Array) -> list[tuple[int, str]]:
    """Returns the rows whose values the column would change in silence, with what it takes; a row once for each limit."""
    found = []
    for limit in column.limits:
        keeps = limit.keeps(values).fill_null(True).to_numpy(zero_copy_only=False)
        found += [(int(row), limit.expected) for row in np.flatnonzero(~keeps)]
    return found


def _misfits_of_elements(target: Target, child: ChildTarget, column: TargetColumn, frame: pd.DataFrame) -> list[tuple[int, str]]:
    """Returns the rows with such elements, each once for a limit."""
    lists = _array(frame[child.declared.frame_name])
    record_of = pc.list_parent_indices(lists)
    of_record = {PARENT_ID: target.key[0], **{name: name for name in (*TENANT_COLUMNS, target.version, target.tombstone) if name}}
    if column.name in of_record:
        values = _array(frame[of_record[column.name]]).take(record_of)
    else:
        values = pc.struct_field(pc.list_flatten(lists), column.name)
    return list(dict.fromkeys((int(record_of[element].as_py()), expected) for element, expected in misfits(column, values)))


def _array(values: "pd.Series[object]") -> pa.Array:
    found = pa.array(values.array)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _rounded(values: "pd.Series[object]", digits: int) -> pd.api.extensions.ExtensionArray:
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([rounded(pa.Array.from_pandas(values), digits)]))
