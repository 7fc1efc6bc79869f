"""This module prepares the table that keeps every version of a collection's records, and the function that reads it as of a time.

It is the pipeline's own: created when missing, added to when the declaration grows, refused where the ledger does not know it.
What is written there is the business of the room write.
"""

from dataclasses import dataclass, replace

from psycopg import sql

from sequin_pipeline.catalog import HistoryTable, TableName, cut_identifier
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.history_tables import HistoryRecord, find_history_table, note_undeclared, register_history_table
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import lock_ddl
from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.fields import VALIDITY
from sequin_pipeline.table.ddl import add_statements, comment, comment_statements, create_table
from sequin_pipeline.table.found_table import FoundTable, check_found, find_table_in_catalog
from sequin_pipeline.table.indexes import index_name
from sequin_pipeline.table.row_security import security_statements
from sequin_pipeline.table.target import Target, TargetColumn
from sequin_pipeline.table.write_access import check_ownership

ORDER = ("id", "valid_from", "updated_idx")
"""The versions of a record follow each other in this order, and an index has it: neighbours are found by one look each."""


@dataclass(frozen=True)
class PendingHistory:
    """This value is what the next run would do first to have the history table: the statements, or `creates` for a new one."""

    table: TableName
    creates: bool
    statements: tuple[str, ...] = ()


def history_target(target: Target) -> Target:
    """Returns the history table of a managed table: its columns, and when each version held."""
    assert target.history_table is not None  # noqa: S101 - the callers asked
    validity = tuple(
        TargetColumn(name, "timestamptz", "timestamptz", is_nullable=name == "valid_to", description=description)
        for name, description in VALIDITY.items()
    )
    stamps = {
        "inserted_at": "when this version was written here; never changes",
        "updated_at": "when this row last changed here, as when the next version ended it",
    }
    return replace(
        target,
        table=target.history_table.name,
        columns=(*target.columns, *validity),
        key=("id", "updated_idx"),
        # Versions that had ended by then are deleted where their end becomes known.
        on_delete="remove" if target.history_table.since else "mark",
        history_table=None,
        descriptions=stamps,
        description=f"Every version of the records of {target.table}, with the times at which it held.",
    )


def as_of_name(table: TableName) -> TableName:
    """Returns the function's name: `<table>_as_of` in the table's schema."""
    return TableName(table.schema, cut_identifier(f"{table.name}_as_of"))


def prepare_history_table(connection: Connection, target: Target, ledger: Ledger, *, adopt: bool = False) -> HistoryRecord | None:
    """Makes the history table ready, and returns what the ledger knows of it; None where none is declared.

    Raises TableRefused, psycopg.Error; then nothing has changed.
    """
    note_undeclared(connection, ledger, declared=target.history_table.name if target.history_table else None)
    if target.history_table is None:
        return None
    history, name = history_target(target), target.history_table.name
    record, found = find_history_table(connection, ledger, name), find_table_in_catalog(connection, history)
    if found is None or record is None or record.table_name != ledger.table_name:
        with connection.transaction(), connection.cursor() as cursor:
            lock_ddl(cursor)
            record, found = find_history_table(connection, ledger, name), find_table_in_catalog(connection, history)
            _check_ours(history, ledger, record, is_there=found is not None, adopt=adopt)
            if found is None or record is None or record.table_name != ledger.table_name:
                if found is None:
                    create_table(connection, history)
                    cursor.execute(_order_index(history))
                    _create_function(connection, target.table, history)
                register_history_table(connection, ledger, name)
                record, found = find_history_table(connection, ledger, name), find_table_in_catalog(connection, history)
    assert found is not None  # noqa: S101 - it has been created
    check_found(connection, history, found)
    if statements := _changes(connection, target, history, found):
        check_ownership(history, found.access, statements)
        _change(connection, target, history, found)
    return record


def existing_history(connection: Connection, ledger: Ledger, target: Target) -> HistoryTable | None:
    """Returns the history table that is declared where a run has made it; before, its first rows are yet to be written."""
    if target.history_table is None:
        return None
    record = find_history_table(connection, ledger, target.history_table.name)
    return target.history_table if record is not None and record.table_name == ledger.table_name else None


def pending_history(connection: Connection, target: Target, ledger: Ledger, *, has_ledger: bool) -> PendingHistory | None:
    """Returns what `prepare_history_table` would do; changes nothing. Raises TableRefused as that would.

    `has_ledger`: the ledger is there, and as this build knows it.
    """
    if target.history_table is None:
        return None
    history = history_target(target)
    found = find_table_in_catalog(connection, history)
    record = find_history_table(connection, ledger, history.table) if has_ledger else None
    _check_ours(history, ledger, record, is_there=found is not None, adopt=False)
    if found is None:
        return PendingHistory(history.table, creates=True)
    check_found(connection, history, found)
    statements = _changes(connection, target, history, found)
    check_ownership(history, found.access, statements)
    return PendingHistory(history.table, creates=False, statements=tuple(statements))


