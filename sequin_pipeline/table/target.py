"""This module says what a table looks like to the merge: its columns, its key, its version.

Derived from a collection here, from a plain DataFrame in frame_target.py; DDL, staging and merge statements are composed from this
value alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from sequin_pipeline.catalog import ChildTable, Collection, HistoryTable, OnDelete, RowSecurity, TableName, UnmanagedTable
from sequin_pipeline.normalize.value_casts import STORAGE
from sequin_pipeline.records.fields import CHILD_COLUMNS, FIELDS, RECORD_COLUMNS
from sequin_pipeline.table.type_limits import Limit

ColumnScope = Literal["batch", "staging", "table"]


DIGIT_KEEPING_TYPES = ("numeric", "jsonb", "double precision")
"""Of two equal numbers these types keep the one that was written: 1.1 or 1.10, 0.0 or -0.0.

A `json` column keeps all of its text, and has no equality at all: its image is compared in the same way.
"""


TENANT_COLUMNS = ("sync_id", "internal_id")
"""These columns of ours say whose a row is."""


PARENT_ID = "parent_id"
"""This column of a child table has the id of its parent's row."""


@dataclass(frozen=True)
class TargetColumn:
    """This value is a column that the merge writes from the frame's column of the same name.

    `staging` is the type it is copied as, `cast` what stands behind `::` to turn a surviving value into one of the table's (None:
    nothing needed). `is_object`: its value comes from the provider's object, so that a bare tombstone leaves it as it is.
    `keeps_digits`: equal values may be written with other digits, which are kept, so that only their images tell whether they are the same.

    The rest is for unmanaged tables. `stored_as` is the table's own name for it; `scope` how far its values go: a version that no
    column takes is staged and kept in the ledger, a time that no column takes says only which window a row is in. `compared_as` is
    the type in which stored and staged value are compared. `limits` are what the table's type would change in silence; `rounds_to` are the
    digits of a second to which times are rounded first.
    """

    name: str
    type: str
    staging: str
    cast: str | None = None
    is_object: bool = False
    keeps_digits: bool = False
    is_nullable: bool = True
    description: str = ""
    stored_as: str = ""
    scope: ColumnScope = "table"
    compared_as: str | None = None
    limits: tuple[Limit, ...] = ()
    rounds_to: int | None = None

    @property
    def table_name(self) -> str:
        """This is its name in the table."""
        return self.stored_as or self.name


