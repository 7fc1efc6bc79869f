"""This module shows life for a process that waits for steps which others execute, and ends its wait once the run was ended.

The steps show life themselves, by the IO manager that they have.
"""

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from sequin_pipeline.environment.lost_after import lost_after_seconds
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.resources import WAREHOUSE
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.life import showing_life

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext


def watched(plan_context: "PlanOrchestrationContext", events: Iterator[dg.DagsterEvent]) -> Iterator[dg.DagsterEvent]:
    """Yields the events of the steps, and shows meanwhile that the run's own process lives, where the job has a warehouse."""
    warehouse = _warehouse(plan_context)
    if warehouse is None:
        yield from events
        return
    waiting = threading.get_ident()
    with showing_life(
        warehouse,
        plan_context.run_id,
        lost_after_seconds=lost_after_seconds(os.environ),
        when_lost=lambda: _interrupt(waiting),
    ):
        yield from events


def _warehouse(plan_context: "PlanOrchestrationContext") -> Warehouse | None:
    definition = plan_context.job.get_definition().resource_defs.get(WAREHOUSE)
    if definition is None:
        return None
    configured = plan_context.run_config.get("resources", {})
    config = configured.get(WAREHOUSE, {}) if isinstance(configured, Mapping) else {}
    try:
        with dg.build_resources(
            {WAREHOUSE: definition}, instance=plan_context.instance, resource_config={WAREHOUSE: config}
        ) as found:
            return getattr(found, WAREHOUSE).open()  # type: ignore[no-any-return]  # a WarehouseResource, or Dagster had refused the project
    except ConfigurationError:
        return None  # the steps say so


def _interrupt(thread_id: int) -> None:
    """Raises Dagster's interrupt in a thread, at its next instruction.

    A signal would not do: Celery's executor notes it and goes on to wait for a step whose worker is gone, and the thread need not be the
    process' first.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(dg.DagsterExecutionInterruptedError))
