"""This module asks first which rows of a batch the table knows already, told by key, version and hash alone.

Reading known records again then sends 40 bytes a row instead of the row, and rows that are new to the table may be copied straight into
it. Only a saving: whatever is not known beyond doubt goes the way of every other row, and what is known stays known, since versions only
grow.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import LiteralString

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import pq, sql
from psycopg.adapt import Dumper

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.copy_binary import encode_array
from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch, Flags
from sequin_pipeline.write.direct_copy import can_copy
from sequin_pipeline.write.merge import Waiting, pin_plan

WORTHWHILE_SHARE = 0.5
"""Below this share of the last batch's rows that were known, or new, asking costs more than it saves."""

ESCAPE = b"\\u"

PAUSE_BATCHES = 16
"""After a batch that had to be merged, this many more are merged without trying a short way: a failed try costs as much as a merge."""


class _Array(bytes):
    """This value is a column as one parameter, ready to be sent."""


class _ArrayDumper(Dumper):
    """This dumper passes on what was made column by column, as COPY's bytes are.

    psycopg's own lists cost more than the question that they ask.
    """

    format = pq.Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return obj


NEW, OLDER, OTHER_HASH = b"+", b"n", b"d"
"""The table answers so for rows that have to be sent: none is there; an older one is; one of this version with another hash is."""

LACKED = b"h"
"""The table answers so for a row that it knows and its history table does not."""

KNOWN, KNOWN_BY_EARLIER_HASH, REMOVED, STALE = b"=", b"e", b"r", b"s"
"""And these are those that it does not need; of a row that was removed at this version only the version is known."""

Question = Mapping[str, _Array]
"""This is what is sent of a batch to ask; made beforehand, so that nobody waits for Python who could be talking with Postgres."""


@dataclass(frozen=True)
class Answer:
    """This value says what a table knows of a batch: which rows it needs, which of those are new to it, and what became of the others.

    Those are counted by index of the window. `is_known`: the table holds the very row, by its hash. `has_other_hashes`: some rows are
    there at this version, with another hash, which may be an earlier build's, unless those were asked for (`knew_earlier_hashes`):
    then `by_earlier_hash` rows were known by theirs.
    """

    is_needed: Flags = field(repr=False)
    is_new: Flags = field(repr=False)
    is_known: Flags = field(repr=False)
    counts: dict[int, Counts]
    has_other_hashes: bool = False
    knew_earlier_hashes: bool = False
    by_earlier_hash: int = 0


class Asking:
    """This class decides for one lane of a table whether the table is asked before a batch is sent, and what is expected of the batch.

    It is asked while most rows turn out to be known, and while all that is written turns out to be new, which can then be copied.
    That is decided twice for each batch: when its bytes are made, ahead of time, and when they are due, for what the batch before
    came to may have become known only in between. `is_table_empty` as far as anybody knew when the run began; `reads_again`: the run
    reads what has been read before, so that the first batch will probably be known, too.
    """

    def __init__(self, target: Target, *, is_table_empty: bool = False, reads_again: bool = False) -> None:
        self._is_possible = can_be_asked(target)
        self._can_copy = can_copy(target)
        self._finds_known = reads_again and not is_table_empty
        self._finds_new = self._finds_only_new = is_table_empty
        self._finds_only_older = False
        self._pause = 0
        self.meets_earlier_hashes = False

    def is_worthwhile(self, batch: Batch) -> bool:
        """Tells whether to ask first about this batch."""
        return self._is_possible and len(batch) > 0 and (self._finds_known or (self._finds_new and self.may_copy))

    @property
    def reads_lazily(self) -> bool:
        """This is true where most of the next batch will probably be known by its present hash, so that little of it need be read."""
        return self._is_possible and self._finds_known and not self.meets_earlier_hashes

    @property
    def may_copy(self) -> bool:
        """This is true where rows that are new to the table may be copied into it."""
        return self._can_copy and self._pause == 0

    @property
    def expects_only_new(self) -> bool:
        """This is true where the next batch will probably be copied whole."""
        return self._finds_only_new and self.may_copy

    @property
    def expects_only_older(self) -> bool:
        """This is true where the table probably has an older version of every row of the next batch."""
        return self._finds_only_older and self._pause == 0

    def pause(self) -> None:
        """Notes that the batch had to be merged: some of those after it are merged as well."""
        self._pause = PAUSE_BATCHES

    def learn(self, counts: Counts) -> None:
        """Notes what became of the last batch."""
        worthwhile = WORTHWHILE_SHARE * counts.fetched
        known, written = counts.unchanged + counts.stale, counts.inserted + counts.updated + counts.deleted
        self._finds_known = counts.fetched > 0 and known >= worthwhile
        # One changed row has the whole batch staged: to ask would then cost, and save nothing.
        self._finds_new = counts.created > 0 and written == counts.created and known + written >= worthwhile
        self._finds_only_new = self._finds_new and known == 0
        self._finds_only_older = written > 0 and known + counts.created + counts.rewritten == 0
        self._pause = max(0, self._pause - 1)

    def learn_hashes(self, by_earlier_hash: int, *, rows: int) -> None:
        """Notes how many rows of a batch were known by an earlier build's hash only: while most are, both are asked for at once."""
        self.meets_earlier_hashes = by_earlier_hash >= WORTHWHILE_SHARE * rows


