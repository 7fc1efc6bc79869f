"""This module says what is synced: collections, their columns and tables, as validated values.

Everything else (frames, casts, DDL, staging, checks, docs) derives from these. Reading YAML is the business of the room declare; a
value that exists here has been checked. Knows neither Dagster nor Postgres nor the environment.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from sequin_pipeline.errors import CatalogError
from sequin_pipeline.identifiers import MAX_IDENTIFIER_BYTES as MAX_IDENTIFIER_BYTES
from sequin_pipeline.identifiers import TableName as TableName
from sequin_pipeline.identifiers import cut_identifier as cut_identifier
from sequin_pipeline.identifiers import default_table as default_table
from sequin_pipeline.json_paths import Path as Path
from sequin_pipeline.json_paths import parse_path as parse_path
from sequin_pipeline.reads import Connector, RestApi

ColumnType = Literal[
    "text", "boolean", "integer", "bigint", "numeric", "double precision", "date", "timestamptz", "uuid", "text[]", "jsonb"
]
DataType = Literal["jsonb", "json"]
"""The type of the column `data`."""
TimeFormat = Literal["iso", "epoch_seconds", "epoch_milliseconds"]
OnDelete = Literal["mark", "remove"]
RowSecurity = Literal["tenant"]
"""Readers of a table see the rows of one tenant only."""
WindowWidth = Literal["hour", "day", "week", "month"]
SourceKindName = Literal["sequin", "sequin_consumer", "sequin_stream", "stripe", "rest", "airbyte", "singer"]
"""These are the product's own kinds of sources.

What each is and needs is in sources/registry.py; sources/external.py finds those of others.
"""
KeyColumn = Literal["id", "sync_id", "upstream_id", "internal_id"]
"""The key of an unmanaged table can be made of these: they never change for a record."""

COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)

MAX_LANES = 16
MAX_CONSUMERS = 16
MAX_SHARDS = 64

MAX_COLUMNS = 1600
"""A table of Postgres has at most this many (Postgres documentation, appendix K)."""


@dataclass(frozen=True)
class Column:
    """This value is one declared column: a value of the record, cast by the table in value_casts.py.

    `is_required` is a rule for records that carry an object, never a NOT NULL constraint. `assume_utc` takes a time without zone
    as UTC; `rounds` allows more than six digits of a second; `rejects_nulls` refuses an array that holds one.
    """

    name: str
    path: Path
    type: ColumnType
    time_format: TimeFormat = "iso"
    is_required: bool = False
    empty_as_null: bool = False
    assume_utc: bool = False
    rounds: bool = False
    rejects_nulls: bool = False
    description: str = ""

    @property
    def fingerprint(self) -> str:
        """This changes when an existing row's value may come out differently: then the column is filled again from `data`."""
        parts: tuple[object, ...] = (
            str(self.path),
            self.type,
            self.time_format,
            self.empty_as_null,
            self.assume_utc,
            self.rounds,
        )
        if self.rejects_nulls:
            # Only then, so that the columns of everybody else keep the fingerprint that they have.
            parts += ("rejects_nulls",)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


POSITION = Column("position", Path("data", ()), "integer", description="where the element stands in its list, from 0 on")
NAME = Column("name", Path("data", ()), "text", description="the name of the member")
"""These columns of a child table are filled from where an element stands, and not from what it is."""


@dataclass(frozen=True)
class Windows:
    """This value says how a collection's stream is cut into time partitions.

    `start` is aware, UTC, and on a boundary of `every`.
    """

    every: WindowWidth
    start: datetime


@dataclass(frozen=True)
class SourceAccount:
    """This value is one sync of a source that is read account by account: its name is the tenant's `sync_id`.

    `key_variable` names the environment variable that holds its key; `connected_account` is asked for by header, with that key.
    """

    name: str
    key_variable: str
    connected_account: str | None = None
    external_id: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """This value says which consumer of a queue is drained, by how many steps, and how much each takes before it leaves the rest.

    None means all there is.
    """

    consumer: str
    max_records: int | None = None
    max_seconds: float | None = None
    consumers: int = 1


