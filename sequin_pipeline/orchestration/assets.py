"""This module builds a collection's Dagster asset: what the graph and the asset page say about it, and what its step does.

The step decides what is to be read, hands a RecordStream to the IO manager, and says what came of it; reading and merging are not here.
"""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceError
from sequin_pipeline.orchestration.child_assets import child_events
from sequin_pipeline.orchestration.dagster_errors import failing
from sequin_pipeline.orchestration.earlier_checks import results_of_failed_run
from sequin_pipeline.orchestration.partitions import build_partitions
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, read_live_state
from sequin_pipeline.orchestration.run_checks import build_check_specs, check_results
from sequin_pipeline.orchestration.run_config import CollectionConfig, read_run_config
from sequin_pipeline.orchestration.run_metadata import (
    explanation,
    restricted_observations,
    source_observation,
    window_metadata,
    window_observations,
)
from sequin_pipeline.orchestration.source_keys import source_key
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.records.fields import RECORD_COLUMNS
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.table.target import collection_target

POOL = "records_api"
"""All steps that read the API share this pool: its limit is in dagster.yaml, so that no number of runs asks for too much at once."""

RETRY_POLICY = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Steps are retried on top of single requests and batches, for an outage of minutes; errors that will not pass allow no retries."""


Told = dg.MaterializeResult[None] | dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckResult
"""A collection's step yields these; materializations are of its child tables."""


def asset_key(collection: Collection) -> dg.AssetKey:
    """Returns the key `provider/name`; dots stay."""
    return dg.AssetKey([collection.provider, collection.name])


def group_name(provider: str) -> str:
    """Returns the name of the provider's group; Dagster takes letters, digits and `_`."""
    return provider.replace("-", "_")


def run_name(collections: Sequence[Collection]) -> str:
    """Returns the name for job, schedule and step of collections that run together: the provider, or all providers of one queue."""
    return "_".join(sorted({group_name(collection.provider) for collection in collections}))


def build_source(collection: Collection) -> dg.AssetsDefinition:
    """Builds the collection as it stands in the API, which we never materialize: each run of the collection observes it.

    Whoever presses "Observe" is told how far the live runs have read; nothing is asked of the API, of which a queue would deliver.
    """
    spec = _source_spec(collection)

    def read_so_far(context: dg.AssetExecutionContext) -> dg.ObserveResult:
        with failing():
            reading = read_live_state(getattr(context.resources, WAREHOUSE).open())
        read_until, last = reading.cursor_times.get(collection.label), reading.completed_runs.get(collection.label)
        times = {"read_until": read_until, "last_live_run_started": last.started_at if last else None}
        return dg.ObserveResult(
            asset_key=spec.key, metadata={name: dg.MetadataValue.timestamp(at) for name, at in times.items() if at is not None}
        )

    source: dg.AssetsDefinition = dg.multi_observable_source_asset(
        name=f"observe_{asset_key(collection).to_python_identifier()}", specs=[spec], required_resource_keys={WAREHOUSE}
    )(read_so_far)
    return source


def _source_spec(collection: Collection) -> dg.AssetSpec:
    return dg.AssetSpec(
        source_key(collection),
        description=f"Collection {collection.id!r} as source {collection.source.kind!r} has it, as the last run saw it.",
        group_name=group_name(collection.provider),
        kinds={"api", collection.provider.lower()},
        metadata=_code_references(collection),
    )


def build_spec(collection: Collection) -> dg.AssetSpec:
    """Builds what the graph says about the collection's table, however it is filled."""
    return dg.AssetSpec(
        asset_key(collection),
        deps=[source_key(collection)],
        group_name=group_name(collection.provider),
        description=collection.description or f"Records of {collection.id!r}, newest version of each.",
        owners=collection.owners,
        tags=collection.tags,
        kinds={"postgres", collection.provider.lower()},
        metadata=_metadata(collection),
    )


