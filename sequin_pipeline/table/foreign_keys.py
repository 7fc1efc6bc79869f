"""This module has the foreign keys of child tables follow their declaration: those that are declared no longer would keep parents."""

from dataclasses import dataclass, field

from psycopg import sql

from sequin_pipeline.catalog import TableName, cut_identifier
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import lock_ddl
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection, lift_limits
from sequin_pipeline.table.managed import PendingChange
from sequin_pipeline.table.target import ChildTarget, Target


@dataclass(frozen=True)
class FoundKey:
    """This value is a foreign key that a child table has, under the name that ours have, and the table that it leads to.

    One that is not looked at when a batch commits (`is_deferred`) would refuse the rows of most batches: a migration tool has made it.
    """

    table: TableName
    to: TableName
    is_deferred: bool = field(default=True, kw_only=True)

    @property
    def name(self) -> str:
        """This is its name, by which the pipeline tells its own from others."""
        return cut_identifier(f"{self.table.name}_parent_fkey")

    @property
    def drop_statement(self) -> sql.Composed:
        """This drops it."""
        return sql.SQL("alter table {} drop constraint if exists {}").format(_identifier(self.table), sql.Identifier(self.name))


@dataclass(frozen=True)
class ForeignKey(FoundKey):
    """This value is a foreign key as it is declared, to the table that the rows of a child table stand below."""

    columns: tuple[str, ...]
    to_columns: tuple[str, ...]

    @property
    def found(self) -> FoundKey:
        """This is what is found of it once it is there."""
        return FoundKey(self.table, self.to)

    @property
    def statement(self) -> sql.Composed:
        """This adds it.

        It is looked at when a batch is committed: rows of parent and child are written, and removed, in one transaction.
        """
        return sql.SQL(
            "alter table {} add constraint {} foreign key ({}) references {} ({}) deferrable initially deferred"
        ).format(
            _identifier(self.table),
            sql.Identifier(self.name),
            _joined(self.columns),
            _identifier(self.to),
            _joined(self.to_columns),
        )

    @property
    def orphans_statement(self) -> sql.Composed:
        """This removes the rows that it would not take."""
        return sql.SQL("delete from {} c where not exists (select from {} t where ({}) = ({}))").format(
            _identifier(self.table),
            _identifier(self.to),
            sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in self.to_columns),
            sql.SQL(", ").join(sql.SQL("c.{}").format(sql.Identifier(name)) for name in self.columns),
        )


def foreign_key(parent: Target, child: ChildTarget) -> ForeignKey | None:
    """Returns the foreign key of a child table; None where none is declared."""
    return _possible_key(parent, child) if child.declared.foreign_key else None


def follow_foreign_keys(connection: Connection, parent: Target, ledger: Ledger) -> None:
    """Adds the foreign keys that are declared, without the rows in their way, and drops those that are declared no longer.

    Of children that are declared no longer, too, whose rows would keep their parents. Costs one read where nothing has changed.
    """
    declared = [key for child in parent.children if (key := foreign_key(parent, child))]
    found = _find_keys(connection, ledger)
    kept = {key.found for key in declared}
    dropped, added = [key for key in found if key not in kept], [key for key in declared if key.found not in found]
    if not dropped and not added:
        return
    with connection.transaction(), connection.cursor() as cursor:
        lift_limits(connection)
        lock_ddl(cursor)
        # An ALTER that waits makes every reader queue behind it: give up soon, the caller tries again.
        cursor.execute("set local lock_timeout = '5s'")
        for gone in dropped:
            cursor.execute(gone.drop_statement)
        if added:
            _remove_orphans(connection, parent, ledger, added)
        for key in added:
            cursor.execute(key.statement)


def pending_keys(connection: Connection, parent: Target, child: ChildTarget) -> list[PendingChange]:
    """Returns what `follow_foreign_keys` would do to a child table that is declared, and is the pipeline's own."""
    key = foreign_key(parent, child)
    table = sql.Identifier(child.target.table.schema, child.target.table.name).as_string(connection)
    found = _keys_of(connection, sql.SQL("to_regclass({})").format(table))
    dropped = [one.drop_statement for one in found if key is None or one != key.found]
    added = [key.statement] if key is not None and key.found not in found else []
    return [
        *(PendingChange(statement.as_string(connection), "access exclusive") for statement in dropped),
        *(PendingChange(statement.as_string(connection), "share row exclusive") for statement in added),
    ]


def pending_drops(connection: Connection, parent: Target, ledger: Ledger) -> dict[str, tuple[PendingChange, ...]]:
    """Returns by table what `follow_foreign_keys` would do to child tables that are declared no longer."""
    declared = {child.target.table for child in parent.children}
    return {
        str(key.table): (PendingChange(key.drop_statement.as_string(connection), "access exclusive"),)
        for key in _find_keys(connection, ledger)
        if key.table not in declared
    }


def _remove_orphans(connection: Connection, parent: Target, ledger: Ledger, added: list[ForeignKey]) -> None:
    """Removes rows that stand below nothing, of all children: those within others before may have foreign keys to them."""
    tables = dict.fromkeys(table for key in added for table in (key.to, key.table))
    locking = sql.SQL("lock table {} in share row exclusive mode")
    connection.execute(locking.format(sql.SQL(", ").join(map(_identifier, tables))))
    for child in parent.children:
        # The key of an application's table may be of another type, and no foreign key leads there; nor are its rows all ours.
        if child.target.is_unmanaged or (child.declared.within is None and parent.is_unmanaged):
            continue
        removed = connection.execute(_possible_key(parent, child).orphans_statement).rowcount
        Ledger(str(child.target.table), child.target.label, ledger.schema).add_rows(connection, -removed)
    # Postgres alters no table of which rows wait to be checked.
    connection.execute("set constraints all immediate")


def _possible_key(parent: Target, child: ChildTarget) -> ForeignKey:
    outer = next((each.target for each in parent.children if each.declared == child.declared.within), parent)
    return ForeignKey(child.target.table, outer.table, child.target.key[: len(outer.key)], outer.key)


def _find_keys(connection: Connection, ledger: Ledger) -> list[FoundKey]:
    """Returns the foreign keys of all tables that are, or were, children of the ledger's table."""
    mine = sql.SQL(
        "any(array(select to_regclass(format('%%I.%%I', split_part(table_name, '.', 1), substr(table_name, strpos(table_name, '.') + 1)))"
        " from {} where parent_table = {}))"
    ).format(ledger.table("tables"), ledger.table_name)
    return _keys_of(connection, mine)


def _keys_of(connection: Connection, tables: sql.Composed) -> list[FoundKey]:
    """Leans on the index of pg_constraint by the table."""
    found = fetch_rows(
        connection,
        lambda schema, table, to_schema, to, name, is_deferred: (
            FoundKey(TableName(schema, table), TableName(to_schema, to), is_deferred=is_deferred),
            name,
        ),
        sql.SQL(
            "select n.nspname::text, c.relname::text, m.nspname::text, t.relname::text, k.conname::text, k.condeferred from pg_constraint k"
            " join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace"
            " join pg_class t on t.oid = k.confrelid join pg_namespace m on m.oid = t.relnamespace"
            " where k.contype = 'f' and k.conrelid = {} order by 1, 2"
        ).format(tables),
        {},
    )
    return [key for key, name in found if key.name == name]


def _identifier(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _joined(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
