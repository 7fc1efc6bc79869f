"""This module brings child tables in line with their parents, in the transaction that has just merged these.

Only parents that the merge has written or removed are looked at. Whoever has written one holds the lock of its row, so that nobody else
of ours writes its children meanwhile: rows of children need no versions, and locks are taken in the order of the parents. What is
the same is not touched, what is no longer in its list is removed.

A tombstone that brings no object leaves the parent's as it is, and so its children, but for what they repeat of the parent.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from psycopg import sql

from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import PARENT_ID, TENANT_COLUMNS, ChildTarget, Target
from sequin_pipeline.write.child_batch import keeping
from sequin_pipeline.write.merge_statements import MergeStatements, merge_statement
from sequin_pipeline.write.refusal import RowsRefused
from sequin_pipeline.write.removals import STAGED
from sequin_pipeline.write.row_expressions import all_equal, cast_to, staged_value, stamp
from sequin_pipeline.write.staging import APPLIED, Cursor, EncodedBatch, EncodedChild, Staging
from sequin_pipeline.write.tally import Tally

logger = logging.getLogger("sequin_pipeline.writer")

DELETED = "deleted"
"""This column of a child table repeats whether the parent was deleted."""


def added(counts: Mapping[str, ChildCounts], more: Mapping[str, ChildCounts]) -> dict[str, ChildCounts]:
    """Returns the sums by table."""
    return {table: counts.get(table, ChildCounts()) + more.get(table, ChildCounts()) for table in {**counts, **more}}


def count_rows(connection: Connection, ledger: Ledger, counts: Mapping[str, ChildCounts]) -> None:
    """Keeps the running total of each child table's rows."""
    for table, told in counts.items():
        replace(ledger, table_name=table).add_rows(connection, told.inserted - told.removed)


def prepare_parents(cursor: Cursor, encoded: EncodedBatch) -> None:
    """Does what has to be done before the merge of the parents, once they and their children are staged."""
    target = encoded.target
    if any(child.declared.foreign_key for child in target.children):
        # An earlier part of the batch has had them checked, and has left them immediate: a parent goes before its children.
        cursor.execute("set constraints all deferred")
    if target.fills_children:
        _lock_parents(cursor, encoded)


def _lock_parents(cursor: Cursor, encoded: EncodedBatch) -> None:
    """Locks the staged rows that the table holds at the same version, in the order of the key, to have their children written.

    The merge leaves such rows alone.
    """
    target = encoded.target
    cursor.execute(
        sql.SQL(
            "insert into {applied} (id) select id from (select t.{key} as id from {staging} s join {table} t on t.{key} = s.{key}"
            " where t.{version} = s.{version} order by t.{key} for no key update of t) locked"
        ).format(
            applied=APPLIED,
            key=sql.Identifier(target.key[0]),
            version=sql.Identifier(target.version or ""),
            staging=encoded.staging.identifier,
            table=_table(target),
        )
    )


def write_children(
    connection: Connection, encoded: EncodedBatch, tallies: Sequence[Tally], *, versions: sql.Identifier
) -> dict[str, ChildCounts]:
    """Writes the children of every parent that the merge has applied; returns what became of them by table.

    Raises RowsRefused where a trigger left a row out, psycopg.Error.
    """
    target, counts = encoded.target, dict[str, ChildCounts]()
    is_kept = np.zeros(len(encoded.batch), dtype=bool) if target.removes else keeping(target, encoded.batch)
    if is_kept.any():
        _find_kept(connection, encoded, is_kept)
    are_all_applied = not is_kept.any() and all(tally.is_settled and not tally.unchanged + tally.stale for tally in tallies)
    for child in encoded.children:
        changed = _follow_parents(connection, encoded, child, is_kept) if is_kept.any() else 0
        counts[str(child.target.table)] = ChildCounts(updated=changed)
        if child.rows and not are_all_applied:
            connection.execute(_leave_out(child))
    # An application's foreign keys may be looked at at once: inner rows go before the outer ones, and come behind them.
    for child in reversed(encoded.children):
        counts[str(child.target.table)] += ChildCounts(removed=_remove(connection, child))
    for child in encoded.children:
        if child.rows:
            counts[str(child.target.table)] += _merge(connection, child, versions)
    return counts