@dataclass(frozen=True)
class SourceDeclaration:
    """This value says what a provider's records are read from, and how.

    `kind` is a SourceKindName, the name of an entry point, or `package.module:Class`. `accounts`, `relist_hours`, `queue`, `rest` and
    `connector` mean something to some kinds only; `queue` is None for those that can be read again. `options` are what a class of
    another package asks for, with a Variable wherever the file says `{env: NAME}`.
    """

    kind: str = "sequin"
    accounts: tuple[SourceAccount, ...] = ()
    relist_hours: int = 24
    queue: Queue | None = None
    rest: RestApi | None = None
    connector: Connector | None = None
    options: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class UnmanagedTable:
    """This value says how a collection's columns stand in a table that belongs to an application.

    That has nothing to do with foreign data wrappers.

    `columns` names the table's column for each of ours; what it does not name is not written. Rows are found by `key`, columns of
    ours. `rounds` stores a time in a column that keeps fewer digits of a second; else its record is rejected.
    """

    columns: Mapping[str, str]
    key: tuple[str, ...] = ("id",)
    rounds: bool = False


@dataclass(frozen=True)
class HistoryTable:
    """This value names the table that keeps every version of a collection's records; those that had ended by `since` are not kept."""

    name: TableName
    since: datetime | None = None


@dataclass(frozen=True)
class ChildTable:
    """This value says which list in the object becomes a table, a row for each element: the collection's child.

    `path` leads to it from the object, or from an element of the list that this one is `within`; then `name` begins with that one's.
    `key` are values of the element that are unique within the parent, none: the position in the list. `by_name`: the path leads to an
    object, whose members are the elements and whose names are the key. Paths of columns begin at the element; `$` is all of it.
    `unmanaged` is None for a table that the pipeline manages, `indexes` are lists of columns of one that it does.
    """

    name: str
    table: TableName
    path: Path
    key: tuple[Column, ...] = ()
    columns: tuple[Column, ...] = ()
    by_name: bool = False
    within: "ChildTable | None" = None
    foreign_key: bool = False
    description: str = ""
    unmanaged: UnmanagedTable | None = field(default=None, hash=False)
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def frame_name(self) -> str:
        """This is its column in a frame, which no column can be declared as: a list of elements for each record."""
        return f"#children {self.name}"

    @property
    def own_key(self) -> tuple[Column, ...]:
        """These are the columns that tell an element from the others of its list."""
        return (NAME,) if self.by_name else self.key or (POSITION,)

    @property
    def outer_key(self) -> tuple[Column, ...]:
        """These are the columns that tell which elements of the outer lists the list stands in, those of the outermost first."""
        if self.within is None:
            return ()
        own = [replace(column, name=f"{self.within.name}_{column.name}") for column in self.within.own_key]
        return (*self.within.outer_key, *own)

    @property
    def read(self) -> tuple[Column, ...]:
        """These are the columns that are read from an element. The members of an object have no position, which jsonb does not keep."""
        position = () if self.by_name or not self.key else (POSITION,)
        return (*self.outer_key, *self.own_key, *position, *self.columns)

    @property
    def fingerprint(self) -> str:
        """This changes when existing rows may come out differently: then the table is filled again from `data`."""
        parts = [self.within.fingerprint if self.within else "", str(self.table), str(self.path), self.by_name]
        parts += [[column.name, column.fingerprint] for column in self.read]
        parts += sorted(self.unmanaged.columns.items()) if self.unmanaged else []
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Collection:
    """This value is a class of objects of one provider, and the table its records land in.

    `unmanaged` is None for a table that the pipeline manages, `indexes` are lists of columns of one that it does. `lanes` is how many
    connections write it beside each other, `shards` into how many streams a first load is divided, `history` how long the ledger keeps
    what became of each record. `history_table` keeps the versions themselves, as rows.
    `reject_limit_records` and `reject_limit_share`: a run that rejects more than both fails after everything good was committed.
    `origin` is `file:line` of its declaration. `observes_time`: versions are times of observation rather than counters, so that equal
    content at a newer version is unchanged. `lists_from_a_start`: a full listing begins at a time that the source chooses, so that what
    last changed before the oldest object in it does not count as deleted. `data_type` is the type of the column `data` in a table that the
    pipeline manages: `json` keeps the object as it came, byte for byte. `row_security`: whose rows such a table shows its
    readers; None: all. `children` are its child tables, outer ones before those within.
    """

    provider: str
    name: str
    table: TableName
    windows: Windows
    columns: tuple[Column, ...] = ()
    unmanaged: UnmanagedTable | None = None
    indexes: tuple[tuple[str, ...], ...] = ()
    description: str = ""
    on_delete: OnDelete = "mark"
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    lanes: int = 1
    shards: int = 1
    history: timedelta | None = None
    history_table: HistoryTable | None = None
    reject_limit_records: int = 100
    reject_limit_share: float = 0.01
    origin: str | None = None
    source: SourceDeclaration = SourceDeclaration()
    observes_time: bool = False
    lists_from_a_start: bool = False
    data_type: DataType = "jsonb"
    row_security: RowSecurity | None = None
    children: tuple[ChildTable, ...] = ()

    @property
    def id(self) -> str:
        """This is the API's own name, `provider:name`."""
        return f"{self.provider}:{self.name}"

    @property
    def label(self) -> str:
        """This is the name in commands, logs and the asset key, `provider/name`."""
        return f"{self.provider}/{self.name}"

    @property
    def tables(self) -> tuple[TableName, ...]:
        """These are its table, and those of its children."""
        return (self.table, *(child.table for child in self.children))

    @property
    def is_queued(self) -> bool:
        """This is true where a queue delivers the collection, together with whatever else it holds: no windows, no backfill."""
        return self.source.queue is not None

    @property
    def is_listed(self) -> bool:
        """This is true where the collection is listed as a whole now and then, so that what is no longer there is marked.

        The sources that observe what they read do so.
        """
        return self.observes_time

    @property
    def queue_key(self) -> tuple[str, str] | None:
        """This is the kind and the consumer of the queue that delivers the collection; None where no queue does.

        All collections with the same one need one run.
        """
        return None if self.source.queue is None else (self.source.kind, self.source.queue.consumer)


