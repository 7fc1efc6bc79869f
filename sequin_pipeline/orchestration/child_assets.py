"""This module shows child tables in the graph: each is an asset below its parent, which the parent's step materializes.

A step writes both in one transaction, and nobody can have it write one of them. So a child cannot be selected, a run that selects the
parent tells of it as well, and the names of steps and their configuration are those of collections without children.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import dagster as dg

from sequin_pipeline.catalog import ChildTable, Collection
from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.orchestration.source_keys import source_key
from sequin_pipeline.records.fields import CHILD_COLUMNS
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.table.target import PARENT_ID, ChildTarget, child_label, collection_target

COUNTED = {
    "inserted": "elements that had no row",
    "updated": "rows that changed with their element, or with what they repeat of their parent",
    "unchanged": "elements, of records that were written, whose row was left alone",
    "removed": "rows whose element is no longer in its list, or whose parent was removed",
    "dagster/row_count": "rows of the whole table after the run, by the ledger's running total",
}


def child_key(collection: Collection, child: ChildTable) -> dg.AssetKey:
    """Returns the key of a child table: the parent's, with the child's name behind it."""
    return dg.AssetKey(child_label(collection, child).split("/", 1))


def build_child_specs(collection: Collection) -> list[dg.AssetSpec]:
    """Builds what the graph says about each child table of a collection."""
    return [_spec(collection, child) for child in collection_target(collection).children]


def child_events(
    collection: Collection, outcome: SyncOutcome, restriction: Mapping[str, str]
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Yields what a run did to each child table.

    That is an observation where it was restricted, as for the parent.
    """
    for child in collection.children:
        counts = outcome.children.get(str(child.table), ChildCounts())
        metadata = {**asdict(counts), "dagster/row_count": outcome.child_rows.get(str(child.table), 0)}
        if restriction:
            yield dg.AssetObservation(child_key(collection, child), metadata={**metadata, **restriction})
        else:
            yield dg.AssetMaterialization(child_key(collection, child), metadata=metadata)


def _spec(collection: Collection, child: ChildTarget) -> dg.AssetSpec:
    # Here, since the parent's module needs this one.
    parent = dg.AssetKey([collection.provider, collection.name])
    declared = child.declared
    outer = parent if declared.within is None else child_key(collection, declared.within)
    return dg.AssetSpec(
        child_key(collection, declared),
        deps=list(dict.fromkeys([parent, outer])),
        group_name=collection.provider.replace("-", "_"),
        description=declared.description
        or f"Elements of `{_path(declared)}` of the objects of {collection.id!r}. Written by its step.",
        owners=collection.owners,
        tags=collection.tags,
        kinds={"postgres", collection.provider.lower()},
        metadata={
            "dagster/table_name": str(declared.table),
            **({"sequin_pipeline/column_names": dict(declared.unmanaged.columns)} if declared.unmanaged else {}),
            "dagster/column_schema": _column_schema(child),
            "dagster/column_lineage": _column_lineage(collection, child, parent),
            "sequin_pipeline/numbers": dg.MetadataValue.md(
                "\n".join(["| | |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, text in COUNTED.items())])
            ),
        },
    )


def _column_schema(child: ChildTarget) -> dg.TableSchema:
    columns = [
        dg.TableColumn(
            column.table_name,
            type=column.type,
            description=column.description or None,
            constraints=dg.TableColumnConstraints(nullable=column.is_nullable),
        )
        for column in child.target.stored
    ]
    stamps = [
        dg.TableColumn(
            name, type="timestamptz", description=CHILD_COLUMNS[ours], constraints=dg.TableColumnConstraints(nullable=False)
        )
        for ours, name in child.target.stamps.items()
    ]
    key = ", ".join(child.target.column(name).table_name for name in child.target.key)
    is_key = "unique" if child.target.is_unmanaged else "primary key"
    return dg.TableSchema(columns=[*columns, *stamps], constraints=dg.TableConstraints(other=[f"{is_key} ({key})"]))


def _column_lineage(collection: Collection, child: ChildTarget, parent: dg.AssetKey) -> dg.TableColumnLineage:
    """Returns where columns come from: by path from the API's side, and of the parent's table from the column that has it."""
    data = dg.TableColumnDep(asset_key=parent, column_name="data")
    source, path = source_key(collection), _path(child.declared)
    deps: dict[str, Sequence[dg.TableColumnDep]] = {
        PARENT_ID: [dg.TableColumnDep(asset_key=parent, column_name="id")],
        **{
            name: [dg.TableColumnDep(asset_key=parent, column_name=name)]
            for name in ("sync_id", "internal_id", "updated_idx", "deleted")
        },
        "data": [data, dg.TableColumnDep(asset_key=source, column_name=path)],
    }
    for column in (*child.declared.key, *child.declared.columns):
        deps[column.name] = [data, dg.TableColumnDep(asset_key=source, column_name=f"{path}{str(column.path)[1:]}")]
    names = {column.name: column.table_name for column in child.target.stored}
    return dg.TableColumnLineage(deps_by_column={names[ours]: found for ours, found in deps.items() if ours in names})


def _path(child: ChildTable) -> str:
    """Returns the path of the elements, from the object on."""
    outer = "$" if child.within is None else _path(child.within)
    return f"{outer}{str(child.path)[1:]}[*]"
