"""The merge: one batch into its table, in one statement that locks rows of the target.

For any order, repetition and overlap of merges, the table ends as the fold of what was delivered: for each key the greatest version,
among equal ones the last. Where versions are times of observation, a row that holds already what a newer one brings keeps its own.
Rows already known are not touched: no tuple, no row lock. The ledger is not written here.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.batch import OBJECT_VERSION
from sequin_pipeline.history import BatchHistory
from sequin_pipeline.staging import Cursor, EncodedBatch, Staging, fill
from sequin_pipeline.target import Target, TargetColumn
from sequin_pipeline.versions import lock_buckets
from sequin_pipeline.warehouse import Connection

STAGED = sql.SQL("s")
EXCLUDED = sql.SQL("excluded")
_SHARED_BY_ENTRIES = sql.SQL("%(batch)s::uuid, %(run)s, %(mode)s, now() + %(keep)s")
WRITING_VERDICTS = ("new", "newer", "rewrite", "rewrite of a tombstone")


@dataclass(frozen=True)
class MergeCounts:
    """What became of the staged rows of one window, and what that did to the table: `created` and `removed` are the rows it gained
    and lost, `rewritten` those whose content changed at a version that was stored already."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    stale: int = 0
    created: int = 0
    removed: int = 0
    rewritten: int = 0

    @property
    def staged(self) -> int:
        """Every staged row is counted once."""
        return self.inserted + self.updated + self.deleted + self.unchanged + self.stale

    def __add__(self, other: "MergeCounts") -> "MergeCounts":
        mine, theirs = asdict(self), asdict(other)
        return MergeCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Merged:
    """Counts by index of the window, bytes copied, seconds per stage."""

    counts: dict[int, MergeCounts]
    copied_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def write(
    connection: Connection,
    encoded: EncodedBatch,
    *,
    window_starts: Sequence[datetime],
    versions: sql.Identifier,
    history: BatchHistory | None = None,
) -> Merged:
    """Copies and merges inside the open transaction, which must be read committed.

    `versions` is the ledger's table of removed rows; `history` None: nothing is logged. Raises psycopg.Error; then the
    transaction, or its savepoint, must be rolled back.
    """
    if encoded.batch.rows.num_rows == 0:
        return Merged({})
    windows = encoded.batch.windows
    is_one_window = windows.min() == windows.max()
    statements = MergeStatements(
        target=encoded.target,
        staging=encoded.staging,
        versions=versions,
        has_windows=not is_one_window,
        has_bare_tombstones=encoded.batch.has_bare_tombstones,
        history=history.table if history else None,
    )
    parameters: dict[str, object] = {"starts": None if is_one_window else list(window_starts), "table": str(encoded.target.table)}
    if history is not None:
        parameters |= history.parameters()
    started = time.perf_counter()
    with connection.cursor() as cursor:
        pin_plan(cursor)
        fill(cursor, encoded)
        copied = time.perf_counter()
        if encoded.target.removes:
            lock_buckets(cursor, encoded.target, encoded.batch.rows)
        cursor.execute(merge_statement(statements), parameters)
        tallies = {int(str(window)): (int(str(staged)), _counts(row)) for window, staged, *row in cursor.fetchall()}
        if any(staged != counts.staged for staged, counts in tallies.values()):
            if history is not None:
                cursor.execute(statements.log_outranked(), parameters)
            cursor.execute(statements.count_equal(), parameters)
            equal_now = {int(str(window)): int(str(equal)) for window, equal in cursor.fetchall()}
            tallies = {
                window: (staged, _settled(staged, counts, equal_now.get(window, 0)))
                for window, (staged, counts) in tallies.items()
            }
    merged = time.perf_counter()
    return Merged(
        {int(windows[0]) if is_one_window else window: counts for window, (_, counts) in tallies.items()},
        copied_bytes=len(encoded.payload),
        seconds={"copy": copied - started, "merge": merged - copied},
    )


def _counts(row: Iterable[object]) -> MergeCounts:
    return MergeCounts(*(int(str(value)) for value in row))


def _settled(staged: int, counts: MergeCounts, equal_now: int) -> MergeCounts:
    """Rows that a concurrent writer took between the snapshot and their lock came back from nowhere. The second look is exact, for
    this transaction now holds those rows: what stands there as staged is unchanged, the rest has been outranked."""
    applied = counts.inserted + counts.updated + counts.deleted
    unchanged = max(0, equal_now - applied)
    rewritten = min(counts.rewritten, counts.updated + counts.deleted)
    return MergeCounts(
        **{**asdict(counts), "unchanged": unchanged, "stale": staged - applied - unchanged, "rewritten": rewritten}
    )