def build_asset(collection: Collection, *, retry_policy: dg.RetryPolicy = RETRY_POLICY) -> dg.AssetsDefinition:
    """Builds one step that reads the collection's stream and, on the rows it wrote, yields its checks."""
    spec = build_spec(collection)
    key = spec.key

    @dg.asset(
        key=key,
        deps=spec.deps,
        group_name=spec.group_name,
        description=spec.description,
        owners=spec.owners,
        tags=collection.tags,
        kinds=spec.kinds,
        metadata=spec.metadata,
        partitions_def=build_partitions(collection.windows),
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retry_policy,
        pool=POOL,
        io_manager_key=IO_MANAGER,
        required_resource_keys={SOURCE, IO_MANAGER},
        check_specs=build_check_specs(key, collection),
        output_required=False,
    )
    def records(context: dg.AssetExecutionContext, config: CollectionConfig) -> Iterator[Told]:
        with failing():
            stream = RecordStream(
                read_run_config(context, config, collection), getattr(context.resources, SOURCE).open(collection)
            )
            try:
                outcome = getattr(context.resources, IO_MANAGER).sync(stream, run_id=context.run.run_id, log=context.log)
            except SourceError:
                yield from results_of_failed_run(context, {key: collection}, getattr(context.resources, IO_MANAGER).waiting)
                raise
        yield source_observation(source_key(collection), outcome)
        restriction = _restriction(stream.run_config, outcome)
        if restriction:
            # A materialization would say that its windows are done, while the records of the other syncs have not been read.
            yield from restricted_observations(key, outcome, restriction)
        else:
            if stream.run_config.has_many_windows:
                yield from window_observations(key, outcome)
            yield _materialized(context, stream.run_config, outcome)
        yield from child_events(collection, outcome, restriction)
        yield from check_results(key, collection, outcome)

    return records


def _restriction(run_config: RunConfig, outcome: SyncOutcome) -> dict[str, str]:
    """Returns what tells of a run that it has read some syncs only; empty for one that has read all."""
    of_shard = {"shard": str(run_config.only_shard or "all that were left")} if outcome.is_partial else {}
    return of_shard if run_config.sync_id is None else {"sync_id": run_config.sync_id}


def _materialized(context: dg.AssetExecutionContext, run_config: RunConfig, outcome: SyncOutcome) -> dg.MaterializeResult[None]:
    """Returns the materializations, each with what belongs to its window."""
    for window, metadata in window_metadata(run_config, outcome).items():
        context.add_asset_metadata(metadata, partition_key=window)
    return dg.MaterializeResult()


def _metadata(collection: Collection) -> Mapping[str, object]:
    return {
        "dagster/table_name": str(collection.table),
        "dagster/column_schema": _column_schema(collection),
        "dagster/column_lineage": _column_lineage(collection),
        "sequin_pipeline/collection": collection.id,
        **({"sequin_pipeline/column_names": dict(collection.unmanaged.columns)} if collection.unmanaged else {}),
        **({"sequin_pipeline/history_table": str(collection.history_table.name)} if collection.history_table else {}),
        "sequin_pipeline/on_delete": collection.on_delete,
        "sequin_pipeline/numbers": explanation(),
        **_code_references(collection),
    }


def _code_references(collection: Collection) -> Mapping[str, object]:
    if collection.origin is None:
        return {}
    file_path, _, line = collection.origin.rpartition(":")
    reference = dg.LocalFileCodeReference(file_path=file_path, line_number=int(line), label=collection.label)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def _column_schema(collection: Collection) -> dg.TableSchema:
    target = collection_target(collection)
    required = {column.name for column in collection.columns if column.is_required}
    columns = [
        dg.TableColumn(
            column.table_name,
            type=column.type,
            description=column.description or None,
            constraints=dg.TableColumnConstraints(
                nullable=column.is_nullable,
                unique=(column.name,) == target.key,
                other=["required where the record carries an object"] if column.name in required else [],
            ),
        )
        for column in target.stored
    ]
    stamped = [
        dg.TableColumn(
            name, type="timestamptz", description=RECORD_COLUMNS[ours], constraints=dg.TableColumnConstraints(nullable=False)
        )
        for ours, name in target.stamps.items()
    ]
    return dg.TableSchema(columns=[*columns, *stamped])


def _column_lineage(collection: Collection) -> dg.TableColumnLineage:
    upstream = source_key(collection)
    names = {column.name: column.table_name for column in collection_target(collection).stored}
    deps: dict[str, Sequence[dg.TableColumnDep]] = {
        names[column.name]: [dg.TableColumnDep(asset_key=upstream, column_name=str(column.path))] for column in collection.columns
    }
    return dg.TableColumnLineage(deps_by_column=deps)
