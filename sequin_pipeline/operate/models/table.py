"""A model table is a managed table as an application sees it: every column in order, the two stamps too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sequin_pipeline.catalog import MAX_IDENTIFIER_BYTES, Collection, TableName
from sequin_pipeline.records.fields import CHILD_COLUMNS, RECORD_COLUMNS
from sequin_pipeline.table.indexes import index_name
from sequin_pipeline.table.row_security import SETTING

if TYPE_CHECKING:
    from sequin_pipeline.table.target import Target


@dataclass(frozen=True)
class ModelColumn:
    """This value is a column; `type` is one of catalog.ColumnType, or `json`, `description` is one line, empty where there is none.

    `holds_nulls` says of an array that its elements may be null.
    """

    name: str
    type: str
    is_nullable: bool
    is_key: bool
    description: str
    holds_nulls: bool = False


@dataclass(frozen=True)
class ModelIndex:
    """This value is an index; `columns` are names of the table's columns, in the index's order."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class ModelParent:
    """This value says to which row of another table each row belongs; `constraint` is the foreign key that says it, too.

    `child` is what the table is called there: the name of the child in its declaration.
    """

    name: TableName
    columns: tuple[str, ...]
    to_columns: tuple[str, ...]
    child: str
    constraint: str | None = None


@dataclass(frozen=True)
class ModelTable:
    """This value is a table; its columns stand in the order in which the pipeline creates them.

    `indexes` are those beside the primary key's. `is_by_tenant`: readers see the rows of one tenant only. `parent` is the table that a
    child table's rows belong to.
    """

    name: TableName
    columns: tuple[ModelColumn, ...]
    description: str
    indexes: tuple[ModelIndex, ...] = ()
    is_by_tenant: bool = False
    parent: ModelParent | None = None

    @property
    def remark(self) -> str:
        """This is what whoever reads the table has to know of it beside its description; empty where there is nothing."""
        if not self.is_by_tenant:
            return ""
        return f"Readers see the rows of one tenant: select set_config('{SETTING}', its internal_id, true) in each transaction."

    @property
    def key(self) -> tuple[str, ...]:
        """These are the columns of the primary key."""
        return tuple(column.name for column in self.columns if column.is_key)


def primary_key_name(table: TableName) -> str:
    """Returns what Postgres calls the primary key of a table that is made without a name for it."""
    ending = "_pkey"
    return table.name.encode()[: MAX_IDENTIFIER_BYTES - len(ending)].decode(errors="ignore") + ending


def model_tables(collection: Collection) -> list[ModelTable]:
    """Returns those of the collection's tables that the pipeline manages: its own, and those of its children behind it."""
    # Not above, as in model_table.
    from sequin_pipeline.table.foreign_keys import foreign_key
    from sequin_pipeline.table.target import collection_target

    parent = collection_target(collection)
    found = [] if parent.is_unmanaged else [model_table(collection)]
    for child in parent.children:
        if child.target.is_unmanaged:
            continue
        outer = next((each.target for each in parent.children if each.declared == child.declared.within), parent)
        key = foreign_key(parent, child)
        within = child.declared.within
        called = child.declared.name.removeprefix(f"{within.name}_" if within else "")
        theirs = tuple(outer.column(name).table_name for name in outer.key)
        belongs = ModelParent(outer.table, child.target.key[: len(theirs)], theirs, called, key.name if key else None)
        written = tuple(
            ModelColumn(column.name, column.type, column.is_nullable, column.name in child.target.key, column.description)
            for column in child.target.columns
        )
        stamps = tuple(
            ModelColumn(name, "timestamptz", is_nullable=False, is_key=False, description=CHILD_COLUMNS[name])
            for name in child.target.stamps
        )
        is_by_tenant = child.target.row_security is not None
        indexes = _indexes(child.target.table, child.declared.indexes)
        found.append(
            ModelTable(child.target.table, (*written, *stamps), child.target.description, indexes, is_by_tenant, parent=belongs)
        )
    return found


def model_table(collection: Collection) -> ModelTable:
    """Returns the table that the pipeline would create for the collection."""
    # Not above: the names of the formats stand in a command's help, which is not to wait for pandas.
    from sequin_pipeline.table.target import collection_target

    return _model(collection, collection_target(collection))


def history_model(collection: Collection) -> ModelTable | None:
    """Returns the table that keeps every version of the collection's records; None where none is declared."""
    if collection.history_table is None:
        return None
    from sequin_pipeline.table.history_table import ORDER, history_target
    from sequin_pipeline.table.target import collection_target

    history = history_target(collection_target(collection))
    return replace(_model(collection, history), indexes=(ModelIndex(index_name(history.table, ORDER), ORDER),))


def _model(collection: Collection, target: "Target") -> ModelTable:
    without_nulls = {column.name for column in collection.columns if column.rejects_nulls}
    written = tuple(
        ModelColumn(
            column.name,
            column.type,
            column.is_nullable,
            column.name in target.key,
            column.description,
            holds_nulls=column.type == "text[]" and column.name not in without_nulls,
        )
        for column in target.columns
    )
    stamps = tuple(
        ModelColumn(
            name, "timestamptz", is_nullable=False, is_key=False, description={**RECORD_COLUMNS, **target.descriptions}[name]
        )
        for name in (target.created_at, target.changed_at)
        if name
    )
    indexes = _indexes(target.table, collection.indexes)
    return ModelTable(
        target.table, (*written, *stamps), target.description, indexes, is_by_tenant=target.row_security is not None
    )


def _indexes(table: TableName, declared: Sequence[tuple[str, ...]]) -> tuple[ModelIndex, ...]:
    return tuple(ModelIndex(index_name(table, columns), columns) for columns in declared)