def can_be_asked(target: Target) -> bool:
    """Says whether the table tells what it knows: only a hash tells equal rows without sending them."""
    return target.content_hash is not None and target.trusts_hash and target.version is not None and len(target.key) == 1


def build_question(target: Target, batch: Batch, earlier: pa.Array | None = None) -> Question:
    """Makes what is asked of a table that can be asked; `earlier` are the hashes that earlier builds would have stored."""
    assert target.version is not None  # noqa: S101 - Asking
    assert target.content_hash is not None  # noqa: S101
    columns = {
        "ids": (batch.column(target.key[0]), "text"),
        "versions": (batch.column(target.version), "bigint"),
        "hashes": (batch.column(target.content_hash), "uuid"),
        "tombstones": (batch.column(target.tombstone) if target.tombstone else _no_tombstones(len(batch)), "boolean"),
    }
    if earlier is not None:
        columns["earlier"] = (pa.chunked_array([earlier]), "uuid")
    return {name: _Array(encode_array(values, element_type)) for name, (values, element_type) in columns.items()}


def ask(
    connection: Connection,
    target: Target,
    batch: Batch,
    question: Question,
    *,
    versions: sql.Identifier,
    waiting: Waiting = nullcontext,
) -> Answer:
    """Returns what the table knows of the batch.

    One read in a transaction of its own; leans on the unique index of the target's key. Raises psycopg.Error.
    """
    knows_earlier = "earlier" in question
    statement = _statement(target, versions, knows_earlier=knows_earlier)
    try:
        with connection.transaction():
            pin_plan(connection)
            connection.adapters.register_dumper(_Array, _ArrayDumper)
            with waiting():
                told: str = fetch_value(connection, statement, {**question, "table": str(target.table)})
    except psycopg.errors.UntranslatableCharacter:
        # A key that a database of this encoding cannot hold: the merge finds it.
        nothing = np.zeros(len(batch), dtype=bool)
        return Answer(~nothing, nothing, nothing, {})
    fates = np.frombuffer(told.encode("ascii"), dtype="S1")
    is_new, is_other, is_stale = fates == NEW, fates == OTHER_HASH, fates == STALE
    is_needed = is_new | is_other | (fates == OLDER) | (fates == LACKED)
    if target.history is not None or target.history_table is not None:
        # The merge logs what it finds to be stale, and a history table takes it.
        is_needed, is_stale = is_needed | is_stale, np.zeros_like(is_stale)
    # A tombstone that carries an object of its own batch may yet change the row: its hash does not cover that object.
    is_needed |= batch.carries & ~is_stale
    if target.rechecks_text:
        is_needed |= _has_more_than_ascii(target, batch) & ~is_stale
    return Answer(
        is_needed,
        is_new,
        (fates == KNOWN) & ~is_needed,
        _counts(batch, is_needed, is_stale),
        has_other_hashes=bool(is_other.any()),
        knew_earlier_hashes=knows_earlier,
        by_earlier_hash=int((fates == KNOWN_BY_EARLIER_HASH).sum()),
    )


def _has_more_than_ascii(target: Target, batch: Batch) -> Flags:
    names = [column.name for column in target.stored if column.staging == "text"]
    delivered = batch.delivered
    found = np.zeros(len(delivered), dtype=bool)
    for name in names:
        if name in delivered.column_names:
            found |= ~pc.string_is_ascii(_texts(delivered.column(name))).fill_null(True).to_numpy(zero_copy_only=False)
    if not set(names) <= set(delivered.column_names):
        # What has not been read yet may hold what is an escape in the object.
        found |= _has_escapes(delivered.column(target.data or ""))
    return found[batch.order]


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_list(values.type):
        return pa.chunked_array([pa.array(["".join(filter(None, item or ())) for item in values.to_pylist()], pa.string())])
    return values.cast(pa.string())


