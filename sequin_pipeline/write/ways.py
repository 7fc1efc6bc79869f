"""This module chooses the way of a batch, makes the bytes for it, and writes them.

Every batch can be merged. Two ways are shorter, and are taken where they are expected to do the same: rows that are all new to the
table are copied into it, and rows that are all older in the table are updated without a look at each. Which way a batch went is
nobody's business: where a short way is refused, the batch is merged.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime

from psycopg import sql

from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import direct_copy, staging
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.direct_copy import CopyBatch, copy_rows
from sequin_pipeline.write.history import BatchHistory
from sequin_pipeline.write.history_table import add_versions
from sequin_pipeline.write.known_rows import Asking
from sequin_pipeline.write.merge import Merged, Waiting, merge_in_parts, merge_rows
from sequin_pipeline.write.plain_update import UpdateBatch, can_update, update_rows
from sequin_pipeline.write.staging import EncodedBatch

Encoded = EncodedBatch | CopyBatch | UpdateBatch
"""This is a batch as bytes, to be merged, copied or updated."""

Parts = Sequence[Sequence[int]]
"""These are rows of a batch by index, to be merged one part after the other; none: all at once."""


def encode_ahead(target: Target, batch: Batch, asking: Asking) -> Encoded | None:
    """Returns the bytes that a batch will probably need, before anybody has asked the table; None where nobody knows."""
    if not asking.is_worthwhile(batch):
        return staging.encode(target, batch)
    return direct_copy.encode(target, batch) if asking.expects_only_new else None


def encode_needed(target: Target, batch: Batch, asking: Asking, ready: Encoded | None, *, is_only_new: bool) -> Encoded:
    """Returns the bytes of what the table needs, all of it new to the table or not; `ready` are its bytes if made ahead of time."""
    if is_only_new and asking.may_copy:
        return ready if isinstance(ready, CopyBatch) else direct_copy.encode(target, batch)
    staged = ready if isinstance(ready, EncodedBatch) else staging.encode(target, batch)
    return UpdateBatch(staged) if asking.expects_only_older and can_update(target, batch) else staged


def encode_to_merge(encoded: Encoded) -> EncodedBatch:
    """Returns the same rows, to be merged."""
    if isinstance(encoded, CopyBatch):
        return staging.encode(encoded.target, encoded.batch)
    return encoded.staged if isinstance(encoded, UpdateBatch) else encoded


def write_rows(
    connection: Connection,
    encoded: Encoded,
    parts: Parts,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None,
    waiting: Waiting = nullcontext,
) -> Merged:
    """Writes the rows of a batch by its way, and its versions, inside the open transaction, which must be rolled back after an error.

    Raises ShortWayRefused where the batch has to be merged, RowsRefused for rows that the table refuses, else psycopg.Error.
    """
    merged = _write_rows(
        connection, encoded, parts, window_starts=window_starts, versions=versions, history=history, waiting=waiting
    )
    staged = encoded.staged if isinstance(encoded, UpdateBatch) else encoded
    return add_versions(connection, staged, merged, in_parts=bool(parts))


def _write_rows(
    connection: Connection,
    encoded: Encoded,
    parts: Parts,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None,
    waiting: Waiting,
) -> Merged:
    if isinstance(encoded, CopyBatch):
        return copy_rows(connection, encoded, waiting=waiting)
    if isinstance(encoded, UpdateBatch):
        return update_rows(connection, encoded.staged, window_starts=window_starts, versions=versions, waiting=waiting)
    if parts:
        return merge_in_parts(connection, encoded, parts, window_starts=window_starts, versions=versions, history=history)
    return merge_rows(connection, encoded, window_starts=window_starts, versions=versions, history=history, waiting=waiting)
