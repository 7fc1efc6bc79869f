"""This module composes what the merge says of single rows: how staged, stored and proposed row compare, and what is kept.

The proposed row is the one for insertion. In the expressions `t` is the target, `s` staging, `k` the version that the ledger
remembers of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.postgres.percent_signs import TypeName
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.write.batch import OBJECT_VERSION
from sequin_pipeline.write.removals import STAGED, row_id
from sequin_pipeline.write.staging import Staging

EXCLUDED = sql.SQL("excluded")
STORED = sql.SQL("t")


@dataclass(frozen=True)
class RowExpressions:
    """This value holds the expressions for one batch layout.

    That is one target, one staging table, and whether some tombstones carry no object.
    """

    target: Target
    staging: Staging
    versions: sql.Identifier = field(hash=False)  # equality is enough to tell two ledgers apart
    has_windows: bool = False
    has_bare_tombstones: bool = False

    @property
    def keeps_objects(self) -> bool:
        """This is true where some tombstones of the batch leave the stored object as it is."""
        return self.has_bare_tombstones and not self.target.removes

    @property
    def _names(self) -> dict[str, sql.Composable]:
        target = self.target
        return {
            "table": sql.Identifier(target.table.schema, target.table.name),
            "staging": self.staging.identifier,
            "versions": self.versions,
            "id": row_id(target, STAGED),
            "record": sql.Identifier(target.record_id),
            "sync_id": self._tenant("sync_id"),
            "internal_id": self._tenant("internal_id"),
            "v": sql.Identifier(target.version or ""),
            "d": sql.Identifier(target.tombstone or ""),
            "tv": self._stored_as(target.version),
            "td": self._stored_as(target.tombstone),
            "o": sql.Identifier(OBJECT_VERSION),
            "key_equal": sql.SQL(" and ").join(
                sql.SQL("t.{} = {}").format(sql.Identifier(column.table_name), staged_value(column, STAGED))
                for column in map(target.column, target.key)
            ),
        }

    def _tenant(self, name: str) -> sql.Composed:
        """Composes whose a staged row is, null where the batch does not tell; `name` is one of TENANT_COLUMNS."""
        target = self.target
        is_staged = name in target.column_names and target.column(name).scope != "batch"
        return _column(STAGED, name) if is_staged else sql.SQL("null::text").format()

    def _stored_as(self, name: str | None) -> sql.Identifier:
        return sql.Identifier(self.target.column(name).table_name if name else "")

    @property
    def _has_version_column(self) -> bool:
        return self.target.version is not None and not self.target.keeps_versions

    def _is_deleted(self) -> sql.Composed:
        return sql.SQL("t.{td}" if self.target.is_stored(self.target.tombstone) else "false").format(**self._names)

    @property
    def _stored_version(self) -> LiteralString:
        if self.target.keeps_versions:
            return "k.updated_idx"
        return "coalesce(t.version, k.updated_idx)" if self.target.remembers else "t.version"

    def _same(self, incoming: sql.SQL) -> sql.Composed:
        """Composes whether row `t` holds already what `incoming` brings.

        An equal hash says yes, but for an object that was carried over and is not in the hash; an unequal one is settled by the
        columns.
        """
        compared = self.target.compared
        if self.has_bare_tombstones:
            by_columns = sql.SQL("({envelope} and ({keeps} or {objects}))").format(
                envelope=all_equal([column for column in compared if not column.is_object], incoming),
                keeps=self._keeps(incoming),
                objects=all_equal([column for column in compared if column.is_object], incoming),
            )
        else:
            by_columns = all_equal(compared, incoming)
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
        """Composes whether a staged row's text has as many bytes in UTF-8 as characters; an array stands there as text, too."""
        texts = [sql.Identifier(column.name) for column in self.target.stored if column.staging == "text"]
        return sql.SQL("").join(
            sql.SQL(" and coalesce(octet_length(convert_to(s.{name}, 'UTF8')) = length(s.{name}), true)").format(name=name)
            for name in texts
        )

    def _keeps(self, incoming: sql.SQL, *, stored_version: LiteralString | None = None) -> sql.Composed:
        """Composes whether the incoming row leaves the stored object as it is.

        A bare tombstone does, unless its batch carried an object over from a version that outranks the stored row. `excluded` has
        the target's columns only and asks `carried`.
        """
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

    def _stamp(self, name: str) -> sql.Composed:
        return stamp(self.target, name)

    def _guard(self, incoming: sql.SQL) -> sql.Composed:
        """Composes what the row must be, once locked, for the incoming one to outrank it."""
        if self.target.keeps_versions:
            # The locks on its bucket keep every other writer of ours away, and nobody else knows of versions.
            return sql.SQL("true").format()
        if self.target.is_child:
            # Whoever writes it holds its parent's lock, and a trigger may have made of the proposed row what is stored.
            return sql.SQL("true").format()
        same = self._same_as_told(incoming)
        if self.target.version is None:
            return sql.SQL("not {}").format(same)
        outranks = (
            "coalesce(t.{tv} <= {version}, true) and not {same}"
            if self.target.observes_time
            else "coalesce(t.{tv} < {version}, true) or (t.{tv} = {version} and not {same})"
        )
        version = sql.SQL("{}.{}").format(incoming, self._names["v" if incoming is STAGED else "tv"])
        return sql.SQL(outranks).format(**self._names, version=version, same=same)

    def _same_as_told(self, incoming: sql.SQL) -> sql.Composed:
        """Composes whether row `t` holds already what the source told.

        A trigger has changed the proposed row by now, perhaps to what is stored, and only its hash still tells.
        """
        same = self._same(incoming)
        if incoming is STAGED or self.target.content_hash is None:
            return same
        if not self.target.trusts_hash:
            return sql.SQL("false").format()
        return sql.SQL("(t.{hash} is not distinct from {i}.{hash} and {same})").format(
            hash=sql.Identifier(self.target.content_hash), i=incoming, same=same
        )

    def _is_known_by_hash(self) -> sql.Composed:
        """Composes whether row `t` was stored from what row `s` tells, though a trigger may have changed it on its way."""
        if self.target.content_hash is None or not self.target.trusts_hash or self.keeps_objects:
            return sql.SQL("false").format()
        return sql.SQL("(t.{hash} = s.{hash})").format(hash=sql.Identifier(self.target.content_hash))

    def _window(self, row: sql.SQL) -> sql.Composable:
        if not self.has_windows or self.target.stream_time is None or self.target.is_unmanaged:
            return sql.SQL("0")
        # Before the first window, or without a time: the first window, which is open to the left.
        return sql.SQL("greatest(coalesce(width_bucket({time}, %(starts)s::timestamptz[]), 1) - 1, 0)").format(
            time=_column(row, self.target.stream_time)
        )


