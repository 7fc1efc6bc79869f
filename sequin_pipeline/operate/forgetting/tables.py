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
    several of each. `record_label` is the label that names its records in a request: of a child table that of its parent, None where
    nobody knows which that is.
    """

    table: TableName
    label: str
    record_label: str | None
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
        return subject.kind != "record" or subject.label == self.record_label


Kind = Callable[[Connection, Iterable[Collection], str], Iterator[ForgetTable]]


def collection_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> Iterator[ForgetTable]:
    """Yields the tables of declared collections, those of applications too."""
    for collection in collections:
        target = collection_target(collection)
        for child in target.children:
            names = {ours: name for ours, name in CHILD_ORIGINS.items() if child.target.is_stored(name)}
            yield ForgetTable(
                child.target.table,
                child.target.label,
                collection.label,
                {ours: child.target.column(name).table_name for ours, name in names.items()},
                tuple(child.target.column(name).table_name for name in child.target.key),
                is_application=child.target.is_unmanaged,
                is_child=True,
            )
        yield ForgetTable(
            collection.table,
            collection.label,
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
    labels = {str(table): collection.label for collection in collections for table in collection.tables}
    found = fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL(
            "select t.table_name, t.label, t.parent_table, p.label from {tables} t left join {tables} p on p.table_name = t.parent_table"
            " order by t.table_name"
        ).format(tables=sql.Identifier(schema, "tables")),
    )
    for name, label, parent, parent_label in found:
        table = TableName(*name.split(".", 1))
        if name in labels:
            continue
        if parent is not None:
            yield ForgetTable(table, label, labels.get(parent, parent_label), CHILD_ORIGINS, (), is_child=True)
            continue
        columns = _text_columns(connection, table)
        own = {one: one for one in ORIGIN_COLUMNS if one in columns}
        yield ForgetTable(table, label, label, own, ("id",) if "id" in columns else ())


def history_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> Iterator[ForgetTable]:
    """Yields the tables that keep versions, behind those whose rows they are; the ledger knows all of them."""
    for table, label in known_histories(connection, schema):
        yield ForgetTable(table, label, label, {name: name for name in ORIGIN_COLUMNS}, ("id",), repeats_ids=True)


KINDS: tuple[Kind, ...] = (collection_tables, other_tables, history_tables)


def find_tables(connection: Connection, collections: Iterable[Collection], schema: str) -> list[ForgetTable]:
    """Returns every table that is there and may hold rows of somebody."""
    declared = list(collections)
    found = [table for kind in KINDS for table in kind(connection, declared, schema)]
    # Rows of children may have a foreign key to their parents', also where they are declared no longer. A list within another has the
    # longer label.
    children = sorted((table for table in found if table.is_child), key=lambda table: len(table.label), reverse=True)
    others = [table for table in found if not table.is_child]
    return [table for table in (*children, *others) if exists(connection, table)]


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
