"""This module says what is synced: collections, their columns and tables, as validated values.

Everything else (frames, casts, DDL, staging, checks, docs) derives from these. Reading YAML is the business of the room declare; a
value that exists here has been checked. Knows neither Dagster nor Postgres nor the environment.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args

from sequin_pipeline.errors import CatalogError
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
"""A table of Postgres has at most so many (Postgres documentation, appendix K)."""

MAX_IDENTIFIER_BYTES = 63
"""This is NAMEDATALEN - 1: Postgres cuts a longer name in silence (Postgres documentation, 4.1.1)."""


@dataclass(frozen=True)
class Path:
    """This value says where a value stands in a record: RFC 9535 with a leading `$.` implied, names and indexes only.

    `root` is `data` for the provider's object and `record` for the envelope around it.
    """

    root: Literal["data", "record"]
    steps: tuple[str | int, ...]

    def __str__(self) -> str:
        text = "record" if self.root == "record" else "$"
        for step in self.steps:
            if isinstance(step, int):
                text += f"[{step}]"
            elif _NAME.fullmatch(step):
                text += f".{step}"
            else:
                escaped = step.replace("\\", "\\\\").replace("'", "\\'")
                text += f"['{escaped}']"
        return text


_NAME = re.compile(r"[^\W\d][\w-]*")
_STEP = re.compile(r"""\.?(?P<name>[^\W\d][\w-]*)|\[(?P<index>0|[1-9]\d{0,8})\]|\['(?P<quoted>(?:[^'\\]|\\['\\])*)'\]""")


def parse_path(text: str) -> Path:
    """Reads `items.data[0].price.id`, `['a.b'].c`, `record.sync.metadata`, `$.record.x` (then `record` is a key of `data`)."""
    is_explicit = text.startswith("$")
    rest = text[1:] if is_explicit else text
    steps: list[str | int] = []
    position = 0
    while position < len(rest):
        step = _STEP.match(rest, position)
        leads_with_dot = rest[position] == "."
        is_name = step is not None and step["name"] is not None
        if step is None or (is_name and leads_with_dot != bool(steps or is_explicit)):
            raise CatalogError(
                f"path {text!r} is not understood at character {position + 1 + is_explicit}: write names and indexes only, "
                "as in items.data[0].price.id or ['key with.dots'].id"
            )
        if is_name:
            steps.append(step["name"])
        elif step["index"] is not None:
            steps.append(int(step["index"]))
        else:
            steps.append(re.sub(r"\\(['\\])", r"\1", step["quoted"]))
        position = step.end()
    if not steps:
        raise CatalogError(f"path {text!r} is empty: name a key of the provider's object, as in customer or items.data[0].id")
    if not is_explicit and steps[0] == "record" and len(steps) > 1 and text.startswith("record"):
        return Path("record", tuple(steps[1:]))
    return Path("data", tuple(steps))


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


@dataclass(frozen=True)
class TableName:
    """This value names a table of the warehouse, each part at most 63 bytes."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


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
    readers; None: all.
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

    @property
    def id(self) -> str:
        """This is the API's own name, `provider:name`."""
        return f"{self.provider}:{self.name}"

    @property
    def label(self) -> str:
        """This is the name in commands, logs and the asset key, `provider/name`."""
        return f"{self.provider}/{self.name}"

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


def default_table(provider: str, name: str) -> TableName:
    """Returns `<provider>.<name>`, in which dots become `_`.

    A name longer than 63 bytes is cut, and told apart by a hash of the whole.
    """
    return TableName(*(cut_identifier(part.replace(".", "_"), told_by=part) for part in (provider, name)))


def cut_identifier(name: str, *, told_by: str | None = None) -> str:
    """Returns the name where Postgres can hold it; else cuts it.

    A name that was cut is told apart from others by a hash of the whole, or of `told_by`.
    """
    encoded = name.encode()
    if len(encoded) <= MAX_IDENTIFIER_BYTES:
        return name
    mark = "_" + hashlib.blake2b((told_by or name).encode(), digest_size=4).hexdigest()
    return encoded[: MAX_IDENTIFIER_BYTES - len(mark)].decode(errors="ignore") + mark


RESERVED_SCHEMAS = ("information_schema", "pg_catalog", "pg_toast")


def check_tables(collections: Iterable[Collection], ledger_schema: str) -> None:
    """Checks that no two collections have one table, and that none has one in the ledger's schema.

    Two would overwrite each other, and that schema is the pipeline's own.

    Raises CatalogError with the origin of the later declaration.
    """
    seen: dict[TableName, Collection] = {}
    tables = [
        (table, collection)
        for collection in collections
        for table in (collection.table, *([collection.history_table.name] if collection.history_table else []))
    ]
    for table, collection in tables:
        if table.schema == ledger_schema:
            raise CatalogError(
                f"collection {collection.label!r} would land in schema {table.schema!r}, which holds the ledger: "
                "name another table with `table: {name: schema.table}`",
                collection.origin,
            )
        first = seen.setdefault(table, collection)
        if first is not collection:
            raise CatalogError(
                f"collections {first.label!r} ({first.origin or 'no file'}) and {collection.label!r} would both land in table "
                f"{str(table)!r}: name another table for one of them with `table: {{name: schema.table}}`",
                collection.origin,
            )