def _has_escapes(objects: pa.ChunkedArray) -> Flags:
    """Tells which objects may hold a character as an escape; that there is none at all is found in a tenth of the time."""
    buffers = (chunk.buffers()[-1] for chunk in objects.chunks)
    contents = (b"" if buffer is None else buffer.to_pybytes() for buffer in buffers)
    # One character is looked for ten times as fast as two.
    if not any(ESCAPE[:1] in content and ESCAPE in content for content in contents):
        return np.zeros(len(objects), dtype=bool)
    return np.asarray(pc.match_substring(objects, ESCAPE.decode()).fill_null(False))


def _no_tombstones(rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(np.zeros(rows, dtype=bool))])


def _counts(batch: Batch, is_needed: Flags, is_stale: Flags) -> dict[int, Counts]:
    stale = Counter(batch.windows[is_stale].tolist())
    unchanged = Counter(batch.windows[~is_needed & ~is_stale].tolist())
    return {window: Counts(unchanged=unchanged[window], stale=stale[window]) for window in sorted(stale | unchanged)}


def _statement(target: Target, versions: sql.Identifier, *, knows_earlier: bool) -> sql.Composed:
    """Composes one character for each row of the question, in its order, in one text: a row of an answer costs as much as a probe."""
    # A stored version above the incoming one is stale by now.
    version: LiteralString = "" if target.observes_time else "t.version = s.version and "
    earlier: LiteralString = f"when {version}t.hash = s.earlier then 'e' " if knows_earlier else ""
    equal = f"when {version}t.hash = s.hash then '=' {earlier}when {version}t.hash is not null then 'd' else 'n' end"
    fate: sql.Composable
    if target.removes:
        fate = sql.SQL(
            "case when t.version > s.version or k.updated_idx > s.version then 's' when s.is_deleted then"
            " case when k.updated_idx = s.version and t.version is null then 'r' else 'n' end " + equal
        )
    elif target.remembers:
        fate = sql.SQL("case when t.version > s.version or k.updated_idx > s.version then 's' " + equal)
    else:
        fate = sql.SQL("case when t.is_there is null then '+' when t.version > s.version then 's' " + equal)
    if target.history_table is not None:
        fate = _unless_lacked(target, fate, knows_earlier=knows_earlier)
    removed = sql.SQL(
        " left join lateral (select k.updated_idx from {} k where k.table_name = %(table)s and k.id = s.id offset 0) k on true"
    )
    return sql.SQL(
        "select string_agg({fate}, '' order by s.ordinal)"
        " from unnest(%(ids)s::text[], %(versions)s::bigint[], %(hashes)s::uuid[], %(tombstones)s::boolean[]{arrays})"
        " with ordinality s (id, version, hash, is_deleted{names}, ordinal)"
        " left join lateral (select true as is_there, t.{version} as version, t.{hash} as hash from {table} t where t.{key} = s.id"
        " offset 0) t on true{removed}"
    ).format(
        version=sql.Identifier(target.version or ""),
        hash=sql.Identifier(target.content_hash or ""),
        table=sql.Identifier(target.table.schema, target.table.name),
        key=sql.Identifier(target.key[0]),
        removed=removed.format(versions) if target.remembers else sql.SQL(""),
        fate=fate,
        arrays=sql.SQL(", %(earlier)s::uuid[]" if knows_earlier else ""),
        names=sql.SQL(", earlier" if knows_earlier else ""),
    )


def _unless_lacked(target: Target, fate: sql.Composable, *, knows_earlier: bool) -> sql.Composed:
    """Composes the fate of a row, but where its history table lacks a version that the table knows."""
    assert target.history_table is not None  # noqa: S101 - the caller asked
    history = target.history_table.name
    hashes: LiteralString = "(s.hash, s.earlier)" if knows_earlier else "(s.hash)"
    version: LiteralString = "" if target.observes_time else " and n.updated_idx = s.version"
    lacked = sql.SQL(f"not exists (select from {{}} n where n.id = s.id{version} and n.content_hash in {hashes})").format(
        sql.Identifier(history.schema, history.name)
    )
    return sql.SQL(
        "(select case when told.fate in ('=', 'e', 'r') and {} then 'h' else told.fate end from (select {} as fate offset 0) told)"
    ).format(lacked, fate)
