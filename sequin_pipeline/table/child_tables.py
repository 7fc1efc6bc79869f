"""This module makes child tables ready beside their parent's table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg import sql

from sequin_pipeline.catalog import cut_identifier
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.columns import claim_child
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import lock_ddl
from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.managed import PendingChange, existing_columns, pending_changes, prepare_table
from sequin_pipeline.table.target import ChildTarget, Target
from sequin_pipeline.table.write_access import find_access, grant


@dataclass(frozen=True)
class ForeignKey:
    """This value is a foreign key of a child table, to the table that its rows stand below."""

    table: sql.Identifier
    name: str
    columns: tuple[str, ...]
    to: sql.Identifier
    to_columns: tuple[str, ...]

    @property
    def statement(self) -> sql.Composed:
        """This adds it.

        It is looked at when a batch is committed: rows of parent and child are written, and removed, in one transaction.
        """
        return sql.SQL(
            "alter table {} add constraint {} foreign key ({}) references {} ({}) deferrable initially deferred"
        ).format(
            self.table,
            sql.Identifier(self.name),
            sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            self.to,
            sql.SQL(", ").join(map(sql.Identifier, self.to_columns)),
        )


def foreign_key(parent: Target, child: ChildTarget) -> ForeignKey | None:
    """Returns the foreign key of a child table; None where none is declared."""
    if not child.declared.foreign_key:
        return None
    outer = next((each.target for each in parent.children if each.declared == child.declared.within), parent)
    table = child.target.table
    return ForeignKey(
        sql.Identifier(table.schema, table.name),
        cut_identifier(f"{table.name}_parent_fkey"),
        child.target.key[: len(outer.key)],
        sql.Identifier(outer.table.schema, outer.table.name),
        outer.key,
    )


def prepare_children(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, adopt: bool = False
) -> None:
    """Makes the child tables of a parent ready, which must be ready itself.

    One that is created here, or was somebody else's or another table's, is filled from the objects of the parents that are there
    (refill.py). Raises TableRefused, LedgerRefused, psycopg.Error.
    """
    for child in target.children:
        own = child_ledger(ledger, child)
        # What it held is in its parents' objects, so one that has vanished is made again.
        prepare_table(connection, child.target, own, source=source, adopt=adopt, full_refresh=True)
        _check_access(connection, child.target)
        claim_child(connection, ledger, own, child.declared.frame_name)
        _add_foreign_key(connection, target, child)


def pending_children(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, has_ledger: bool
) -> dict[str, tuple[PendingChange, ...] | None]:
    """Returns by table what `prepare_children` would do, None where it would create it; changes nothing. Raises as that would."""
    pending: dict[str, tuple[PendingChange, ...] | None] = {}
    for child in target.children:
        changes: tuple[PendingChange, ...] | None = None
        if find_access(connection, child.target.table) is not None:
            record = child_ledger(ledger, child).find_table(connection) if has_ledger else None
            changes = pending_changes(connection, child.target, record, source=source)
            _check_access(connection, child.target)
            key = foreign_key(target, child)
            if key is not None and not _has_constraint(connection, child.target, key.name):
                changes = (*(changes or ()), PendingChange(key.statement.as_string(connection), "share row exclusive"))
        pending[str(child.target.table)] = changes
    return pending


def existing_children(
    connection: Connection, target: Target, pending: Mapping[str, tuple[PendingChange, ...] | None]
) -> tuple[ChildTarget, ...]:
    """Returns the child tables as they are, without the columns that are not there yet; those that are missing as they would be."""
    return tuple(
        child if pending[str(child.target.table)] is None else replace(child, target=existing_columns(connection, child.target))
        for child in target.children
    )


def child_ledger(ledger: Ledger, child: ChildTarget) -> Ledger:
    """Returns the ledger of a child table."""
    return Ledger(str(child.target.table), child.target.label, ledger.schema)


def rows_of_children(connection: Connection, target: Target, ledger: Ledger) -> dict[str, int]:
    """Returns by table how many rows each child table has, by the ledger's running totals."""
    records = {str(child.target.table): child_ledger(ledger, child).find_table(connection) for child in target.children}
    return {table: record.row_count for table, record in records.items() if record is not None}


def _check_access(connection: Connection, target: Target) -> None:
    access = find_access(connection, target.table)
    if access is not None and "DELETE" in access.lacking:
        raise TableRefused(
            f"role {access.role!r} lacks the right to delete on table {str(target.table)!r} of {target.label!r}, from which elements go "
            f"that are no longer in their list: run `{grant(access.role, target.table, 'DELETE')}`"
        )


def _add_foreign_key(connection: Connection, parent: Target, child: ChildTarget) -> None:
    key = foreign_key(parent, child)
    if key is None or _has_constraint(connection, child.target, key.name):
        return
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        cursor.execute("set local lock_timeout = '5s'")
        if not _has_constraint(connection, child.target, key.name):
            cursor.execute(key.statement)


def _has_constraint(connection: Connection, target: Target, name: str) -> bool:
    return bool(
        fetch_value(
            connection,
            "select exists (select from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = %s and c.relname = %s and k.conname = %s)",
            (target.table.schema, target.table.name, name),
        )
    )
