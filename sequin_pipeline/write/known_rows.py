"""This module asks first which rows of a batch the table knows already, told by key, version and hash alone.

A replay sends 40 bytes a row instead of the row. Only a saving: whatever is not known beyond doubt goes the way of every other row, and
what is known stays known, since versions only grow.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import pq, sql
from psycopg.adapt import Dumper
from psycopg.rows import args_row

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.copy_binary import encode_array
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch, Flags
from sequin_pipeline.write.merge import Waiting, pin_plan

WORTHWHILE_SHARE = 0.5
"""Below this share of the last batch's rows that were known, asking costs more than it saves."""


class _Array(bytes):
    """This value is a column as one parameter, ready to be sent."""


class _ArrayDumper(Dumper):
    """This dumper passes on what was made column by column, as COPY's bytes are.

    psycopg's own lists cost more than the question that they ask.
    """

    format = pq.Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return obj


Question = Mapping[str, _Array]
"""This is what is sent of a batch to ask; made beforehand, so that nobody waits for Python who could be talking with Postgres."""


class Asking:
    """This class decides for one lane of a table whether the table is asked before a batch is sent.

    It is while most rows turn out to be known. Asked twice of each batch: when its bytes are made, ahead of time, and when they
    are due, for what the batch before came to may have become known only in between.
    """

    def __init__(self, target: Target) -> None:
        # Only a hash tells equal rows without sending them.
        self._is_possible = (
            target.content_hash is not None and target.trusts_hash and target.version is not None and len(target.key) == 1
        )
        self._known_share = 0.0

    def is_worthwhile(self, batch: Batch) -> bool:
        """Tells whether to ask first about this batch."""
        return self._is_possible and len(batch) > 0 and self._known_share >= WORTHWHILE_SHARE

    def learn(self, counts: Counts) -> None:
        """Takes in what became of the last batch."""
        self._known_share = (counts.unchanged + counts.stale) / counts.fetched if counts.fetched else 0.0


def build_question(target: Target, batch: Batch) -> Question:
    """Makes what is asked of a table that can be asked."""
    assert target.version is not None  # noqa: S101 - Asking
    assert target.content_hash is not None  # noqa: S101
    columns = {
        "ids": (batch.column(target.key[0]), "text"),
        "versions": (batch.column(target.version), "bigint"),
        "hashes": (batch.column(target.content_hash), "uuid"),
        "tombstones": (batch.column(target.tombstone) if target.tombstone else _no_tombstones(len(batch)), "boolean"),
    }
    return {name: _Array(encode_array(values, element_type)) for name, (values, element_type) in columns.items()}


def ask(
    connection: Connection,
    target: Target,
    batch: Batch,
    question: Question,
    *,
    versions: sql.Identifier,
    waiting: Waiting = nullcontext,
) -> tuple[Flags, dict[int, Counts]]:
    """Returns for each row of the batch whether it has to be sent, and what became of the others by index of the window.

    One read in a transaction of its own; leans on the unique index of the target's key. Raises psycopg.Error.
    """
    try:
        with connection.transaction(), connection.cursor(row_factory=args_row(_answer)) as cursor:
            cursor.adapters.register_dumper(_Array, _ArrayDumper)
            pin_plan(connection)
            with waiting():
                answered = cursor.execute(_statement(target, versions), {**question, "table": str(target.table)}).fetchall()
    except psycopg.errors.UntranslatableCharacter:
        # A key that a database of this encoding cannot hold: the merge finds it.
        return np.ones(len(batch), dtype=bool), {}
    is_needed = np.zeros(len(batch), dtype=bool)
    is_stale = np.zeros(len(batch), dtype=bool)
    for ordinal, fate in answered:
        (is_needed if fate == "needed" else is_stale)[ordinal - 1] = True
    if target.history is not None:
        # The merge logs what it finds to be stale.
        is_needed, is_stale = is_needed | is_stale, np.zeros_like(is_stale)
    # A tombstone that carries an object of its own batch may yet change the row: its hash does not cover that object.
    is_needed |= batch.carries & ~is_stale
    if target.rechecks_text:
        is_needed |= _has_more_than_ascii(target, batch) & ~is_stale
    return is_needed, _counts(batch, is_needed, is_stale)


def _answer(ordinal: int, fate: str) -> tuple[int, str]:
    return ordinal, fate


def _has_more_than_ascii(target: Target, batch: Batch) -> Flags:
    found = np.zeros(len(batch.delivered), dtype=bool)
    for column in target.stored:
        if column.staging == "text":
            values = batch.delivered.column(column.name)
            if pa.types.is_list(values.type):
                values = pa.chunked_array(
                    [pa.array(["".join(filter(None, item or ())) for item in values.to_pylist()], pa.string())]
                )
            found |= ~pc.string_is_ascii(values.cast(pa.string())).fill_null(True).to_numpy(zero_copy_only=False)
    return found[batch.order]


def _no_tombstones(rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(np.zeros(rows, dtype=bool))])


def _counts(batch: Batch, is_needed: Flags, is_stale: Flags) -> dict[int, Counts]:
    stale = Counter(batch.windows[is_stale].tolist())
    unchanged = Counter(batch.windows[~is_needed & ~is_stale].tolist())
    return {window: Counts(unchanged=unchanged[window], stale=stale[window]) for window in sorted(stale | unchanged)}


def _statement(target: Target, versions: sql.Identifier) -> sql.Composed:
    # A stored version above the incoming one is stale by now.
    version = "" if target.observes_time else "t.version = s.version and "
    equal = f"when {version}t.hash = s.hash then 'unchanged' else 'needed' end"
    if target.removes:
        fate = sql.SQL(
            "case when t.version > s.version or k.updated_idx > s.version then 'stale' when s.is_deleted then"
            " case when k.updated_idx = s.version and t.version is null then 'unchanged' else 'needed' end " + equal
        )
    elif target.remembers:
        fate = sql.SQL("case when t.version > s.version or k.updated_idx > s.version then 'stale' " + equal)
    else:
        fate = sql.SQL("case when t.version > s.version then 'stale' " + equal)
    removed = sql.SQL(
        " left join lateral (select k.updated_idx from {} k where k.table_name = %(table)s and k.id = s.id offset 0) k on true"
    )
    return sql.SQL(
        "select s.ordinal, v.fate"
        " from unnest(%(ids)s::text[], %(versions)s::bigint[], %(hashes)s::uuid[], %(tombstones)s::boolean[])"
        " with ordinality s (id, version, hash, is_deleted, ordinal)"
        " left join lateral (select t.{version} as version, t.{hash} as hash from {table} t where t.{key} = s.id offset 0) t on true"
        "{removed} cross join lateral (select {fate} as fate) v where v.fate <> 'unchanged'"
    ).format(
        version=sql.Identifier(target.version or ""),
        hash=sql.Identifier(target.content_hash or ""),
        table=sql.Identifier(target.table.schema, target.table.name),
        key=sql.Identifier(target.key[0]),
        removed=removed.format(versions) if target.remembers else sql.SQL(""),
        fate=fate,
    )
