"""This is the executor of our jobs, unless SEQUIN_EXECUTOR names another: it decides where steps are executed, and how many at once.

A process costs seconds, which a collection with nothing new does not: ticks stay in the process of their run. A first load and a
backfill have hours of work, and give each collection a process of its own, as many at once as `max_concurrent`; so do the steps of a queue
that declares `consumers`. Over all runs the
pool of the source (dagster.yaml) bounds how many collections are read: each is one request in flight (of Stripe eight), one connection a
lane, one for showing life and now and then another, and about 300 MB.
"""

import multiprocessing
import os
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from sequin_pipeline.orchestration.assets import POOL
from sequin_pipeline.orchestration.watched_steps import watched
from sequin_pipeline.windows import MODE_TAG

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
FIRST_LOAD_TAG = ".dagster/sequin_pipeline_first_load"
"""Dagster's UI hides the tags that begin so: nobody but this executor reads it."""

BESIDE_TAG = "sequin_pipeline/consumers"
"""Steps with this tag drain one queue beside each other, which they do in processes of their own only."""

LOCATION = "sequin_pipeline.definitions"
"""A process that has imported this runs the location of the package, and no project of somebody else's."""


@dg.executor(
    name="collections",
    config_schema={
        "max_concurrent": dg.Field(
            dg.Noneable(int),
            default_value=None,
            is_required=False,
            description="collections of a first load or a backfill beside each other; by default as many as there are processors, and as "
            "the pool has places",
        )
    },
    requirements=dg.multiple_process_executor_requirements(),
)
def collections_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
    """Returns an executor that chooses one of Dagster's own for each run."""
    retries: Mapping[str, object] = {"retries": {"enabled": {}}}
    processes = {
        "max_concurrent": init_context.executor_config["max_concurrent"] or most_at_once(init_context.instance),
        "start_method": {"forkserver": {"preload_modules": modules_to_preload(sys.modules)}},
    }
    return _ByLoad(
        in_process=_create(dg.in_process_executor, init_context, retries),
        in_processes=_create(dg.multiprocess_executor, init_context, {**retries, **processes}),
    )


def most_at_once(instance: dg.DagsterInstance, processors: int | None = None) -> int:
    """Returns the number of processors, but no more than the pool has places.

    A process that waits for one looks again only after seconds.
    """
    processors = processors or usable_processors()
    return min(processors, pool_places(instance) or processors)


def pool_places(instance: dg.DagsterInstance) -> int | None:
    """Returns how many steps may read at once over all runs, None where nothing bounds them."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return None
    set_by_hand = {pool.name: pool.limit for pool in storage.get_pool_limits() if not pool.from_default}
    return set_by_hand.get(POOL, storage.get_pool_config().default_pool_limit)


def usable_processors(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Returns how many processors this process may use: those that it is bound to, and no more than its container's quota, rounded up.

    The quota is that of control groups, version 2: microseconds in each period, or `max` (Linux documentation, cgroup-v2, CPU).
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        granted = bound if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):  # no Linux, or control groups of version 1
        granted = bound
    return max(1, min(bound, granted))


def modules_to_preload(imported: Container[str]) -> list[str]:
    """Returns what the process imports from which the others are forked: in the location of the package, its definitions too."""
    if LOCATION in imported:
        return ["sequin_pipeline.orchestration.forkserver_preload"]
    return ["dagster_postgres", "sequin_pipeline.orchestration.component"]


def is_heavy(tags: Mapping[str, str]) -> bool:
    """Says whether a run with these tags reads more than what came since the last one."""
    is_backfill = tags.get(MODE_TAG) != "live" and tags.get(RANGE_START_TAG) != tags.get(RANGE_END_TAG)
    return is_backfill or tags.get(FIRST_LOAD_TAG) == "true"


def _create(definition: dg.ExecutorDefinition, init_context: dg.InitExecutorContext, config: Mapping[str, object]) -> dg.Executor:
    assert definition.executor_creation_fn is not None  # noqa: S101 - Dagster's own executors have one
    return definition.executor_creation_fn(init_context._replace(executor_config=config))


class _ByLoad(dg.Executor):
    def __init__(self, *, in_process: dg.Executor, in_processes: dg.Executor) -> None:
        self._in_process = in_process
        self._in_processes = in_processes

    @property
    def retries(self) -> "RetryMode":
        return self._in_process.retries

    def execute(self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan") -> Iterator[dg.DagsterEvent]:
        reading = [step for step in execution_plan.get_steps_to_execute_in_topo_order() if step.pool is not None]
        # A worker of Celery's default pool may start no processes: Python refuses them to a daemonic one.
        may_start_processes = not multiprocessing.current_process().daemon
        is_worthwhile = is_heavy(plan_context.dagster_run.tags) or any(BESIDE_TAG in step.tags for step in reading)
        is_alone = len(reading) < 2 or not may_start_processes or not is_worthwhile
        if is_alone:
            return self._in_process.execute(plan_context, execution_plan)
        return watched(plan_context, self._in_processes.execute(plan_context, execution_plan))