RESERVED_SCHEMAS = ("information_schema", "pg_catalog", "pg_toast")


def check_tables(collections: Iterable[Collection], ledger_schema: str) -> None:
    """Checks that no two collections have one table, and that none has one in the ledger's schema.

    Two would overwrite each other, and that schema is the pipeline's own.

    Raises CatalogError with the origin of the later declaration.
    """
    seen: dict[TableName | str, tuple[str, Collection]] = {}
    for collection in collections:
        origin = collection.origin
        children = [(f"child {child.name!r} of {collection.label!r}", child) for child in collection.children]
        tables = [(repr(collection.label), collection.table), *((what, child.table) for what, child in children)]
        if collection.history_table:
            tables.append((f"the history of {collection.label!r}", collection.history_table.name))
        for what, table in tables:
            if table.schema == ledger_schema:
                kind = "collection " if table is collection.table else ""
                raise CatalogError(
                    f"{kind}{what} would land in schema {table.schema!r}, which holds the ledger: "
                    "name another table with `table: {name: schema.table}`",
                    origin,
                )
            first, of = seen.setdefault(table, (what, collection))
            if (first, of) != (what, collection):
                raise CatalogError(
                    f"collections {first} ({of.origin or 'no file'}) and {what} would both land in table "
                    f"{str(table)!r}: name another table for one of them with `table: {{name: schema.table}}`",
                    origin,
                )
    _check_assets([each for _, each in seen.values()])


def _check_assets(collections: Iterable[Collection]) -> None:
    """Checks that no child has the asset key of another table."""
    labels = {collection.label: collection for collection in collections}
    for collection in {id(each): each for each in labels.values()}.values():
        for child in collection.children:
            label = f"{collection.label}_{child.name}"
            if labels.setdefault(label, collection) is not collection:
                raise CatalogError(
                    f"child {child.name!r} of {collection.label!r} and collection {label!r} would both be the asset {label!r}: "
                    "give the child another name",
                    collection.origin,
                )
