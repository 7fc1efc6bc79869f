"""This module composes the SQL of the merge.

For one batch layout that is the statement that classifies its rows and writes those that are new. merge.py runs it. In the
statements `t` is the target, `s` staging, `k` the version that the ledger remembers of a row.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.write.removals import STAGED, row_id
from sequin_pipeline.write.row_expressions import EXCLUDED, STORED, RowExpressions, staged_value
from sequin_pipeline.write.staging import APPLIED

WRITING_STANDINGS = ("new", "newer", "rewrite", "rewrite of a tombstone")
REMOVING_STANDINGS = ("gone", "gone before")
"""These are the tombstones of a row that is there, and of one that is not."""
_SHARED_BY_ENTRIES = sql.SQL("%(batch)s::uuid, %(run)s, %(mode)s, now() + %(keep)s")


@dataclass(frozen=True)
class MergeStatements(RowExpressions):
    """This value holds the statements for one batch layout.

    Parameters: `starts` (timestamptz[], when `has_windows`), `table` (the target's name in the ledger, when rows are removed) and, with
    a `history`, those of BatchHistory.
    """

    history: sql.Identifier | None = field(default=None, hash=False)

    def merge(self) -> sql.Composed:
        """Composes the merge: it classifies against one snapshot, writes what is new, and returns one row a window.

        That row has the window's index, the staged rows, and its counts. Leans on the unique index of the target's key: a probe
        for each staged row.
        """
        parts: list[sql.Composable] = [self._seen()]
        if self.keeps_objects:
            parts.append(self._carried())
        if self.target.removes or self.target.keeps_versions:
            parts.append(self._remembered())
        if self.target.removes:
            parts.append(self._removed())
        if self.target.updates_in_place:
            parts.append(self._updated())
        parts.append(self._written())
        if self.target.children:
            parts.append(self._applied())
        if self.history is not None:
            parts.append(self._logged())
        return sql.SQL("with {} {}").format(sql.SQL(", ").join(parts), self._tally())

    def count_equal(self) -> sql.Composed:
        """Composes a count by window of the staged rows that the target holds now exactly as staged.

        A removed one counts where it is remembered at this version.
        """
        equal = "t.{tv} <= s.{v} and " if self.target.observes_time else "t.{tv} = s.{v} and "
        version = sql.SQL(equal).format(**self._names) if self._has_version_column else sql.SQL("")
        removed = sql.SQL(
            " or (s.{d} and exists (select from {versions} k"
            " where k.table_name = %(table)s and k.id = {id} and k.updated_idx = s.{v}))"
        )
        return sql.SQL(
            "select {window}, count(*) from {staging} s{remembered}"
            " left join lateral (select true as is_equal from {table} t where {key_equal} and {version}({same} or {known}) offset 0) t"
            " on true"
            " where t.is_equal{removed} group by 1"
        ).format(
            **self._names,
            window=self._window(STAGED),
            remembered=self._remembered_version() if self.target.keeps_versions else sql.SQL(""),
            version=version,
            same=self._same(STAGED),
            known=self._is_known_by_hash(),
            removed=removed.format(**self._names) if self.target.removes else sql.SQL(""),
        )

    def find_left_out(self) -> sql.Composed:
        """Composes where a staged row stands now that the merge should have written or removed and did not.

        There is no row where there is none. A row whose values a trigger changed on their way shows as well, unless its hash
        tells that it is known: only of one row by itself, which the merge did not return, is the answer exact.
        """
        may_be_known = ["rewrite", "rewrite of a tombstone", *(["newer"] if self.target.observes_time else [])]
        return sql.SQL(
            "with {seen} select seen.standing from seen where seen.standing = any({due}) and not (seen.standing = any({may_be_known})"
            " and exists (select from {staging} s join {table} t on {key_equal} where s.ctid = seen.tid and {known})) limit 1"
        ).format(
            **self._names,
            seen=self._seen(),
            due=sql.Literal([*WRITING_STANDINGS, "gone"]),
            may_be_known=sql.Literal(may_be_known),
            known=self._is_known_by_hash(),
        )

    def _seen(self) -> sql.Composed:
        """Composes where each staged row stands and what is to become of it: narrow on purpose, not the wide row."""
        tells_stored_version = self.history is not None or self.target.keeps_versions
        # offset 0 keeps the planner from pulling the probe up into a join over the whole table.
        return sql.SQL(
            "seen as materialized (select s.ctid as tid, {window} as window_index, {standing} as standing{stored}"
            " from {staging} s{remembered}"
            " left join lateral (select t.ctid as tid, {version} as version, {same} as is_same, {was_deleted} as was_deleted"
            " from {table} t where {key_equal} offset 0) t on true)"
        ).format(
            **self._names,
            window=self._window(STAGED),
            standing=self._standing().format(
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

    def _standing(self) -> sql.SQL:
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
                " when s.{d} then case when t.tid is not null then 'gone' when k.updated_idx = s.{v} then 'unchanged'"
                " else 'gone before' end " + live + "else 'rewrite' end"
            )
        if self.target.tombstone is None:
            return sql.SQL("case " + live + "else 'rewrite' end")
        return sql.SQL("case " + live + "when t.was_deleted and s.{d} then 'rewrite of a tombstone' else 'rewrite' end")

    def _carried(self) -> sql.Composed:
        """Composes only what the written row cannot tell: a scan of these stands behind every tombstone that meets a row."""
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
        """Composes the update in place of an application's rows that are there.

        An upsert would have the row that it proposes checked first, in which columns that are not ours hold their defaults and a
        bare tombstone has no object, and would use up an identity.
        """
        return sql.SQL(
            "updated as (update {table} t set {assignments} from (select s.*{stored} from seen join {staging} s"
            " on s.ctid = seen.tid where seen.standing = any({writing}) offset 0) s where {key_equal} and ({guard})"
            " returning {is_deleted} as is_deleted, {window} as window_index{told})"
        ).format(
            **self._names,
            assignments=self._assignments(STAGED),
            stored=sql.SQL(", seen.stored_version" if self.target.keeps_versions else ""),
            writing=sql.Literal([standing for standing in WRITING_STANDINGS if standing != "new"]),
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
            " select {values} from seen join {staging} s on s.ctid = seen.tid where seen.standing = any({writing})"
            " on conflict ({keys}) do update set {assignments} where {guard}"
            " returning {is_created} as is_created, {is_deleted} as is_deleted, {window} as window_index{told})"
        ).format(
            **self._names,
            columns=sql.SQL(", ").join(map(sql.Identifier, [*(column.table_name for column in target.stored), *stamps])),
            values=sql.SQL(", ").join([*(staged_value(column, STAGED) for column in target.stored), *map(self._stamp, stamps)]),
            writing=sql.Literal(["new"] if target.updates_in_place else list(WRITING_STANDINGS)),
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
        is_told = self.history is not None or self.target.children
        return sql.SQL(", {} as id").format(row_id(self.target, STORED)) if is_told else sql.SQL("").format()

    def _applied(self) -> sql.Composed:
        """Composes the note of the rows whose children are to be brought in line: those that this statement wrote or removed."""
        sources: list[LiteralString] = [
            "select id, is_created from written",
            *(["select id, false from updated"] if self.target.updates_in_place else []),
            *(["select id, false from removed"] if self.target.removes else []),
        ]
        return sql.SQL("applied as (insert into {applied} (id, is_created) {rows})").format(
            applied=APPLIED, rows=sql.SQL(" union all ").join(map(sql.SQL, sources))
        )

    def _logged(self) -> sql.Composed:
        """Composes the log of what became of each row that was not unchanged.

        One that lost to a concurrent writer has no fate yet. Rows seen and rows written are brought together by grouping: a join
        of two results without an index would be quadratic under the pinned plan.
        """
        updated = (
            " union all select id, null, null, null, null, null, null, true, false, is_deleted from updated"
            if self.target.updates_in_place
            else ""
        )
        return sql.SQL(
            "logged as ({insert} select %(table)s, told.record_id, told.version, told.fate, told.stored_version, told.sync_id,"
            " told.internal_id, {shared} from (select max(record_id) as record_id, max(version) as version,"
            " max(stored_version) as stored_version, max(sync_id) as sync_id, max(internal_id) as internal_id, case"
            " when bool_or(is_written) and bool_or(is_deleted) and max(standing) <> 'rewrite of a tombstone' then 'deleted'"
            " when bool_or(is_created) then 'inserted' when bool_or(is_written) then 'updated'"
            " when max(standing) in ('gone', 'gone before') then 'deleted' when max(standing) = 'stale' then 'stale' end as fate"
            " from (select {id} as id, s.{record} as record_id, s.{v} as version, seen.stored_version, {sync_id} as sync_id,"
            " {internal_id} as internal_id, seen.standing,"
            " false as is_written, false as is_created, false as is_deleted"
            " from seen join {staging} s on s.ctid = seen.tid where seen.standing <> 'unchanged'"
            " union all select id, null, null, null, null, null, null, true, is_created, is_deleted from written{updated}) one"
            " group by id) told"
            " where told.fate <> 'stale' or (told.fate = 'stale' and not {is_logged}))"
        ).format(
            **self._names,
            insert=self._log_insert(),
            shared=_SHARED_BY_ENTRIES,
            updated=sql.SQL(updated),
            is_logged=self._is_logged(sql.SQL("told.record_id"), sql.SQL("told.version")),
        )

    def log_outranked(self) -> sql.Composed:
        """Composes a second look at rows that lost to a concurrent writer after they had been seen.

        They are stale, or unchanged, now.
        """
        return sql.SQL(
            "with {seen} {insert} select %(table)s, s.{record}, s.{v}, 'stale', seen.stored_version, {sync_id}, {internal_id}, {shared}"
            " from seen join {staging} s on s.ctid = seen.tid where seen.standing = 'stale' and not {is_logged}"
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
            "insert into {} (table_name, record_id, version, fate, stored_version, sync_id, internal_id, batch_id, run_id, mode,"
            " expires_at)"
        ).format(self.history)

    def _is_logged(self, record_id: sql.Composable, version: sql.Composable) -> sql.Composed:
        """Composes whether the version is logged already; leans on history (table_name, record_id, at)."""
        assert self.history is not None  # noqa: S101 - asked for by the callers
        return sql.SQL(
            "exists (select from {history} h where h.table_name = %(table)s and h.record_id = {record_id}"
            " and h.version = {version} and h.fate = 'stale')"
        ).format(history=self.history, record_id=record_id, version=version)

    def _remembered(self) -> sql.Composed:
        """Composes the insert of the versions to be remembered.

        Tombstones outrank late older copies from here on, and so does every version where the table has no column for it.
        """
        standings = [*REMOVING_STANDINGS, *(WRITING_STANDINGS if self.target.keeps_versions else ())]
        return sql.SQL(
            "remembered as (insert into {versions} as k (table_name, id, updated_idx, sync_id, internal_id)"
            " select %(table)s, {id}, s.{v}, {sync_id}, {internal_id} from seen join {staging} s on s.ctid = seen.tid"
            " where seen.standing = any({standings})"
            " on conflict (table_name, id) do update set updated_idx = excluded.updated_idx, deleted_at = now(),"
            " sync_id = excluded.sync_id, internal_id = excluded.internal_id"
            " where k.updated_idx < excluded.updated_idx)"
        ).format(**self._names, standings=sql.Literal(standings))

    def _removed(self) -> sql.Composed:
        columns = [sql.SQL("s.{}").format(sql.Identifier(name)) for name in (*self.target.key, self.target.version or "")]
        outranked = "coalesce(t.{tv} <= s.{v}, true)" if self._has_version_column else "true"
        return sql.SQL(
            "removed as (delete from {table} t using (select {columns}, seen.window_index"
            " from seen join {staging} s on s.ctid = seen.tid where seen.standing = 'gone' offset 0) s"
            " where {key_equal} and {outranked} returning s.window_index{told})"
        ).format(
            **self._names,
            told=self._told(),
            columns=sql.SQL(", ").join(columns),
            outranked=sql.SQL(outranked).format(**self._names),
        )

    def _tally(self) -> sql.Composed:
        """Composes the counts of the answer.

        A tombstone written again at its own version changed its object only: that is an update, not a deletion.
        """
        return sql.SQL(
            "select window_index, count(*) filter (where is_staged),"
            " count(*) filter (where what = 'created'),"
            " count(*) filter (where what = 'changed')"
            " + least(count(*) filter (where what = 'tombstone'), count(*) filter (where what = 'rewrite of a tombstone')),"
            " greatest(count(*) filter (where what = 'tombstone') - count(*) filter (where what = 'rewrite of a tombstone'), 0)"
            " + count(*) filter (where what in ('created tombstone', 'gone', 'gone before')),"
            " count(*) filter (where what = 'unchanged'),"
            " count(*) filter (where what = 'stale'),"
            " count(*) filter (where what in ('created', 'created tombstone')),"
            " count(*) filter (where what = 'removed'),"
            " count(*) filter (where what in ('rewrite', 'rewrite of a tombstone')),"
            " count(*) filter (where what = 'gone')"
            # In this order they are run: a unique value is let go before another row takes it.
            " from (select window_index, true as is_staged, standing as what from seen{removed}{updated}"
            " union all select window_index, false, case when is_created and is_deleted then 'created tombstone'"
            " when is_created then 'created' when is_deleted then 'tombstone' else 'changed' end from written) tally"
            " group by window_index"
        ).format(
            updated=sql.SQL(
                " union all select window_index, false, case when is_deleted then 'tombstone' else 'changed' end from updated"
                if self.target.updates_in_place
                else ""
            ),
            removed=sql.SQL(" union all select window_index, false, 'removed' from removed" if self.target.removes else ""),
        )


@cache
def merge_statement(statements: MergeStatements) -> bytes:
    """Returns `statements.merge()`, composed once for all batches of one shape."""
    return with_parameters(statements.merge()).as_bytes()