def remove_orphans(connection: Connection, target: Target, *, after: str | None, last: str | None) -> dict[str, ChildCounts]:
    """Removes the children of parents that are gone, or have no object, of those behind `after` up to `last`; None: all of them.

    Not from an application's tables, where they may be its own. Leans on the indexes of both keys.
    """
    counts = dict[str, ChildCounts]()
    for child in managed_children(target):
        ((due, removed),) = fetch_rows(
            connection,
            _pair,
            sql.SQL(
                "with due as materialized (select c.ctid as place from {child} c"
                " where (%(after)s::text is null or c.{parent_id} > %(after)s) and (%(last)s::text is null or c.{parent_id} <= %(last)s)"
                " and not exists (select from {parent} t where t.{key} = c.{parent_id} and t.{data} is not null)),"
                " gone as (delete from {child} c where c.ctid = any(array(select place from due)) returning 1)"
                " select (select count(*) from due), (select count(*) from gone)"
            ).format(
                child=_table(child.target),
                parent_id=sql.Identifier(PARENT_ID),
                parent=_table(target),
                key=sql.Identifier(target.key[0]),
                data=sql.Identifier(target.data or ""),
            ),
            {"after": after, "last": last},
        )
        if removed < due:
            logger.warning(
                "%d rows of table %r stand below no parent and were to be removed, and are still there: a trigger keeps them, or somebody "
                "has just changed them",
                due - removed,
                str(child.target.table),
            )
        counts[str(child.target.table)] = ChildCounts(removed=removed)
    return counts


def mark_children(target: Target) -> sql.Composed:
    """Composes the parts of a statement that mark the children of the parents that its part `marked` has marked as deleted, by `id`."""
    parts = [
        sql.SQL(", {name} as (update {child} c set {changes} from marked where c.{parent_id} = {of} and not c.{deleted})").format(
            # A child's own name may be longer than what Postgres tells apart.
            name=sql.Identifier(f"children_{number}"),
            child=_table(child.target),
            changes=_joined([sql.SQL("{} = true").format(_stored(child.target, DELETED)), *_changed_at(child.target)]),
            parent_id=_stored(child.target, PARENT_ID),
            of=cast_to(child.target.column(PARENT_ID), sql.SQL("marked.id").format()),
            deleted=_stored(child.target, DELETED),
        )
        for number, child in enumerate(target.children)
        if child.target.is_stored(DELETED)
    ]
    return sql.SQL("").join(parts)


