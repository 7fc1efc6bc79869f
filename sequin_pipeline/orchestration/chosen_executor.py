"""This module says which executor the jobs of collections have: SEQUIN_EXECUTOR names it, for a whole deployment.

Without it they have the one of executor.py, which suits one machine and every run launcher. The code server and whatever executes steps
read the variable alike, and must be told the same: Dagster builds the job anew in each process.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.executor import collections_executor
from sequin_pipeline.orchestration.watched_steps import watched

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

VARIABLE = "SEQUIN_EXECUTOR"


@dataclass(frozen=True)
class Engine:
    """This value is where an executor stands, and which of our extras brings it."""

    module: str
    name: str
    extra: str | None = None


ENGINES: Mapping[str, Engine] = {
    "in_process": Engine("dagster", "in_process_executor"),
    "multiprocess": Engine("dagster", "multiprocess_executor"),
    "celery": Engine("dagster_celery", "celery_executor", extra="celery"),
    "k8s": Engine("dagster_k8s", "k8s_job_executor", extra="k8s"),
}
"""These words choose one of Dagster's own."""


def chosen_executor(environment: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Returns the executor that the environment names; raises ConfigurationError for one that is not there."""
    said = environment.get(VARIABLE, "").strip()
    return _chosen(said) if said else collections_executor


@cache
def _chosen(said: str) -> dg.ExecutorDefinition:
    definition = _definition(said)
    # Where all steps have the one process, they show its life.
    return definition if definition is dg.in_process_executor else _watching(definition)


def _definition(said: str) -> dg.ExecutorDefinition:
    module, _, name = said.partition(":")
    engine = ENGINES.get(said) or (Engine(module, name) if name else None)
    if engine is None:
        raise ConfigurationError(
            f"{VARIABLE} is {said!r}: expected {', '.join(ENGINES)}, or an executor of your own as package.module:name; without it each "
            "run chooses by its load"
        )
    try:
        found = getattr(importlib.import_module(engine.module), engine.name)
    except ImportError as error:
        get = f"pip install 'sequin-pipeline[{engine.extra}]'" if engine.extra else "install the package that has it"
        raise ConfigurationError(
            f"{VARIABLE} is {said!r}, and the module {error.name or engine.module!r} is not installed here: {get}, in the environment of "
            "the code server and of every worker"
        ) from error
    except AttributeError as error:
        raise ConfigurationError(f"{VARIABLE} is {said!r}, and the module {engine.module!r} has no {engine.name!r}") from error
    if not isinstance(found, dg.ExecutorDefinition):
        raise ConfigurationError(
            f"{VARIABLE} is {said!r}, which is of the class {type(found).__name__}: expected an executor of Dagster"
        )
    return found


def _watching(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """Returns the same executor, whose process shows life while it waits for steps that others execute."""
    create = definition.executor_creation_fn
    assert create is not None  # noqa: S101 - Dagster's own executors have one, and what `@dg.executor` makes

    def create_watching(init_context: dg.InitExecutorContext) -> dg.Executor:
        _refuse_celery_twice(definition, init_context.instance)
        executor = create(init_context)
        execute = executor.execute

        def watching(plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan") -> Iterator[dg.DagsterEvent]:
            return watched(plan_context, execute(plan_context, execution_plan))

        executor.execute = watching  # type: ignore[method-assign]  # of this object alone: Celery's loop asks it for more than Executor has
        return executor

    return dg.ExecutorDefinition(
        name=definition.name,
        config_schema=definition.config_schema,  # type: ignore[arg-type]  # takes its own class too, which `configured` makes use of
        requirements=definition.get_requirements,
        executor_creation_fn=create_watching,
        description=definition.description,
    )


def _refuse_celery_twice(definition: dg.ExecutorDefinition, instance: dg.DagsterInstance) -> None:
    launcher = type(instance.run_launcher).__name__
    if definition.name == "celery" and launcher == "CeleryRunLauncher":
        raise ConfigurationError(
            f"{VARIABLE} is 'celery' while dagster.yaml launches runs by Celery too: a task would wait for tasks, which Celery refuses. "
            "Unset the variable (a run is one task), or take run_launcher out of dagster.yaml (a step is one task)"
        )