@dataclass(frozen=True)
class Target:
    """This value is a table, and how rows find, outrank and equal each other in it.

    `version` None: each delivery is newest. `content_hash` None: rows are compared column by column. `tombstone` and `data` name the
    columns that make a bare tombstone (`deleted` and no object); None where rows are never deleted. `stream_time` is the column that
    places a row in a window. `has_removed_rows`: the ledger remembers versions of rows that were removed, which outrank late older
    copies whatever `on_delete` says now. `observes_time`: versions are times of observation, so that a row which holds already what a
    newer one brings is left as it is, its version too. `trusts_hash`: an equal hash says that all columns are equal, which it does not
    where a column has been lost. `rechecks_text`: nor does it where text that is more than ASCII is stored, which a session of another
    encoding may have changed on its way. `created_at` and `changed_at` are stamped here and never compared.
    `history`: how long the ledger keeps what became of each record; None: nothing is kept. `row_security`: which rows a managed table shows
    its readers; None: all. `history_table` keeps the versions themselves. `uncompared` columns say nothing about whether two rows are the
    same. `children` are the tables of elements of lists in the object; `fills_children` has them written for rows that the table holds at
    the version that comes, too; `is_child` is true of such a table itself.

    `unmanaged`: the table belongs to an application, and unmanaged.py has to look at it before the first row. Names of columns here are
    the frame's; `stamp_casts` turns the present moment into a value of a stamped column of the table. `descriptions` are what the stamped
    columns are, where that is not what they are in every table.
    """

    table: TableName
    label: str
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...]
    version: str | None = None
    content_hash: str | None = None
    tombstone: str | None = None
    data: str | None = None
    stream_time: str | None = None
    created_at: str | None = None
    changed_at: str | None = None
    on_delete: OnDelete = "mark"
    has_removed_rows: bool = False
    observes_time: bool = False
    trusts_hash: bool = True
    rechecks_text: bool = False
    history: timedelta | None = None
    row_security: RowSecurity | None = None
    history_table: HistoryTable | None = None
    description: str = ""
    unmanaged: UnmanagedTable | None = field(default=None, hash=False)
    is_partitioned: bool = False
    stamp_casts: Mapping[str, str] = field(default_factory=dict, hash=False)
    descriptions: Mapping[str, str] = field(default_factory=dict, hash=False)
    uncompared: tuple[str, ...] = ()
    children: tuple["ChildTarget", ...] = ()
    fills_children: bool = False
    is_child: bool = False
    column_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "column_names", tuple(column.name for column in self.columns))

    @property
    def updates_in_place(self) -> bool:
        """This is true where rows that are there are updated, and no insert is tried.

        An upsert would ask more of an application's table, and of a partitioned one it does not tell what it inserted.
        """
        return self.is_unmanaged or self.is_partitioned

    @property
    def is_unmanaged(self) -> bool:
        """This is true where the table belongs to an application."""
        return self.unmanaged is not None

    @property
    def removes(self) -> bool:
        """This is true where tombstones remove their rows."""
        return self.on_delete == "remove" and self.tombstone is not None

    @property
    def remembers(self) -> bool:
        """This is true where versions of removed rows have to be asked before a row is written."""
        return self.removes or self.has_removed_rows or self.keeps_versions

    @property
    def stored(self) -> tuple[TargetColumn, ...]:
        """These are the columns that the table has."""
        return tuple(column for column in self.columns if column.scope == "table")

    @property
    def compared(self) -> tuple[TargetColumn, ...]:
        """These are the columns in which two rows of one version may differ.

        Where versions are times of observation, two rows of any versions may differ in them.
        """
        apart = {*self.key, *self.uncompared, self.version, self.content_hash, self.stream_time if self.observes_time else None}
        return tuple(column for column in self.stored if column.name not in apart)

    @property
    def keeps_versions(self) -> bool:
        """This is true where the table has no column for versions: the ledger keeps all of them."""
        return self.version is not None and not self.is_stored(self.version)

    @property
    def locks_buckets(self) -> bool:
        """This is true where a batch locks its buckets first.

        A row that is not there, or tells no version, cannot tell its writers apart.
        """
        return self.removes or self.keeps_versions

    @property
    def stamps(self) -> Mapping[str, str]:
        """These are, by our names, the table's columns that take the present moment."""
        named = {"inserted_at": self.created_at, "updated_at": self.changed_at}
        return {ours: name for ours, name in named.items() if name}

    @property
    def record_id(self) -> str:
        """This is the column that names a row to people."""
        return "id" if "id" in self.column_names else self.key[0]

    def is_stored(self, name: str | None) -> bool:
        """Says whether the table has a column of this name of ours."""
        return any(column.name == name for column in self.stored)

    def column(self, name: str) -> TargetColumn:
        """Returns the column by the frame's name."""
        return self.columns[self.column_names.index(name)]


@dataclass(frozen=True)
class ChildTarget:
    """This value is a child table: `declared` as the catalog has it, `target` as rows are written to it."""

    declared: ChildTable
    target: Target


def collection_target(collection: Collection) -> Target:
    """Returns the table of a collection: the record's own columns around the declared ones.

    Of an unmanaged table it knows what the declaration says; what the table's own types are, unmanaged.py adds.
    """
    managed = _managed_target(collection)
    return managed if collection.unmanaged is None else _unmanaged_target(managed, collection.unmanaged)