def _find_kept(connection: Connection, encoded: EncodedBatch, is_kept: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> None:
    """Notes which parents have kept the object that they had."""
    target, batch = encoded.target, encoded.batch
    ids = batch.column(target.key[0]).to_pylist()
    kept = [record_id for record_id, is_here in zip(ids, is_kept & ~batch.carries, strict=True) if is_here]
    carrying = [record_id for record_id, is_here in zip(ids, batch.carries, strict=True) if is_here]
    connection.execute(sql.SQL("update {} set is_kept = true where id = any(%s)").format(APPLIED), (kept,))
    if not carrying:
        return
    # What was carried over may have been outranked by what stood there: then that stands there still. Of a row that was created nothing
    # did, and what differs a trigger has made; of the others that cannot be told. `is true` keeps the planner from making a join of it,
    # which would be quadratic under the pinned plan.
    data = target.column(target.data or "")
    connection.execute(
        sql.SQL(
            "update {applied} set is_kept = true where not is_created and (id in (select s.{key} from {staging} s"
            " left join lateral (select {same} as is_same from {table} t where t.{stored_key} = {staged_key} offset 0) t on true"
            " where s.{key} = any(%s) and t.is_same is not true)) is true"
        ).format(
            applied=APPLIED,
            key=sql.Identifier(target.key[0]),
            stored_key=sql.Identifier(target.column(target.key[0]).table_name),
            staged_key=staged_value(target.column(target.key[0]), STAGED),
            staging=encoded.staging.identifier,
            table=_table(target),
            same=all_equal([data], STAGED),
        ),
        (carrying,),
    )


def _follow_parents(
    connection: Connection, encoded: EncodedBatch, child: EncodedChild, is_kept: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> int:
    """Has the children of parents that kept their object repeat what those tell now; returns how many rows changed."""
    target, batch = encoded.target, encoded.batch
    names = (*TENANT_COLUMNS, target.version or "", target.tombstone or "")
    repeated = [child.target.column(name) for name in names if child.target.is_stored(name)]
    compared = [column for column in repeated if column.name != target.version]
    if not compared:
        return 0
    told = [
        [value for value, is_here in zip(batch.column(name).to_pylist(), is_kept, strict=True) if is_here]
        for name in (target.key[0], *names)
    ]
    row = sql.SQL("u")
    return connection.execute(
        sql.SQL(
            "update {child} t set {assignments} from (select * from unnest(%s::text[], %s::text[], %s::text[],"
            " %s::bigint[], %s::boolean[]) u (parent_id, {names})"
            " where (u.parent_id in (select id from {applied} where is_kept)) is true offset 0) u"
            " where t.{parent} = {of} and ({stored}) is distinct from ({told})"
        ).format(
            child=_table(child.target),
            assignments=_joined(
                [
                    *(sql.SQL("{} = {}").format(sql.Identifier(one.table_name), staged_value(one, row)) for one in repeated),
                    *_changed_at(child.target),
                ]
            ),
            names=_joined(list(map(sql.Identifier, names))),
            applied=APPLIED,
            parent=_stored(child.target, PARENT_ID),
            of=cast_to(child.target.column(PARENT_ID), sql.SQL("u.parent_id").format()),
            stored=_joined([sql.SQL("t.{}").format(sql.Identifier(one.table_name)) for one in compared]),
            told=_joined([staged_value(one, row) for one in compared]),
        ),
        told,
    ).rowcount


def _leave_out(child: EncodedChild) -> sql.Composed:
    """Composes the removal, from staging, of the elements of parents that were not applied, or kept the object that they had."""
    return sql.SQL("delete from {staging} where {parent} not in (select id from {applied} where not is_kept)").format(
        staging=child.staging.identifier, parent=sql.Identifier(PARENT_ID), applied=APPLIED
    )


def _remove(connection: Connection, child: EncodedChild) -> int:
    ((due, removed),) = fetch_rows(connection, _pair, _remove_gone(child.target, child.staging))
    if removed != due:
        raise RowsRefused(None, standing="gone")
    return removed


def _pair(due: int, removed: int) -> tuple[int, int]:
    return due, removed


@cache
def _remove_gone(target: Target, staging: Staging) -> sql.Composed:
    """Composes the removal of rows whose elements are not in the parent's list any more, and the counts of those due and removed.

    Leans on the child's key, by its first column. What is stored and what is staged are brought together by grouping: a join of two
    results without an index would be quadratic under the pinned plan.
    """
    keys = [target.column(name) for name in target.key]
    names = _joined([sql.Identifier(column.name) for column in keys])
    # A key may have any name but one that begins like this.
    is_stored = sql.Identifier("#is_stored")
    return sql.SQL(
        "with stored as materialized (select t.* from {applied} a cross join lateral"
        " (select {stored} from {table} t where t.{parent} = {of} offset 0) t where not a.is_kept),"
        " due as materialized (select {names} from (select {names}, true as {is_stored} from stored"
        " union all select {staged}, false from {staging} s where exists (select from stored)) one"
        " group by {names} having bool_and({is_stored})),"
        " gone as (delete from {table} t using (select {names} from due offset 0) s where {equal} returning 1)"
        " select (select count(*) from due), (select count(*) from gone)"
    ).format(
        applied=APPLIED,
        is_stored=is_stored,
        stored=_joined([sql.SQL("t.{} as {}").format(sql.Identifier(one.table_name), sql.Identifier(one.name)) for one in keys]),
        table=_table(target),
        parent=_stored(target, PARENT_ID),
        of=cast_to(target.column(PARENT_ID), sql.SQL("a.id").format()),
        names=names,
        staged=_joined([staged_value(column, STAGED) for column in keys]),
        staging=staging.identifier,
        equal=sql.SQL(" and ").join(
            sql.SQL("t.{} = s.{}").format(sql.Identifier(one.table_name), sql.Identifier(one.name)) for one in keys
        ),
    )


def _merge(connection: Connection, child: EncodedChild, versions: sql.Identifier) -> ChildCounts:
    statements = MergeStatements(target=child.target, staging=child.staging, versions=versions)
    tallies = fetch_rows(connection, Tally, merge_statement(statements), {})
    if not all(tally.is_settled for tally in tallies):
        left_out = fetch_value(connection, statements.find_left_out())
        if left_out is not None:
            raise RowsRefused(None, standing=left_out)
    return sum(
        (ChildCounts(inserted=tally.created, updated=tally.updated, unchanged=tally.unchanged) for tally in tallies),
        ChildCounts(),
    )


def managed_children(target: Target) -> list[ChildTarget]:
    """Returns the child tables that are the pipeline's own."""
    return [child for child in target.children if not child.target.is_unmanaged]


def _stored(target: Target, name: str) -> sql.Identifier:
    return sql.Identifier(target.column(name).table_name)


def _changed_at(target: Target) -> list[sql.Composed]:
    """Composes the assignment of the moment of the change, to the column that takes it."""
    if target.changed_at is None:
        return []
    return [sql.SQL("{} = {}").format(sql.Identifier(target.changed_at), stamp(target, target.changed_at))]


def _table(target: Target) -> sql.Identifier:
    return sql.Identifier(target.table.schema, target.table.name)


def _joined(parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
