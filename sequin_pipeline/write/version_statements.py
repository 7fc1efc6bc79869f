"""This module composes the SQL that puts versions of records where they belong in their history table.

The versions of a record follow each other by the time since when they hold, equal times by version, and each ends where the next
one begins. In the statements `t` is the history table, `s` staged versions, `n` a neighbour. history_table.py runs them.
"""

from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from sequin_pipeline.catalog import HistoryTable
from sequin_pipeline.records.fields import FIELD_NAMES
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.buckets import BUCKETS
from sequin_pipeline.write.removals import STAGED
from sequin_pipeline.write.row_expressions import all_equal, staged_value
from sequin_pipeline.write.staging import Staging

IDENTITY = (*FIELD_NAMES, "data", "content_hash")


@dataclass(frozen=True)
class VersionStatements:
    """This value holds the statements for the versions of one staging table."""

    target: Target
    staging: Staging

    @property
    def _history(self) -> HistoryTable:
        assert self.target.history_table is not None  # noqa: S101 - whoever stages versions has one
        return self.target.history_table

    @cached_property
    def _names(self) -> dict[str, sql.Composable]:
        history, table = self._history.name, self.target.table
        return {
            "history": sql.Identifier(history.schema, history.name),
            "table": sql.Identifier(table.schema, table.name),
            "staging": self.staging.identifier,
            "since": sql.Literal(self._history.since),
        }

    def seed(self) -> sql.Composed:
        """Composes the copy of the next rows of the table into staging, in the order of the key, on whose index this leans.

        Parameters: `after`, `limit`.
        """
        columns = [sql.SQL("t.{}::{}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in self.staging.columns]
        return sql.SQL(
            "insert into {staging} select {columns} from {table} t where %(after)s::text is null or t.id > %(after)s"
            " order by t.id limit %(limit)s"
        ).format(**self._names, columns=sql.SQL(", ").join(columns))

    def find_due(self) -> sql.Composed:
        """Composes which buckets hold versions that the history lacks, or holds with other content; in order.

        With each goes whether others must be kept away: for every version but one behind all that are known, whose row of the table
        this transaction has just written, and so holds. Leans on the key, and on the index of the order.
        """
        return sql.SQL(
            # offset 0 keeps wide rows out of the grouping.
            "select bucket, bool_or(is_exclusive) from (select hashtext(s.id) & {mask} as bucket, d.is_there is not null"
            " or exists (select from {history} n where n.id = s.id and n.updated_idx > s.updated_idx)"
            " or exists (select from {history} n where n.id = s.id and (n.valid_from, n.updated_idx) > ({time}, s.updated_idx))"
            " or not exists (select from {table} p where p.id = s.id and p.xmin = pg_current_xact_id_if_assigned()::xid) as is_exclusive"
            " from {due} offset 0) due group by 1 order by 1"
        ).format(**self._names, mask=sql.Literal(BUCKETS - 1), time=self._time(), due=self._due())

    def write(self) -> sql.Composed:
        """Composes the write: new versions, the ends of their neighbours, and no more; returns how many rows of each."""
        return sql.SQL(
            "with incoming as materialized ({incoming}), placed as materialized ({placed}), written as ({written}),"
            " closed as ({closed}){ended}"
            # In this order they are run: a version ends before the next one begins.
            " select (select count(*) from closed), (select count(*) from written)"
        ).format(
            incoming=self._incoming(),
            placed=self._placed(),
            written=self._written(),
            closed=self._closed(),
            ended=sql.SQL("") if self._history.since is None else sql.SQL(", ended as ({})").format(self._ended()),
        )

    def _time(self) -> sql.SQL:
        """Composes since when a staged version holds.

        A bare tombstone often names the time of the object's last change: it holds from when it came, if that is later.
        """
        return sql.SQL(
            "coalesce(case when s.deleted and s.data is null then greatest(s.upstream_updated_at, s.record_inserted_at)"
            " else coalesce(s.upstream_updated_at, s.record_inserted_at) end, 'epoch'::timestamptz)"
        )

    def _same(self, row: sql.SQL) -> sql.Composed:
        """Composes whether a row of the history, `t` in the names of columns, says what the staged version says.

        A row without a hash was not delivered, or is in doubt: it is written again.
        """
        apart = {"id", "updated_idx", "content_hash", *(["record_inserted_at"] if self.target.observes_time else [])}
        equal = all_equal([column for column in self.target.stored if column.name not in apart], STAGED)
        if not self.target.trusts_hash or self.target.rechecks_text:
            return sql.SQL("(t.content_hash is not null and {})").format(equal)
        return sql.SQL("(t.content_hash is not null and case when t.content_hash = s.content_hash then true else {} end)").format(
            equal
        )

    def _due(self) -> sql.Composed:
        """Composes the staged versions with what is known of each as `d`, of which only those that are to be written are left."""
        # offset 0 keeps the planner from pulling a probe up into a join over the whole table.
        known = sql.SQL(
            "{staging} s left join lateral (select true as is_there, {same} as is_same from {history} t"
            " where t.id = s.id and t.updated_idx = s.updated_idx offset 0) d on true"
        ).format(**self._names, same=self._same(STAGED))
        if not self.target.observes_time:
            return sql.SQL("{} where d.is_same is not true").format(known)
        return sql.SQL(
            "{known} left join lateral ({before}) b on true left join lateral ({behind}) a on true"
            " where d.is_same is not true and (d.is_there or (b.is_same is not true and a.is_same is not true))"
        ).format(known=known, before=self._observed("<", "desc"), behind=self._observed(">", "asc"))

    def _observed(self, side: str, order: str) -> sql.Composed:
        """Composes the neighbour on one side, and whether it says what the staged version says: then that is no version of its own."""
        return sql.SQL(
            "select t.updated_idx, {same} as is_same from {history} t where t.id = s.id"
            " and (t.valid_from, t.updated_idx) {side} ({time}, s.updated_idx) order by t.valid_from {order}, t.updated_idx {order} limit 1"
        ).format(
            **self._names,
            same=self._same(STAGED),
            time=self._time(),
            side=sql.SQL("<" if side == "<" else ">"),
            order=sql.SQL("desc" if order == "desc" else "asc"),
        )

    def _incoming(self) -> sql.Composed:
        columns = sql.SQL("s.ctid as tid, s.id, s.updated_idx, {} as valid_from, d.is_there is not null as is_there").format(
            self._time()
        )
        if not self.target.observes_time:
            return sql.SQL("select {} from {}").format(columns, self._due())
        # Of equal ones that follow each other in the batch, with none of the history in between, the first is the version.
        return sql.SQL(
            "select tid, id, updated_idx, valid_from, is_there from (select *, lag(content_hash) over"
            " (partition by id, after order by valid_from, updated_idx) is not distinct from content_hash as is_same"
            " from (select {}, s.content_hash, b.updated_idx as after from {}) due) due where is_there or not is_same"
        ).format(columns, self._due())

    def _placed(self) -> sql.Composed:
        """Composes the incoming versions and the neighbours that stand, each with the time at which it ends.

        Of a record of which a version is written anew, whose time may be another one now, all versions are looked at.
        """
        return sql.SQL(
            "select id, updated_idx, tid, valid_from, valid_to, is_before,"
            " lead(valid_from) over (partition by id order by valid_from, updated_idx) as ends_at"
            " from (select id, updated_idx, (array_agg(tid) filter (where tid is not null))[1] as tid,"
            " coalesce(max(valid_from) filter (where tid is not null), max(valid_from)) as valid_from, max(valid_to) as valid_to,"
            " bool_or(is_before) as is_before from ("
            "select id, updated_idx, tid, valid_from, null::timestamptz as valid_to, false as is_before from incoming"
            " union all"
            " select i.id, n.updated_idx, null, n.valid_from, n.valid_to, n.is_before"
            " from (select *, bool_or(is_there) over (partition by id) as rewrites from incoming) i cross join lateral ("
            "(select n.updated_idx, n.valid_from, n.valid_to, true as is_before from {history} n where not i.rewrites and n.id = i.id"
            " and (n.valid_from, n.updated_idx) < (i.valid_from, i.updated_idx) order by n.valid_from desc, n.updated_idx desc limit 1)"
            " union all (select n.updated_idx, n.valid_from, n.valid_to, false from {history} n where not i.rewrites and n.id = i.id"
            " and (n.valid_from, n.updated_idx) > (i.valid_from, i.updated_idx) order by n.valid_from, n.updated_idx limit 1)"
            " union all select n.updated_idx, n.valid_from, n.valid_to, true from {history} n where i.rewrites and n.id = i.id"
            ") n) one group by id, updated_idx) one"
        ).format(**self._names)

    def _written(self) -> sql.Composed:
        target = self.target
        names = [column.name for column in target.stored]
        stamps = [name for name in (target.created_at, target.changed_at) if name]
        changed = [
            name for name in (*names, "valid_from", "valid_to", target.changed_at) if name not in (None, "id", "updated_idx")
        ]
        return sql.SQL(
            "insert into {history} as t ({columns}) select {values}, p.valid_from, p.ends_at"
            " from placed p join {staging} s on s.ctid = p.tid where p.tid is not null{kept}"
            " on conflict (id, updated_idx) do update set {assignments} returning 1"
        ).format(
            **self._names,
            columns=sql.SQL(", ").join(map(sql.Identifier, [*names, *stamps, "valid_from", "valid_to"])),
            values=sql.SQL(", ").join(
                [*(staged_value(column, STAGED) for column in target.stored), *[sql.SQL("now()")] * len(stamps)]
            ),
            kept=sql.SQL("") if self._history.since is None else sql.SQL(" and not {}").format(self._has_ended()),
            assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(str(name))) for name in changed),
        )

    def _closed(self) -> sql.Composed:
        stamp = [sql.SQL("{} = now()").format(sql.Identifier(name)) for name in [self.target.changed_at] if name]
        return sql.SQL(
            "update {history} t set {assignments} from (select id, updated_idx, ends_at from placed p"
            " where p.tid is null and p.is_before and p.valid_to is distinct from p.ends_at{kept} offset 0) p"
            " where t.id = p.id and t.updated_idx = p.updated_idx returning 1"
        ).format(
            **self._names,
            assignments=sql.SQL(", ").join([sql.SQL("valid_to = p.ends_at"), *stamp]),
            kept=sql.SQL("") if self._history.since is None else sql.SQL(" and not {}").format(self._has_ended()),
        )

    def _ended(self) -> sql.Composed:
        """Composes the delete of rows that turn out to have ended before anything is kept."""
        return sql.SQL(
            "delete from {history} t using (select id, updated_idx from placed p where {has_ended} and (p.tid is not null or p.is_before)"
            " offset 0) p where t.id = p.id and t.updated_idx = p.updated_idx"
        ).format(**self._names, has_ended=self._has_ended())

    def _has_ended(self) -> sql.Composed:
        return sql.SQL("coalesce(p.ends_at <= {since}, false)").format(**self._names)