def _unmanaged_target(managed: Target, unmanaged: UnmanagedTable) -> Target:
    """Returns the table without a hash, which nobody else would maintain: rows are compared column by column."""
    has_versions = managed.version is not None
    remembers = has_versions and (managed.on_delete == "remove" or managed.version not in unmanaged.columns)

    def scope(name: str) -> ColumnScope:
        if name in unmanaged.columns:
            return "table"
        is_needed = name in (managed.version, managed.tombstone) or (name == "id" and managed.history is not None)
        # What the ledger remembers of a record, it remembers with the tenant's name, so that it can be forgotten.
        is_needed = is_needed or (name in TENANT_COLUMNS and (remembers or managed.history is not None))
        return "staging" if is_needed else "batch"

    return replace(
        managed,
        columns=tuple(
            replace(column, stored_as=unmanaged.columns.get(column.name, ""), scope=scope(column.name))
            for column in managed.columns
            if column.name != managed.content_hash
        ),
        key=unmanaged.key,
        content_hash=None,
        created_at=unmanaged.columns.get("inserted_at"),
        changed_at=unmanaged.columns.get("updated_at"),
        unmanaged=unmanaged,
    )


def _managed_target(collection: Collection) -> Target:

    declared = tuple(
        TargetColumn(
            column.name,
            column.type,
            STORAGE[column.type].staging,
            STORAGE[column.type].cast,
            is_object=column.path.root == "data",
            keeps_digits=column.type in DIGIT_KEEPING_TYPES,
            description=column.description,
        )
        for column in collection.columns
    )
    return Target(
        table=collection.table,
        label=collection.label,
        columns=(
            *(
                TargetColumn(field.name, field.type, field.type, is_nullable=field.is_nullable, description=field.description)
                for field in FIELDS
            ),
            *declared,
            TargetColumn(
                "data",
                collection.data_type,
                "text",
                collection.data_type,
                is_object=True,
                keeps_digits=True,
                description=RECORD_COLUMNS["data"],
            ),
            TargetColumn("content_hash", "uuid", "uuid", description=RECORD_COLUMNS["content_hash"]),
        ),
        key=("id",),
        version="updated_idx",
        content_hash="content_hash",
        tombstone="deleted",
        data="data",
        stream_time="record_inserted_at",
        created_at="inserted_at",
        changed_at="updated_at",
        on_delete=collection.on_delete,
        observes_time=collection.observes_time,
        history=collection.history,
        row_security=collection.row_security,
        history_table=collection.history_table,
        description=collection.description,
        children=tuple(ChildTarget(child, _child_target(collection, child)) for child in collection.children),
    )


def child_label(collection: Collection, child: ChildTable) -> str:
    """Returns the name of a child table in commands, logs and its asset's key, as in `stripe/invoice_line`."""
    return f"{collection.label}_{child.name}"


def _child_target(collection: Collection, child: ChildTable) -> Target:
    managed = _managed_child(collection, child)
    return managed if child.unmanaged is None else replace(_unmanaged_target(managed, child.unmanaged), row_security=None)


def _managed_child(collection: Collection, child: ChildTable) -> Target:
    """Returns a table whose rows have no version of their own: who writes them holds the lock of their parent's row."""
    key = [column.name for column in (*child.outer_key, *child.own_key)]
    declared = [
        TargetColumn(
            column.name,
            column.type,
            STORAGE[column.type].staging,
            STORAGE[column.type].cast,
            keeps_digits=column.type in DIGIT_KEEPING_TYPES,
            is_nullable=column.name not in (*key, "position"),
            description=column.description,
        )
        for column in child.read
    ]

    def of_parent(name: str, kind: str, *, is_nullable: bool = False) -> TargetColumn:
        return TargetColumn(name, kind, kind, is_nullable=is_nullable, description=CHILD_COLUMNS[name])

    return Target(
        table=child.table,
        label=child_label(collection, child),
        columns=(
            of_parent(PARENT_ID, "text"),
            *declared[: len(key)],
            of_parent("sync_id", "text", is_nullable=True),
            of_parent("internal_id", "text", is_nullable=True),
            of_parent("updated_idx", "bigint"),
            of_parent("deleted", "boolean"),
            *declared[len(key) :],
            TargetColumn(
                "data", collection.data_type, "text", collection.data_type, keeps_digits=True, description=CHILD_COLUMNS["data"]
            ),
        ),
        key=(PARENT_ID, *key),
        created_at="inserted_at",
        changed_at="updated_at",
        data="data",
        uncompared=("updated_idx",),
        is_child=True,
        row_security=collection.row_security,
        description=child.description or f"Elements of {child.path} in the objects of {collection.table}.",
    )
