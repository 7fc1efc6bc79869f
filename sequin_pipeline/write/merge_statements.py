"""The SQL of the merge: for one shape of batch, the statement that classifies its rows and writes those that are new.

merge.py runs it. In the statements `t` is the target, `s` staging, `k` the version that the ledger remembers of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.write.batch import OBJECT_VERSION
from sequin_pipeline.write.removals import STAGED, row_id
from sequin_pipeline.write.staging import Staging

EXCLUDED = sql.SQL("excluded")
STORED = sql.SQL("t")
WRITING_VERDICTS = ("new", "newer", "rewrite", "rewrite of a tombstone")
_SHARED_BY_ENTRIES = sql.SQL("%(batch)s::uuid, %(run)s, %(mode)s, now() + %(keep)s")


@dataclass(frozen=True)
class MergeStatements:
    """The statements for one shape of batch.

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
        if self.target.removes or self.target.keeps_versions:
            parts.append(self._remembered())
        if self.target.removes:
            parts.append(self._removed())
        if self.target.is_unmanaged:
            parts.append(self._updated())
        parts.append(self._written())
        if self.history is not None:
            parts.append(self._logged())
        return sql.SQL("with {} {}").format(sql.SQL(", ").join(parts), self._tally())

    def count_equal(self) -> sql.Composed:
        """By window, how many staged rows the target holds now exactly as staged (a removed one: is remembered at this version)."""
        equal = "t.{tv} <= s.{v} and " if self.target.observes_time else "t.{tv} = s.{v} and "
        version = sql.SQL(equal).format(**self._names) if self._has_version_column else sql.SQL("")
        removed = sql.SQL(
            " or (s.{d} and exists (select from {versions} k"
            " where k.table_name = %(table)s and k.id = {id} and k.updated_idx = s.{v}))"
        )
        return sql.SQL(
            "select {window}, count(*) from {staging} s{remembered}"
            " left join lateral (select true as is_equal from {table} t where {key_equal} and {version}{same} offset 0) t on true"
            " where t.is_equal{removed} group by 1"
        ).format(
            **self._names,
            window=self._window(STAGED),
            remembered=self._remembered_version() if self.target.keeps_versions else sql.SQL(""),
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
            "id": row_id(target, STAGED),
            "record": sql.Identifier(target.record_id),
            "v": sql.Identifier(target.version or ""),
            "d": sql.Identifier(target.tombstone or ""),
            "tv": self._stored_as(target.version),
            "td": self._stored_as(target.tombstone),
            "o": sql.Identifier(OBJECT_VERSION),
            "key_equal": sql.SQL(" and ").join(
                sql.SQL("t.{} = {}").format(sql.Identifier(column.table_name), _value(column, STAGED))
                for column in map(target.column, target.key)
            ),
        }

    def _stored_as(self, name: str | None) -> sql.Identifier:
        return sql.Identifier(self.target.column(name).table_name if name else "")

    @property
    def _has_version_column(self) -> bool:
        return self.target.version is not None and not self.target.keeps_versions

    def _is_deleted(self) -> sql.Composed:
        return sql.SQL("t.{td}" if self.target.is_stored(self.target.tombstone) else "false").format(**self._names)

    def _seen(self) -> sql.Composed:
        """Narrow on purpose: where each staged row stands and what is to become of it, not the wide row."""
        tells_stored_version = self.history is not None or self.target.keeps_versions
        # offset 0 keeps the planner from pulling the probe up into a join over the whole table.
        return sql.SQL(
            "seen as materialized (select s.ctid as tid, {window} as window_index, {verdict} as verdict{stored}"
            " from {staging} s{remembered}"
            " left join lateral (select t.ctid as tid, {version} as version, {same} as is_same, {was_deleted} as was_deleted"
            " from {table} t where {key_equal} offset 0) t on true)"
        ).format(
            **self._names,
            window=self._window(STAGED),
            verdict=self._verdict().format(
                **self._names, stored=sql.SQL("k.updated_idx" if self.target.keeps_versions else "t.version")
            ),
            stored=sql.SQL(f", {self._stored_version} as stored_version" if tells_stored_version else ""),
            version=sql.SQL("t.{tv}").format(**self._names) if self._has_version_column else sql.SQL("null::bigint"),
            same=self._same(STAGED),
            was_deleted=self._is_deleted(),
            remembered=self._remembered_version() if self.target.remembers else sql.SQL(""),
        )

    def _remembered_version(self) -> sql.Composed:
        return sql.SQL(
            " left join lateral (select k.updated_idx from {versions} k where k.table_name = %(table)s and k.id = {id} offset 0) k on true"
        ).format(**self._names)

    def _verdict(self) -> sql.SQL:
        if self.target.version is None:
            return sql.SQL("case when t.tid is null then 'new' when t.is_same then 'unchanged' else 'newer' end")
        outranked = (
            "when k.updated_idx > s.{v} then 'stale' " if self.target.has_removed_rows or self.target.keeps_versions else ""
        )
        # A row whose version nobody knows is an application's own, and older than every record.
        newer, unchanged = "when coalesce({stored} < s.{v}, true) then 'newer' ", "when t.is_same then 'unchanged' "
        live = f"{outranked}when t.tid is null then 'new' when {{stored}} > s.{{v}} then 'stale' " + (
            unchanged + newer if self.target.observes_time else newer + unchanged
        )
        if self.target.removes:
            return sql.SQL(
                "case when {stored} > s.{v} or k.updated_idx > s.{v} then 'stale'"
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
        is_rewritten_anyway = self.target.rechecks_text and incoming is not STAGED
        if self.target.content_hash is None or not self.target.trusts_hash or is_rewritten_anyway:
            return by_columns
        hashed = sql.SQL(" and (not {i}.{d} or {keeps})").format(**self._names, i=incoming, keeps=self._keeps(incoming))
        return sql.SQL("case {other_version}when t.{hash} = {i}.{hash}{hashed} then true else {columns} end").format(
            **self._names,
            i=incoming,
            other_version=sql.SQL("" if self.target.observes_time else "when t.{v} <> {i}.{v} then false ").format(
                **self._names, i=incoming
            ),
            hash=sql.Identifier(self.target.content_hash),
            hashed=sql.SQL("{}{}").format(
                hashed if self.has_bare_tombstones else sql.SQL(""),
                self._is_ascii() if self.target.rechecks_text else sql.SQL(""),
            ),
            columns=by_columns,
        )

    def _is_ascii(self) -> sql.Composed:
        """A staged row's text has as many bytes in UTF-8 as characters; an array stands there as text, too."""
        texts = [sql.Identifier(column.name) for column in self.target.stored if column.staging == "text"]
        return sql.SQL("").join(
            sql.SQL(" and coalesce(octet_length(convert_to(s.{name}, 'UTF8')) = length(s.{name}), true)").format(name=name)
            for name in texts
        )

    def _keeps(self, incoming: sql.SQL, *, stored_version: LiteralString | None = None) -> sql.Composed:
        """Does the incoming row leave the stored object as it is? A bare tombstone does, unless its batch carried an object over
        from a version that outranks the stored row. `excluded` has the target's columns only and asks `carried`."""
        kept_by_ledger = self.target.keeps_versions
        if incoming is STAGED:
            stored = stored_version or ("k.updated_idx" if kept_by_ledger else "t.{tv}")
            return sql.SQL("(s.{d} and (s.{o} is null or s.{o} < {stored}))").format(
                **self._names, stored=sql.SQL(stored).format(**self._names)
            )
        if not self.keeps_objects:
            return sql.SQL("false").format()
        # A row that came to be between the snapshot and its insertion is an application's: the version it stands for is not known.
        outranked = "carried.object_version is null" if kept_by_ledger else "coalesce(carried.object_version < t.{tv}, true)"
        untold = (
            sql.SQL("excluded.{} is null").format(self._stored_as(self.target.data))
            if self._has_data_column
            else sql.SQL("false")
        )
        return sql.SQL(
            "(excluded.{td} and coalesce((select {outranked} from carried where carried.id = {excluded_id}), {untold}))"
        ).format(
            **self._names,
            outranked=sql.SQL(outranked).format(**self._names),
            excluded_id=row_id(self.target, EXCLUDED),
            untold=untold,
        )

    @property
    def _has_data_column(self) -> bool:
        return self.target.is_stored(self.target.data)

    def _carried(self) -> sql.Composed:
        """Only what the written row cannot tell: a scan of these stands behind every tombstone that meets a row."""
        names = {**self._names, "data": sql.Identifier(self.target.data or "")}
        untold = (
            "s.{o} is not null and (s.{o} < s.{v} or s.{data} is null)"
            if self._has_data_column
            else "s.{o} is distinct from s.{v}"
        )
        return sql.SQL(
            "carried as materialized (select {id} as id, s.{o} as object_version from {staging} s where s.{d} and {untold})"
        ).format(**names, untold=sql.SQL(untold).format(**names))

    def _updated(self) -> sql.Composed:
        """Rows of an application that are there are updated in place: an upsert would have the row that it proposes checked first, in
        which columns that are not ours hold their defaults and a bare tombstone has no object, and would use up an identity."""
        return sql.SQL(
            "updated as (update {table} t set {assignments} from (select s.*{stored} from seen join {staging} s"
            " on s.ctid = seen.tid where seen.verdict = any({writing}) offset 0) s where {key_equal} and ({guard})"
            " returning {is_deleted} as is_deleted, {window} as window_index{told})"
        ).format(
            **self._names,
            assignments=self._assignments(STAGED),
            stored=sql.SQL(", seen.stored_version" if self.target.keeps_versions else ""),
            writing=sql.Literal([verdict for verdict in WRITING_VERDICTS if verdict != "new"]),
            guard=self._guard(STAGED),
            is_deleted=self._is_deleted(),
            window=self._window(STORED),
            told=self._told(),
        )

    def _written(self) -> sql.Composed:
        target = self.target
        stamps = list(target.stamps.values())
        return sql.SQL(
            "written as (insert into {table} as t ({columns})"
            " select {values} from seen join {staging} s on s.ctid = seen.tid where seen.verdict = any({writing})"
            " on conflict ({keys}) do update set {assignments} where {guard}"
            " returning {is_created} as is_created, {is_deleted} as is_deleted, {window} as window_index{told})"
        ).format(
            **self._names,
            columns=sql.SQL(", ").join(map(sql.Identifier, [*(column.table_name for column in target.stored), *stamps])),
            values=sql.SQL(", ").join([*(_value(column, STAGED) for column in target.stored), *map(self._stamp, stamps)]),
            writing=sql.Literal(["new"] if target.is_unmanaged else list(WRITING_VERDICTS)),
            keys=sql.SQL(", ").join(map(self._stored_as, target.key)),
            assignments=self._assignments(EXCLUDED),
            guard=self._guard(EXCLUDED),
            # Of a partitioned table Postgres gives back no system column: a row that came to be in between counts as created.
            is_created=sql.SQL("true" if target.is_partitioned else "(t.xmax = 0)"),
            is_deleted=self._is_deleted(),
            window=self._window(STORED),
            told=self._told(),
        )

    def _told(self) -> sql.Composed:
        return sql.SQL("{}{}").format(
            sql.SQL("" if self.history is None else ", "),
            sql.SQL("") if self.history is None else sql.SQL("{} as id").format(row_id(self.target, STORED)),
        )

    def _stamp(self, name: str) -> sql.Composed:
        cast = self.target.stamp_casts.get(name)
        return sql.SQL("now(){}").format(sql.SQL(f"::{cast}" if cast else ""))

    @property
    def _stored_version(self) -> LiteralString:
        if self.target.keeps_versions:
            return "k.updated_idx"
        return "coalesce(t.version, k.updated_idx)" if self.target.remembers else "t.version"

    def _logged(self) -> sql.Composed:
        """What became of each row that was not unchanged; one that lost to a concurrent writer has no fate yet. Rows seen and rows written
        are brought together by grouping: a join of two results without an index would be quadratic under the pinned plan."""
        updated = (
            " union all select id, null, null, null, null, true, false, is_deleted from updated"
            if self.target.is_unmanaged
            else ""
        )
        return sql.SQL(
            "logged as ({insert} select %(table)s, told.record_id, told.version, told.fate, told.stored_version, {shared} from ("
            "select max(record_id) as record_id, max(version) as version, max(stored_version) as stored_version, case"
            " when bool_or(is_written) and bool_or(is_deleted) and max(verdict) <> 'rewrite of a tombstone' then 'deleted'"
            " when bool_or(is_created) then 'inserted' when bool_or(is_written) then 'updated'"
            " when max(verdict) = 'gone' then 'deleted' when max(verdict) = 'stale' then 'stale' end as fate"
            " from (select {id} as id, s.{record} as record_id, s.{v} as version, seen.stored_version, seen.verdict,"
            " false as is_written, false as is_created, false as is_deleted"
            " from seen join {staging} s on s.ctid = seen.tid where seen.verdict <> 'unchanged'"
            " union all select id, null, null, null, null, true, is_created, is_deleted from written{updated}) one group by id) told"
            " where told.fate <> 'stale' or (told.fate = 'stale' and not {is_logged}))"
        ).format(
            **self._names,
            insert=self._log_insert(),
            shared=_SHARED_BY_ENTRIES,
            updated=sql.SQL(updated),
            is_logged=self._is_logged(sql.SQL("told.record_id"), sql.SQL("told.version")),
        )

    def log_outranked(self) -> sql.Composed:
        """A second look, at rows that lost to a concurrent writer after they had been seen: they are stale, or unchanged, now."""
        return sql.SQL(
            "with {seen} {insert} select %(table)s, s.{record}, s.{v}, 'stale', seen.stored_version, {shared}"
            " from seen join {staging} s on s.ctid = seen.tid where seen.verdict = 'stale' and not {is_logged}"
        ).format(
            **self._names,
            seen=self._seen(),
            insert=self._log_insert(),
            shared=_SHARED_BY_ENTRIES,
            is_logged=self._is_logged(sql.SQL("s.{record}").format(**self._names), sql.SQL("s.{v}").format(**self._names)),
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

    def _assignments(self, incoming: sql.SQL) -> sql.Composed:
        objects = [column for column in self.target.stored if column.is_object] if self.keeps_objects else []
        assignments: list[sql.Composable] = [
            sql.SQL("{} = {}").format(sql.Identifier(column.table_name), _incoming(column, incoming))
            for column in self.target.stored
            if column.name not in self.target.key and column not in objects
        ]
        if self.target.changed_at:
            changed_at = self.target.changed_at
            assignments.append(sql.SQL("{} = {}").format(sql.Identifier(changed_at), self._stamp(changed_at)))
        if objects:
            kept = [
                sql.SQL("case when kept.is_kept then t.{} else {} end").format(
                    sql.Identifier(column.table_name), _incoming(column, incoming)
                )
                for column in objects
            ]
            assignments.append(
                sql.SQL("({names}) = (select {kept} from (select {keeps} as is_kept offset 0) kept)").format(
                    names=sql.SQL(", ").join(sql.Identifier(column.table_name) for column in objects),
                    kept=sql.SQL(", ").join(kept),
                    keeps=self._keeps(incoming, stored_version="s.stored_version" if self.target.keeps_versions else None),
                )
            )
        nothing = sql.SQL("{key} = t.{key}").format(key=self._stored_as(self.target.key[0]))
        return sql.SQL(", ").join(assignments or [nothing])

    def _guard(self, incoming: sql.SQL) -> sql.Composed:
        """What the row must be, once locked, for the incoming one to outrank it."""
        if self.target.keeps_versions:
            # The locks on its bucket keep every other writer of ours away, and nobody else knows of versions.
            return sql.SQL("true").format()
        if self.target.version is None:
            return sql.SQL("not {}").format(self._same(incoming))
        outranks = (
            "coalesce(t.{tv} <= {version}, true) and not {same}"
            if self.target.observes_time
            else "coalesce(t.{tv} < {version}, true) or (t.{tv} = {version} and not {same})"
        )
        version = sql.SQL("{}.{}").format(incoming, self._names["v" if incoming is STAGED else "tv"])
        return sql.SQL(outranks).format(**self._names, version=version, same=self._same(incoming))

    def _remembered(self) -> sql.Composed:
        """Tombstones outrank late older copies from here on, and so does every version where the table has no column for it."""
        verdicts = ["gone", *WRITING_VERDICTS] if self.target.keeps_versions else ["gone"]
        return sql.SQL(
            "remembered as (insert into {versions} as k (table_name, id, updated_idx)"
            " select %(table)s, {id}, s.{v} from seen join {staging} s on s.ctid = seen.tid where seen.verdict = any({verdicts})"
            " on conflict (table_name, id) do update set updated_idx = excluded.updated_idx, deleted_at = now()"
            " where k.updated_idx < excluded.updated_idx)"
        ).format(**self._names, verdicts=sql.Literal(verdicts))

    def _removed(self) -> sql.Composed:
        columns = [sql.SQL("s.{}").format(sql.Identifier(name)) for name in (*self.target.key, self.target.version or "")]
        outranked = "coalesce(t.{tv} <= s.{v}, true)" if self._has_version_column else "true"
        return sql.SQL(
            "removed as (delete from {table} t using (select {columns}, seen.window_index"
            " from seen join {staging} s on s.ctid = seen.tid where seen.verdict = 'gone' offset 0) s"
            " where {key_equal} and {outranked} returning s.window_index)"
        ).format(**self._names, columns=sql.SQL(", ").join(columns), outranked=sql.SQL(outranked).format(**self._names))

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
            " when is_created then 'created' when is_deleted then 'tombstone' else 'changed' end from written{updated}{removed}) tally"
            " group by window_index"
        ).format(
            updated=sql.SQL(
                " union all select window_index, false, case when is_deleted then 'tombstone' else 'changed' end from updated"
                if self.target.is_unmanaged
                else ""
            ),
            removed=sql.SQL(" union all select window_index, false, 'removed' from removed" if self.target.removes else ""),
        )

    def _window(self, row: sql.SQL) -> sql.Composable:
        if not self.has_windows or self.target.stream_time is None or self.target.is_unmanaged:
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
        sql.SQL("t.{name}{form} is not distinct from {value}{form}").format(
            name=sql.Identifier(column.table_name),
            value=sql.SQL("({})").format(_incoming(column, incoming)) if column.compared_as else _incoming(column, incoming),
            form=sql.SQL(f"::{column.compared_as}" if column.compared_as else ""),
        )
        for column in columns
    ]
    return sql.SQL("({})").format(sql.SQL(" and ").join(equal) if equal else sql.SQL("true"))


def _incoming(column: TargetColumn, incoming: sql.SQL) -> sql.Composed:
    return _value(column, incoming) if incoming is STAGED else _column(incoming, column.table_name)


def _value(column: TargetColumn, row: sql.SQL) -> sql.Composed:
    # Only casts without a length or precision: an explicit ::varchar(3) would cut in silence.
    value = _column(row, column.name)
    return sql.SQL("{}::{}").format(value, sql.SQL(column.cast)) if column.cast else value


def _column(row: sql.SQL, name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(row, sql.Identifier(name))