def all_equal(columns: Sequence[TargetColumn], incoming: sql.SQL) -> sql.Composed:
    """Composes whether row `t` has the same values in these columns as the incoming one."""
    kept = [column for column in columns if column.keeps_digits]
    equal = [
        sql.SQL("t.{name}{form} is not distinct from {value}{form}").format(
            name=sql.Identifier(column.table_name),
            value=sql.SQL("({})").format(_incoming(column, incoming)) if column.compared_as else _incoming(column, incoming),
            form=sql.SQL("::{}").format(TypeName(column.compared_as)) if column.compared_as else sql.SQL(""),
        )
        for column in columns
        if not column.keeps_digits
    ]
    if kept:
        equal.append(sql.SQL("{} *= {}").format(_image(kept, STORED), _image(kept, incoming)))
    return sql.SQL("({})").format(sql.SQL(" and ").join(equal) if equal else sql.SQL("true"))


def _image(columns: Sequence[TargetColumn], row: sql.SQL) -> sql.Composed:
    """Composes a record for `*=`, which compares the bytes of two records; it takes no more time than jsonb's own equality."""
    # With casts, since images of a domain and of the type beneath it cannot be compared.
    values = [sql.SQL("{}::{}").format(_incoming(column, row), TypeName(column.cast or column.type)) for column in columns]
    return sql.SQL("row({})::record").format(sql.SQL(", ").join(values))


def _incoming(column: TargetColumn, incoming: sql.SQL) -> sql.Composed:
    return staged_value(column, incoming) if incoming is STAGED else _column(incoming, column.table_name)


def staged_value(column: TargetColumn, row: sql.SQL) -> sql.Composed:
    """Composes the value of a staged row as the table takes it."""
    return cast_to(column, _column(row, column.name))


def cast_to(column: TargetColumn, value: sql.Composed) -> sql.Composed:
    """Composes a value as the table's column takes it."""
    # Only casts without a length or precision: an explicit ::varchar(3) would cut in silence.
    return sql.SQL("{}::{}").format(value, TypeName(column.cast)) if column.cast else value


def stamp(target: Target, name: str) -> sql.Composed:
    """Composes the present moment as a stamped column of the table takes it."""
    cast = target.stamp_casts.get(name)
    return sql.SQL("now()::{}").format(TypeName(cast)) if cast else sql.SQL("now()").format()


def _column(row: sql.SQL, name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(row, sql.Identifier(name))