def pin_plan(cursor: Cursor) -> None:
    """Until the transaction ends."""
    # Staging outside, the key's index inside, always. On a table that was analyzed while empty the planner's own choice is quadratic;
    # and what the pinned plan is said to cost would have every batch compiled for 200 ms where the server has JIT.
    cursor.execute(
        "select set_config(name, 'off', true) from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit']) name"
    )


@dataclass(frozen=True)
class MergeStatements:
    """The statements for one shape of batch. In them `t` is the target, `s` staging, `k` the version of a removed row.

    Parameters: `starts` (timestamptz[], when `has_windows`), `table` (the target's name in the ledger, when rows are removed) and, with
    a `history`, those of BatchHistory.
    """

    target: Target
    staging: Staging
    versions: sql.Identifier = field(hash=False)  # equality is enough to tell two ledgers apart
    has_windows: bool = False
    has_bare_tombstones: bool = False
    history: sql.Identifier | None = field(default=None, hash=False)

    @property
    def keeps_objects(self) -> bool:
        """Some tombstones of the batch leave the stored object as it is."""
        return self.has_bare_tombstones and not self.target.removes

    def merge(self) -> sql.Composed:
        """Classify against one snapshot, write what is new, return one row a window: its index, the staged rows, MergeCounts.

        Leans on the unique index of the target's key: a probe for each staged row.
        """
        parts: list[sql.Composable] = [self._seen()]
        if self.keeps_objects:
            parts.append(self._carried())
        if self.target.removes:
            parts += [self._remembered(), self._removed()]
        parts.append(self._written())
        if self.history is not None:
            parts.append(self._logged())
        return sql.SQL("with {} {}").format(sql.SQL(", ").join(parts), self._tally())

    def count_equal(self) -> sql.Composed:
        """By window, how many staged rows the target holds now exactly as staged (a removed one: is remembered at this version)."""
        equal = "t.{v} <= s.{v} and " if self.target.observes_time else "t.{v} = s.{v} and "
        version = sql.SQL(equal).format(**self._names) if self.target.version else sql.SQL("")
        removed = sql.SQL(
            " or (s.{d} and exists (select from {versions} k"
            " where k.table_name = %(table)s and k.id = s.{key} and k.updated_idx = s.{v}))"
        )
        return sql.SQL(
            "select {window}, count(*) from {staging} s"
            " left join lateral (select true as is_equal from {table} t where {key_equal} and {version}{same} offset 0) t on true"
            " where t.is_equal{removed} group by 1"
        ).format(
            **self._names,
            window=self._window(STAGED),
            version=version,
            same=self._same(STAGED),
            removed=removed.format(**self._names) if self.target.removes else sql.SQL(""),
        )

    @property
    def _names(self) -> dict[str, sql.Composable]:
        target = self.target
        return {
            "table": sql.Identifier(target.table.schema, target.table.name),
            "staging": self.staging.identifier,
            "versions": self.versions,
            "key": sql.Identifier(target.key[0]),
            "v": sql.Identifier(target.version or ""),
            "d": sql.Identifier(target.tombstone or ""),
            "o": sql.Identifier(OBJECT_VERSION),
            "key_equal": sql.SQL(" and ").join(sql.SQL("t.{k} = s.{k}").format(k=sql.Identifier(name)) for name in target.key),
        }

    def _seen(self) -> sql.Composed:
        """Narrow on purpose: where each staged row stands and what is to become of it, not the wide row."""
        removed = sql.SQL(
            " left join lateral (select k.updated_idx from {versions} k"
            " where k.table_name = %(table)s and k.id = s.{key} offset 0) k on true"
        )
        # offset 0 keeps the planner from pulling the probe up into a join over the whole table.
        return sql.SQL(
            "seen as materialized (select s.ctid as tid, {window} as window_index, {verdict} as verdict{stored} from {staging} s"
            " left join lateral (select t.ctid as tid, {version} as version, {same} as is_same, {was_deleted} as was_deleted"
            " from {table} t where {key_equal} offset 0) t on true{removed})"
        ).format(
            **self._names,
            window=self._window(STAGED),
            verdict=self._verdict().format(**self._names),
            stored=sql.SQL("" if self.history is None else f", {self._stored_version} as stored_version"),
            version=sql.SQL("t.{v}").format(**self._names) if self.target.version else sql.SQL("null::bigint"),
            same=self._same(STAGED),
            was_deleted=sql.SQL("t.{d}").format(**self._names) if self.target.tombstone else sql.SQL("false"),
            removed=removed.format(**self._names) if self.target.remembers else sql.SQL(""),
        )

    def _verdict(self) -> sql.SQL:
        if self.target.version is None:
            return sql.SQL("case when t.tid is null then 'new' when t.is_same then 'unchanged' else 'newer' end")
        outranked = "when k.updated_idx > s.{v} then 'stale' " if self.target.has_removed_rows else ""
        newer, unchanged = "when t.version < s.{v} then 'newer' ", "when t.is_same then 'unchanged' "
        live = f"{outranked}when t.tid is null then 'new' when t.version > s.{{v}} then 'stale' " + (
            unchanged + newer if self.target.observes_time else newer + unchanged
        )
        if self.target.removes:
            return sql.SQL(
                "case when t.version > s.{v} or k.updated_idx > s.{v} then 'stale'"
                " when s.{d} then case when k.updated_idx = s.{v} and t.tid is null then 'unchanged' else 'gone' end "
                + live
                + "else 'rewrite' end"
            )
        if self.target.tombstone is None:
            return sql.SQL("case " + live + "else 'rewrite' end")
        return sql.SQL("case " + live + "when t.was_deleted and s.{d} then 'rewrite of a tombstone' else 'rewrite' end")

    def _same(self, incoming: sql.SQL) -> sql.Composed:
        """Does row `t` hold already what `incoming` brings? An equal hash says yes, but for an object that was carried over and is not
        in the hash; an unequal one is settled by the columns."""
        compared = self.target.compared
        if self.has_bare_tombstones:
            by_columns = sql.SQL("({envelope} and ({keeps} or {objects}))").format(
                envelope=_all_equal([column for column in compared if not column.is_object], incoming),
                keeps=self._keeps(incoming),
                objects=_all_equal([column for column in compared if column.is_object], incoming),
            )
        else:
            by_columns = _all_equal(compared, incoming)
        if self.target.content_hash is None:
            return by_columns
        hashed = sql.SQL(" and (not {i}.{d} or {keeps})").format(**self._names, i=incoming, keeps=self._keeps(incoming))
        return sql.SQL("case {other_version}when t.{hash} = {i}.{hash}{hashed} then true else {columns} end").format(
            **self._names,
            i=incoming,
            other_version=sql.SQL("" if self.target.observes_time else "when t.{v} <> {i}.{v} then false ").format(
                **self._names, i=incoming
            ),
            hash=sql.Identifier(self.target.content_hash),
            hashed=hashed if self.has_bare_tombstones else sql.SQL(""),
            columns=by_columns,
        )

    def _keeps(self, incoming: sql.SQL) -> sql.Composed:
        """Does the incoming row leave the stored object as it is? A bare tombstone does, unless its batch carried an object over
        from a version that outranks the stored row. `excluded` has the target's columns only and asks `carried`."""
        if incoming is STAGED:
            return sql.SQL("(s.{d} and (s.{o} is null or s.{o} < t.{v}))").format(**self._names)
        if not self.keeps_objects:
            return sql.SQL("false").format()
        return sql.SQL(
            "(excluded.{d} and coalesce((select carried.object_version < t.{v} from carried where carried.id = excluded.{key}),"
            " excluded.{data} is null))"
        ).format(**self._names, data=sql.Identifier(self.target.data or ""))

    def _carried(self) -> sql.Composed:
        return sql.SQL(
            "carried as materialized (select s.{key} as id, s.{o} as object_version from {staging} s where s.{d} and s.{o} is not null"
            " and (s.{o} < s.{v} or s.{data} is null))"
        ).format(**self._names, data=sql.Identifier(self.target.data or ""))

    def _written(self) -> sql.Composed:
        target = self.target
        stamps = [sql.Identifier(name) for name in (target.created_at, target.changed_at) if name]
        return sql.SQL(
            "written as (insert into {table} as t ({columns})"
            " select {values} from seen join {staging} s on s.ctid = seen.tid where seen.verdict = any({writing})"
            " on conflict ({keys}) do update set {assignments} where {guard}"
            " returning (t.xmax = 0) as is_created, {is_deleted} as is_deleted, {window} as window_index{told})"
        ).format(
            **self._names,
            columns=sql.SQL(", ").join([*(sql.Identifier(column.name) for column in target.columns), *stamps]),
            values=sql.SQL(", ").join(
                [*(_value(column, STAGED) for column in target.columns), *(sql.SQL("now()") for _ in stamps)]
            ),
            writing=sql.Literal(list(WRITING_VERDICTS)),
            keys=sql.SQL(", ").join(map(sql.Identifier, target.key)),
            assignments=self._assignments(),
            guard=self._guard(),
            is_deleted=sql.SQL("t.{d}").format(**self._names) if target.tombstone else sql.SQL("false"),
            window=self._window(sql.SQL("t")),
            told=sql.SQL("" if self.history is None else ", t.{key} as id, t.{v} as version").format(**self._names),
        )

    @property
    def _stored_version(self) -> LiteralString:
        return "coalesce(t.version, k.updated_idx)" if self.target.remembers else "t.version"

    def _logged(self) -> sql.Composed:
        """What became of each row that was not unchanged; one that lost to a concurrent writer has no fate yet. Rows seen and rows written
        are brought together by grouping: a join of two results without an index would be quadratic under the pinned plan."""
        return sql.SQL(
            "logged as ({insert} select %(table)s, told.id, told.version, told.fate, told.stored_version, {shared} from ("
            "select id, max(version) as version, max(stored_version) as stored_version, case"
            " when bool_or(is_written) and bool_or(is_deleted) and max(verdict) <> 'rewrite of a tombstone' then 'deleted'"
            " when bool_or(is_created) then 'inserted' when bool_or(is_written) then 'updated'"
            " when max(verdict) = 'gone' then 'deleted' when max(verdict) = 'stale' then 'stale' end as fate"
            " from (select s.{key} as id, s.{v} as version, seen.stored_version, seen.verdict, false as is_written,"
            " false as is_created, false as is_deleted from seen join {staging} s on s.ctid = seen.tid where seen.verdict <> 'unchanged'"
            " union all select id, version, null, null, true, is_created, is_deleted from written) one group by id) told"
            " where told.fate <> 'stale' or (told.fate = 'stale' and not {is_logged}))"
        ).format(
            **self._names,
            insert=self._log_insert(),
            shared=_SHARED_BY_ENTRIES,
            is_logged=self._is_logged(sql.SQL("told.id"), sql.SQL("told.version")),
        )

    def log_outranked(self) -> sql.Composed:
        """A second look, at rows that lost to a concurrent writer after they had been seen: they are stale, or unchanged, now."""
        return sql.SQL(
            "with {seen} {insert} select %(table)s, s.{key}, s.{v}, 'stale', seen.stored_version, {shared}"
            " from seen join {staging} s on s.ctid = seen.tid where seen.verdict = 'stale' and not {is_logged}"
        ).format(
            **self._names,
            seen=self._seen(),
            insert=self._log_insert(),
            shared=_SHARED_BY_ENTRIES,
            is_logged=self._is_logged(sql.SQL("s.{key}").format(**self._names), sql.SQL("s.{v}").format(**self._names)),
        )

    def _log_insert(self) -> sql.Composed:
        assert self.history is not None  # noqa: S101 - asked for by the callers
        return sql.SQL(
            "insert into {} (table_name, record_id, version, fate, stored_version, batch_id, run_id, mode, expires_at)"
        ).format(self.history)

    def _is_logged(self, record_id: sql.Composable, version: sql.Composable) -> sql.Composed:
        """Leans on history (table_name, record_id, at)."""
        assert self.history is not None  # noqa: S101 - asked for by the callers
        return sql.SQL(
            "exists (select from {history} h where h.table_name = %(table)s and h.record_id = {record_id}"
            " and h.version = {version} and h.fate = 'stale')"
        ).format(history=self.history, record_id=record_id, version=version)

    def _assignments(self) -> sql.Composed:
        objects = [column for column in self.target.columns if column.is_object] if self.keeps_objects else []
        assignments: list[sql.Composable] = [
            sql.SQL("{n} = excluded.{n}").format(n=sql.Identifier(column.name))
            for column in self.target.columns
            if column.name not in self.target.key and column not in objects
        ]
        if self.target.changed_at:
            assignments.append(sql.SQL("{} = now()").format(sql.Identifier(self.target.changed_at)))
        if objects:
            kept = [
                sql.SQL("case when kept.is_kept then t.{n} else excluded.{n} end").format(n=sql.Identifier(column.name))
                for column in objects
            ]
            assignments.append(
                sql.SQL("({names}) = (select {kept} from (select {keeps} as is_kept offset 0) kept)").format(
                    names=sql.SQL(", ").join(sql.Identifier(column.name) for column in objects),
                    kept=sql.SQL(", ").join(kept),
                    keeps=self._keeps(EXCLUDED),
                )
            )
        return sql.SQL(", ").join(assignments)

    def _guard(self) -> sql.Composed:
        """What the row must be, once locked, for the incoming one to outrank it."""
        if self.target.version is None:
            return sql.SQL("not {}").format(self._same(EXCLUDED))
        outranks = (
            "t.{v} <= excluded.{v} and not {same}"
            if self.target.observes_time
            else "t.{v} < excluded.{v} or (t.{v} = excluded.{v} and not {same})"
        )
        return sql.SQL(outranks).format(**self._names, same=self._same(EXCLUDED))

    def _remembered(self) -> sql.Composed:
        """Tombstones outrank late older copies from here on."""
        return sql.SQL(
            "remembered as (insert into {versions} as k (table_name, id, updated_idx)"
            " select %(table)s, s.{key}, s.{v} from seen join {staging} s on s.ctid = seen.tid where seen.verdict = 'gone'"
            " on conflict (table_name, id) do update set updated_idx = excluded.updated_idx, deleted_at = now()"
            " where k.updated_idx < excluded.updated_idx)"
        ).format(**self._names)

    def _removed(self) -> sql.Composed:
        return sql.SQL(
            "removed as (delete from {table} t using (select s.{key} as id, s.{v} as version, seen.window_index"
            " from seen join {staging} s on s.ctid = seen.tid where seen.verdict = 'gone' offset 0) gone"
            " where t.{key} = gone.id and t.{v} <= gone.version returning gone.window_index)"
        ).format(**self._names)

    def _tally(self) -> sql.Composed:
        """A tombstone written again at its own version changed its object only: that is an update, not a deletion."""
        return sql.SQL(
            "select window_index, count(*) filter (where is_staged),"
            " count(*) filter (where what = 'created'),"
            " count(*) filter (where what = 'changed')"
            " + least(count(*) filter (where what = 'tombstone'), count(*) filter (where what = 'rewrite of a tombstone')),"
            " greatest(count(*) filter (where what = 'tombstone') - count(*) filter (where what = 'rewrite of a tombstone'), 0)"
            " + count(*) filter (where what in ('created tombstone', 'gone')),"
            " count(*) filter (where what = 'unchanged'),"
            " count(*) filter (where what = 'stale'),"
            " count(*) filter (where what in ('created', 'created tombstone')),"
            " count(*) filter (where what = 'removed'),"
            " count(*) filter (where what in ('rewrite', 'rewrite of a tombstone'))"
            " from (select window_index, true as is_staged, verdict as what from seen"
            " union all select window_index, false, case when is_created and is_deleted then 'created tombstone'"
            " when is_created then 'created' when is_deleted then 'tombstone' else 'changed' end from written{removed}) tally"
            " group by window_index"
        ).format(removed=sql.SQL(" union all select window_index, false, 'removed' from removed" if self.target.removes else ""))

    def _window(self, row: sql.SQL) -> sql.Composable:
        if not self.has_windows or self.target.stream_time is None:
            return sql.SQL("0")
        # Before the first window, or without a time: the first window, which is open to the left.
        return sql.SQL("greatest(coalesce(width_bucket({time}, %(starts)s::timestamptz[]), 1) - 1, 0)").format(
            time=_column(row, self.target.stream_time)
        )


@cache
def merge_statement(statements: MergeStatements) -> bytes:
    """`statements.merge()`, composed once for all batches of one shape."""
    return statements.merge().as_bytes()


def _all_equal(columns: Sequence[TargetColumn], incoming: sql.SQL) -> sql.Composed:
    equal = [
        sql.SQL("t.{name} is not distinct from {value}").format(
            name=sql.Identifier(column.name),
            value=_value(column, incoming) if incoming is STAGED else _column(incoming, column.name),
        )
        for column in columns
    ]
    return sql.SQL("({})").format(sql.SQL(" and ").join(equal) if equal else sql.SQL("true"))


def _value(column: TargetColumn, row: sql.SQL) -> sql.Composed:
    # Only casts without a length or precision: an explicit ::varchar(3) would cut in silence.
    value = _column(row, column.name)
    return sql.SQL("{}::{}").format(value, sql.SQL(column.cast)) if column.cast else value


def _column(row: sql.SQL, name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(row, sql.Identifier(name))
