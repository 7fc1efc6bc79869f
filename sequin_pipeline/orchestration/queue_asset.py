"""This module makes a queue's collections one Dagster step: what it delivers belongs to all, so none can run without the others.

With `consumers: N` there are N - 1 steps beside it, which drain the same consumer and tell what they did as observations of the
collections, whose materializations are the first step's. Each of these steps is an asset of its own, for Dagster runs nothing else in a
job of assets. What the graph says about each collection is as for every other (assets.py), except for partitions: a queue has no windows.
"""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from sequin_pipeline.catalog import Collection, Queue
from sequin_pipeline.errors import SourceError
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.orchestration.assets import POOL, RETRY_POLICY, Told, asset_key, build_spec, group_name, run_name
from sequin_pipeline.orchestration.child_assets import child_events
from sequin_pipeline.orchestration.dagster_errors import failing
from sequin_pipeline.orchestration.earlier_checks import results_of_failed_run
from sequin_pipeline.orchestration.executor import BESIDE_TAG
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE
from sequin_pipeline.orchestration.run_checks import build_check_specs, check_results
from sequin_pipeline.orchestration.run_config import QueueConfig, adopts, read_limits
from sequin_pipeline.orchestration.run_metadata import count_metadata, run_metadata, source_observation
from sequin_pipeline.orchestration.source_keys import source_key
from sequin_pipeline.runs.collection_run import check_rejects
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import DrainOutcome


def step_name(collections: Sequence[Collection]) -> str:
    """Returns the name of the step that drains the queue of these collections; those beside it have a number behind it."""
    return f"drain_{run_name(collections)}"


def keys_beside(collections: Sequence[Collection]) -> list[dg.AssetKey]:
    """Returns the keys of the steps that drain the queue of these collections beside the first; none for what is no queue."""
    queue = collections[0].source.queue
    return [] if queue is None else [_key_beside(collections, number) for number in range(2, queue.consumers + 1)]


def build_queue_assets(
    collections: Sequence[Collection], *, retry_policy: dg.RetryPolicy = RETRY_POLICY
) -> list[dg.AssetsDefinition]:
    """Builds the steps that drain the queue that these collections share, as many as it declares."""
    queue = collections[0].source.queue
    assert queue is not None  # noqa: S101 - the caller has looked
    beside = [_build_step_beside(collections, number, retry_policy=retry_policy) for number in range(2, queue.consumers + 1)]
    return [build_queue_asset(collections, retry_policy=retry_policy), *beside]


def build_queue_asset(collections: Sequence[Collection], *, retry_policy: dg.RetryPolicy = RETRY_POLICY) -> dg.AssetsDefinition:
    """Builds one step that drains the queue that these collections share, and yields what it did to each."""
    queue = collections[0].source.queue
    assert queue is not None  # noqa: S101 - the caller has looked

    @dg.multi_asset(
        name=step_name(collections),
        specs=[build_spec(collection).with_io_manager_key(IO_MANAGER) for collection in collections],
        check_specs=[spec for collection in collections for spec in build_check_specs(asset_key(collection), collection)],
        retry_policy=retry_policy,
        pool=POOL,
        op_tags=_op_tags(queue),
        required_resource_keys={SOURCE, IO_MANAGER},
    )
    def deliveries(context: dg.AssetExecutionContext, config: QueueConfig) -> Iterator[Told]:
        with failing():
            try:
                outcome = _drain(context, config, collections)
            except SourceError:
                read = getattr(context.resources, IO_MANAGER).waiting
                yield from results_of_failed_run(context, {asset_key(one): one for one in collections}, read)
                raise
        for collection in collections:
            yield source_observation(source_key(collection), outcome.collections[collection.label])
            yield _result(collection, outcome)
            yield from child_events(collection, outcome.collections[collection.label], {})
        with failing():
            _check_all(collections, outcome)

    return deliveries


def _build_step_beside(collections: Sequence[Collection], number: int, *, retry_policy: dg.RetryPolicy) -> dg.AssetsDefinition:
    """Builds a further step that drains the queue, and yields what it did to each collection as an observation."""
    first = collections[0]
    queue = first.source.queue
    assert queue is not None  # noqa: S101 - the caller has looked
    spec = dg.AssetSpec(
        _key_beside(collections, number),
        group_name=group_name(first.provider),
        description=f"Step {number} of {queue.consumers} that drain consumer {queue.consumer!r} beside each other. What it stores "
        f"stands in the tables of {', '.join(collection.label for collection in collections)}.",
        kinds={"api", first.provider.lower()},
    )

    @dg.multi_asset(
        name=f"{step_name(collections)}_{number}",
        specs=[spec],
        retry_policy=retry_policy,
        pool=POOL,
        op_tags=_op_tags(queue),
        required_resource_keys={SOURCE, IO_MANAGER},
    )
    def deliveries(context: dg.AssetExecutionContext, config: QueueConfig) -> Iterator[Told]:
        with failing():
            outcome = _drain(context, config, collections)
        for collection in collections:
            yield dg.AssetObservation(asset_key(collection), metadata=_metadata(collection, outcome))
            yield from child_events(collection, outcome.collections[collection.label], {"step": str(number)})
        counts = sum((of_one.counts for of_one in outcome.collections.values()), Counts())
        yield dg.MaterializeResult(asset_key=spec.key, metadata={**count_metadata(counts), "undeclared": _undeclared(outcome)})
        with failing():
            _check_all(collections, outcome)

    return deliveries


def _key_beside(collections: Sequence[Collection], number: int) -> dg.AssetKey:
    return dg.AssetKey(["sequin", f"{step_name(collections)}_{number}"])


def _op_tags(queue: Queue) -> Mapping[str, str]:
    return {BESIDE_TAG: str(queue.consumers)} if queue.consumers > 1 else {}


def _drain(context: dg.AssetExecutionContext, config: QueueConfig, collections: Sequence[Collection]) -> DrainOutcome:
    queue = collections[0].source.queue
    assert queue is not None  # noqa: S101 - the builder has looked
    limits = read_limits(context, config, queue)
    source = getattr(context.resources, SOURCE).open(collections[0])
    outcome: DrainOutcome = getattr(context.resources, IO_MANAGER).drain(
        source, collections, run_id=context.run.run_id, limits=limits, adopt=adopts(context, config), log=context.log
    )
    return outcome


def _result(collection: Collection, outcome: DrainOutcome) -> dg.MaterializeResult[None]:
    of_collection: SyncOutcome = outcome.collections[collection.label]
    return dg.MaterializeResult(
        asset_key=asset_key(collection),
        metadata=_metadata(collection, outcome),
        check_results=list(check_results(asset_key(collection), collection, of_collection)),
    )


def _metadata(collection: Collection, outcome: DrainOutcome) -> Mapping[str, int | dg.MetadataValue]:
    of_collection = outcome.collections[collection.label]
    return {
        **run_metadata(of_collection),
        **count_metadata(of_collection.counts),
        "undeclared": _undeclared(outcome),
    }


def _undeclared(outcome: DrainOutcome) -> int:
    return sum(outcome.undeclared.values())


def _check_all(collections: Sequence[Collection], outcome: DrainOutcome) -> None:
    """Fails the step for one collection with too many rejects, after the results of all have been reported."""
    for collection in collections:
        check_rejects(collection, outcome.collections[collection.label])
