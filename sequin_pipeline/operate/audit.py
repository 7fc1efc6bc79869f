"""This module looks at a whole table, once a day, and finds where it differs from the ledger and the declaration.

It only reads, and knows no Dagster. Each question is one statement; offenders are shown up to SHOWN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from psycopg import sql

from sequin_pipeline.catalog import ChildTable, Collection, TableName
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.postgres.warehouse import Connection, without_limits
from sequin_pipeline.table.target import PARENT_ID, child_label, collection_target

SHOWN = 10


@dataclass(frozen=True)
class TableAudit:
    """This value is what was found.

    `rows` and `expected_rows` are of one moment; both are None for a table that has not been synced yet, `rows` alone for a missing
    one. `missing` are columns without a required value, by id, of the first SHOWN rows found. A table that belongs to an application
    (`is_unmanaged`) may hold rows of its own, which nobody can expect anything of.
    """

    rows: int | None
    expected_rows: int | None
    is_unmanaged: bool = False
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ChildAudit:
    """This value is what was found of a child table: counts as of a table, and the first SHOWN parents whose rows are not there."""

    table: TableAudit
    orphaned: tuple[str, ...] = ()


def audit_child(connection: Connection, collection: Collection, child: ChildTable, *, schema: str = DEFAULT_SCHEMA) -> ChildAudit:
    """Audits a child table; raises psycopg.Error."""
    migrate(connection, schema)
    return without_limits(partial(_audit_child, collection=collection, child=child, schema=schema))(connection)


def _audit_child(connection: Connection, collection: Collection, child: ChildTable, schema: str) -> ChildAudit:
    table = _audit_rows(connection, child.table, Ledger(str(child.table), child_label(collection, child), schema))
    if table.rows is None or child.unmanaged is not None:
        return ChildAudit(replace(table, is_unmanaged=child.unmanaged is not None))
    parent = collection_target(collection)
    found = connection.execute(
        sql.SQL(
            "select distinct c.{parent_id} from {child} c"
            " where not exists (select from {parent} t where t.{key}::text = c.{parent_id}) limit {shown}"
        ).format(
            parent_id=sql.Identifier(PARENT_ID),
            child=sql.Identifier(child.table.schema, child.table.name),
            parent=sql.Identifier(collection.table.schema, collection.table.name),
            key=sql.Identifier(parent.column("id").table_name),
            shown=sql.Literal(SHOWN),
        )
    ).fetchall()
    return ChildAudit(table, tuple(sorted(str(row[0]) for row in found)))


def audit_table(connection: Connection, collection: Collection, *, schema: str = DEFAULT_SCHEMA) -> TableAudit:
    """Audits a collection's table; raises psycopg.Error."""
    migrate(connection, schema)
    return without_limits(partial(_audit, collection=collection, schema=schema))(connection)


def _audit(connection: Connection, collection: Collection, schema: str) -> TableAudit:
    found = _audit_rows(connection, collection.table, Ledger(str(collection.table), collection.label, schema))
    if found.rows is None:
        return found
    table = sql.Identifier(collection.table.schema, collection.table.name)
    return replace(
        found,
        is_unmanaged=collection.unmanaged is not None,
        missing={} if collection.unmanaged else _missing(connection, table, collection),
    )


def _audit_rows(connection: Connection, name: TableName, ledger: Ledger) -> TableAudit:
    record = ledger.find_table(connection)
    if record is None:
        return TableAudit(rows=None, expected_rows=None)
    table = sql.Identifier(name.schema, name.name)
    found = connection.execute("select to_regclass(%s) is not null", (table.as_string(connection),)).fetchone()
    if found != (True,):
        return TableAudit(rows=None, expected_rows=record.row_count)
    rows, expected_rows = _count(connection, table, ledger)
    return TableAudit(rows=rows, expected_rows=expected_rows)


def _count(connection: Connection, table: sql.Identifier, ledger: Ledger) -> tuple[int, int]:
    """Returns both counts in one snapshot, so that a merge in between is in both or in none.

    Postgres counts along the primary key where it can.
    """
    row = connection.execute(
        sql.SQL("select (select count(*) from {}), row_count from {} where table_name = %s").format(
            table, ledger.table("tables")
        ),
        (ledger.table_name,),
    ).fetchone()
    assert row is not None  # noqa: S101 - the caller has found the table's record
    return int(str(row[0])), int(str(row[1]))


def _missing(connection: Connection, table: sql.Identifier, collection: Collection) -> dict[str, tuple[str, ...]]:
    """Finds the first offenders in one pass over the heap that reads no object."""
    required = [column.name for column in collection.columns if column.is_required]
    if not required:
        return {}
    is_null = [sql.SQL("{} is null").format(sql.Identifier(name)) for name in required]
    named = [sql.SQL("case when {} is null then {} end").format(sql.Identifier(name), sql.Literal(name)) for name in required]
    rows = connection.execute(
        sql.SQL(
            "select id, array_remove(array[{named}]::text[], null) from {table}"
            " where not deleted and data is not null and ({is_null}) limit {shown}"
        ).format(
            named=sql.SQL(", ").join(named),
            table=table,
            is_null=sql.SQL(" or ").join(is_null),
            shown=sql.Literal(SHOWN),
        )
    ).fetchall()
    return {str(row_id): tuple(names) for row_id, names in rows}  # type: ignore[arg-type]  # a text[] by this statement