def _check_ours(history: Target, ledger: Ledger, record: HistoryRecord | None, *, is_there: bool, adopt: bool) -> None:
    if not is_there or adopt or (record is not None and record.table_name == ledger.table_name):
        return
    owner = "this pipeline did not create it" if record is None else f"it is the history of table {record.table_name!r}"
    raise TableRefused(
        f"history table {str(history.table)!r} of {history.label!r} exists already, and {owner}: name another one in the YAML with "
        "`history_table: {name: schema.table}`, or let the pipeline take it over with --adopt"
    )


def _securing(connection: Connection, history: Target) -> list[sql.Composed]:
    """Composes what shows readers their tenant's versions only, where the table shows them its own rows only."""
    return security_statements(connection, history.table) if history.row_security else []


def _missing(history: Target, found: FoundTable) -> tuple[str, ...]:
    stamps = (history.created_at, history.changed_at)
    return tuple(name for name in (*history.column_names, *filter(None, stamps)) if name not in found.types)


def _changes(connection: Connection, target: Target, history: Target, found: FoundTable) -> list[str]:
    statements: list[sql.Composed] = [
        *add_statements(history, _missing(history, found)),
        *_securing(connection, history),
        *comment_statements(connection, history, found.comments),
    ]
    if not _has_order_index(connection, history):
        statements.append(_order_index(history))
    if not _has_function(connection, target.table):
        statements.append(_function(target.table, history))
    return [statement.as_string(connection) for statement in statements]


def _change(connection: Connection, target: Target, history: Target, found: FoundTable) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        # An ALTER that waits makes every reader queue behind it: give up soon, the caller tries again.
        cursor.execute("set local lock_timeout = '5s'")
        for statement in add_statements(history, _missing(history, found)):
            cursor.execute(statement)
        for statement in _securing(connection, history):
            cursor.execute(statement)
        if not _has_order_index(connection, history):
            cursor.execute(_order_index(history))
        _create_function(connection, target.table, history)
        comment(connection, history, found.comments)


def _order_index(history: Target) -> sql.Composed:
    return sql.SQL("create index {} on {} ({})").format(
        sql.Identifier(index_name(history.table, ORDER)),
        sql.Identifier(history.table.schema, history.table.name),
        sql.SQL(", ").join(map(sql.Identifier, ORDER)),
    )


def _has_order_index(connection: Connection, history: Target) -> bool:
    return bool(
        fetch_value(
            connection,
            "select exists (select from pg_index i where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null"
            " and (select array_agg(a.attname::text order by k.n) from unnest(i.indkey::int2[]) with ordinality k (attnum, n)"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where k.n <= %s) = %s)",
            (sql.Identifier(history.table.schema, history.table.name).as_string(connection), len(ORDER), list(ORDER)),
        )
    )


def _has_function(connection: Connection, table: TableName) -> bool:
    name = as_of_name(table)
    return bool(
        fetch_value(
            connection,
            "select exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname = %s and p.proname = %s and p.proargtypes::text = 'timestamptz'::regtype::oid::text)",
            (name.schema, name.name),
        )
    )


def _function(table: TableName, history: Target) -> sql.Composed:
    """Composes the function; Postgres puts a query of this form in the place of its call, and plans the whole."""
    name = as_of_name(table)
    return sql.SQL("create function {}(at timestamptz) returns setof {history} language sql stable as {body}").format(
        sql.Identifier(name.schema, name.name),
        history=sql.Identifier(history.table.schema, history.table.name),
        body=sql.Literal(
            sql.SQL("select * from {} where valid_from <= $1 and (valid_to > $1 or valid_to is null) and not deleted")
            .format(sql.Identifier(history.table.schema, history.table.name))
            .as_string()
        ),
    )


def _create_function(connection: Connection, table: TableName, history: Target) -> None:
    """Creates the function where there is none of that name, which may be somebody's own by now."""
    if _has_function(connection, table):
        return
    name = as_of_name(table)
    connection.execute(_function(table, history))
    connection.execute(
        sql.SQL("comment on function {}(timestamptz) is {}").format(
            sql.Identifier(name.schema, name.name),
            sql.Literal(f"the records of {table} as they were at a time, without those that were deleted by then"),
        )
    )
