"""This module makes a queue's collections one Dagster step: what it delivers belongs to all, so none can run without the others.

What the graph says about each collection is as for every other (assets.py), except for partitions: a queue has no windows.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceError
from sequin_pipeline.orchestration.assets import POOL, RETRY_POLICY, asset_key, build_spec, run_name
from sequin_pipeline.orchestration.dagster_errors import failing
from sequin_pipeline.orchestration.earlier_checks import results_of_failed_run
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE
from sequin_pipeline.orchestration.run_checks import build_check_specs, check_results
from sequin_pipeline.orchestration.run_config import QueueConfig, adopts, read_limits
from sequin_pipeline.orchestration.run_metadata import count_metadata, run_metadata, source_observation
from sequin_pipeline.orchestration.source_keys import source_key
from sequin_pipeline.runs.collection_run import check_rejects
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import DrainOutcome


def step_name(collections: Sequence[Collection]) -> str:
    """Returns the name of the step that drains the queue of these collections."""
    return f"drain_{run_name(collections)}"


def build_queue_asset(collections: Sequence[Collection], *, retry_policy: dg.RetryPolicy = RETRY_POLICY) -> dg.AssetsDefinition:
    """Builds one step that drains the queue that these collections share, and yields what it did to each."""
    first = collections[0]
    queue = first.source.queue
    assert queue is not None  # noqa: S101 - the caller has looked

    @dg.multi_asset(
        name=step_name(collections),
        specs=[build_spec(collection).with_io_manager_key(IO_MANAGER) for collection in collections],
        check_specs=[spec for collection in collections for spec in build_check_specs(asset_key(collection), collection)],
        retry_policy=retry_policy,
        pool=POOL,
        required_resource_keys={SOURCE, IO_MANAGER},
    )
    def deliveries(
        context: dg.AssetExecutionContext, config: QueueConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation | dg.AssetCheckResult]:
        with failing():
            limits = read_limits(context, config, queue)
            source = getattr(context.resources, SOURCE).open(first)
            try:
                outcome: DrainOutcome = getattr(context.resources, IO_MANAGER).drain(
                    source,
                    collections,
                    run_id=context.run.run_id,
                    limits=limits,
                    adopt=adopts(context, config),
                    log=context.log,
                )
            except SourceError:
                read = getattr(context.resources, IO_MANAGER).waiting
                yield from results_of_failed_run(context, {asset_key(one): one for one in collections}, read)
                raise
        for collection in collections:
            yield source_observation(source_key(collection), outcome.collections[collection.label])
            yield _result(collection, outcome)
        with failing():
            _check_all(collections, outcome)

    return deliveries


def _result(collection: Collection, outcome: DrainOutcome) -> dg.MaterializeResult[None]:
    of_collection: SyncOutcome = outcome.collections[collection.label]
    return dg.MaterializeResult(
        asset_key=asset_key(collection),
        metadata={
            **run_metadata(of_collection),
            **count_metadata(of_collection.counts),
            "undeclared": sum(outcome.undeclared.values()),
        },
        check_results=list(check_results(asset_key(collection), collection, of_collection)),
    )


def _check_all(collections: Sequence[Collection], outcome: DrainOutcome) -> None:
    """Fails the step for one collection with too many rejects, after the results of all have been reported."""
    for collection in collections:
        check_rejects(collection, outcome.collections[collection.label])
