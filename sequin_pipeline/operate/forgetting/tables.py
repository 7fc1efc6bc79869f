"""This module finds the tables that may hold rows of somebody who is to be forgotten.

A further kind of table that the pipeline writes is one more function in KINDS.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import Collection, TableName
from sequin_pipeline.ledger.history_tables import history_tables as known_histories
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.forgotten import Subject
from sequin_pipeline.table.managed import FRAME_SOURCE
from sequin_pipeline.table.target import PARENT_ID, TENANT_COLUMNS, collection_target

ORIGIN_COLUMNS = ("id", "upstream_id", "sync_id", "internal_id")
"""These columns of ours say which record a row is, and whose."""

CHILD_ORIGINS: Mapping[str, str] = {"id": PARENT_ID, **{name: name for name in TENANT_COLUMNS}}
"""In a child table these columns say it."""


@dataclass(frozen=True)
class ForgetTable:
    """This value is a table as far as forgetting needs it.

    `columns` names the table's column for each of ORIGIN_COLUMNS that it has, `key` the table's columns that the ledger names a row by.
    `version` is the column that only rows of ours have a value in, where it is an application's table; `keeps_versions`: the ledger
    has the versions of all rows of ours. `may_delete`: its rows may be deleted, which an application's
    (`is_application`) must allow. `repeats_ids`: it has a row for each version of a record. `is_child`: it holds elements of records,
    several of each, and its label begins with theirs.
    """

    table: TableName
    label: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    version: str | None = None
    keeps_versions: bool = False
    may_delete: bool = True
    is_application: bool = False
    repeats_ids: bool = False
    is_child: bool = False

    @property
    def identifier(self) -> sql.Identifier:
        """This is the table's name in a statement."""
        return sql.Identifier(self.table.schema, self.table.name)

    def ledger(self, schema: str) -> Ledger:
        """Returns the table's ledger."""
        return Ledger(str(self.table), self.label, schema)

    def column_of(self, subject: Subject) -> str | None:
        """Returns the table's column that tells rows of the subject; None where it has none."""
        return self.columns.get("id" if subject.kind == "record" else subject.kind)

    def may_hold(self, subject: Subject) -> bool:
        """Tells whether rows of the subject could be here at all."""
        if subject.kind != "record" or subject.label == self.label:
            return True
        return self.is_child and self.label.startswith(f"{subject.label}_")


Kind = Callable[[Connection, Iterable[Collection], str], Iterator[ForgetTable]]


def collection_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> Iterator[ForgetTable]:
    """Yields the tables of declared collections, those of applications too."""
    for collection in collections:
        target = collection_target(collection)
        # Before their parents, on which they may have a foreign key; those within others before these.
        for child in reversed(target.children):
            yield ForgetTable(child.target.table, child.target.label, CHILD_ORIGINS, child.target.key, is_child=True)
        yield ForgetTable(
            collection.table,
            collection.label,
            {name: target.column(name).table_name for name in ORIGIN_COLUMNS if target.is_stored(name)},
            tuple(target.column(name).table_name for name in target.key),
            version=target.column(target.version).table_name
            if target.is_unmanaged and target.version and not target.keeps_versions
            else None,
            keeps_versions=target.keeps_versions,
            may_delete=not target.is_unmanaged or target.removes,
            is_application=target.is_unmanaged,
        )


def other_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> Iterator[ForgetTable]:
    """Yields the tables that only the ledger knows: of frames, and of collections that are declared no longer."""
    known = {str(table) for collection in collections for table in collection.tables}
    found = fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL("select table_name, label, source_kind from {} order by table_name").format(sql.Identifier(schema, "tables")),
    )
    for name, label, kind in found:
        table = TableName(*name.split(".", 1))
        if name in known:
            continue
        columns = _text_columns(connection, table)
        if kind != FRAME_SOURCE.kind and PARENT_ID in columns and "upstream_id" not in columns:
            yield ForgetTable(table, label, CHILD_ORIGINS, (), is_child=True)
        else:
            yield ForgetTable(
                table, label, {one: one for one in ORIGIN_COLUMNS if one in columns}, ("id",) if "id" in columns else ()
            )


def history_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> Iterator[ForgetTable]:
    """Yields the tables that keep versions, behind those whose rows they are; the ledger knows all of them."""
    for table, label in known_histories(connection, schema):
        yield ForgetTable(table, label, {name: name for name in ORIGIN_COLUMNS}, ("id",), repeats_ids=True)


KINDS: tuple[Kind, ...] = (collection_tables, other_tables, history_tables)


def find_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> list[ForgetTable]:
    """Returns every table that is there and may hold rows of somebody."""
    declared = list(collections)
    found = [table for kind in KINDS for table in kind(connection, declared, schema)]
    return [table for table in found if exists(connection, table)]


def exists(connection: Connection, table: ForgetTable) -> bool:
    """Tells whether the table is there."""
    name = table.identifier.as_string(connection)
    return bool(fetch_value(connection, "select to_regclass(%s) is not null", (name,)))


def _text_columns(connection: Connection, table: TableName) -> frozenset[str]:
    name = sql.Identifier(table.schema, table.name).as_string(connection)
    statement = (
        "select attname::text from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped"
        " and atttypid = 'text'::regtype"
    )
    return frozenset(fetch_rows(connection, str, statement, (name,)))
