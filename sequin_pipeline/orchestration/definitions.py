"""This is the code location: what the YAML files declare, with all that it needs, and nothing else.

Loading needs neither API nor database. In the environment it looks for the folder (SEQUIN_COLLECTIONS), the executor (SEQUIN_EXECUTOR)
and how often the sensor of lost runs looks (SEQUIN_LOST_AFTER_SECONDS).
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import dagster as dg

from sequin_pipeline.environment.settings import SEQUIN_COLLECTIONS
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.garbage import spare_imports
from sequin_pipeline.orchestration.catalog_files import (
    FilesState,
    check_files,
    component_tree,
    files_state,
    folder_tree,
    has_files,
)
from sequin_pipeline.orchestration.chosen_executor import VARIABLE as SEQUIN_EXECUTOR
from sequin_pipeline.orchestration.chosen_executor import chosen_executor
from sequin_pipeline.orchestration.project_resources import check_own, default_io_manager
from sequin_pipeline.orchestration.schedules import WATCHING
from sequin_pipeline.orchestration.table_checks import JOB

# Each run of Dagster's launchers is a process that loads this, and ends. How processes of other locations end is not for us to say, so that
# the component does not do this.
spare_imports()

DEFAULT_IO_MANAGER = "io_manager"
"""Dagster gives this one to assets that name none."""


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the definitions that Dagster loads."""
    return loaded_definitions(os.environ.get(SEQUIN_COLLECTIONS))


def loaded_definitions(folder: str | None) -> dg.Definitions:
    """Returns the definitions of a folder (None: the shipped ones), made once in a process and those forked from it.

    They are made again once a file there has changed: a worker that executes one run after the other would write old declarations.
    """
    return _loaded(folder, () if folder is None else files_state(folder), os.environ.get(SEQUIN_EXECUTOR))


@lru_cache(maxsize=1)
def _loaded(folder: str | None, state: FilesState, executor: str | None) -> dg.Definitions:
    return build_definitions({} if folder is None else {SEQUIN_COLLECTIONS: folder})


def build_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """Builds the definitions of the files that `environment` names.

    What else stands beside the files gets the IO manager and the executor of the collections, unless something there brings others.
    Raises what a file at fault raises, in Dagster's tree of files.
    """
    tree = component_tree(environment)
    check_files(tree)
    declared = tree.build_defs()
    defaults = dg.Definitions(
        resources={} if DEFAULT_IO_MANAGER in (declared.resources or {}) else {DEFAULT_IO_MANAGER: default_io_manager},
        executor=declared.executor or chosen_executor(os.environ),
    )
    return dg.Definitions.merge(declared, defaults)


def build_defs(folder: str | Path, *, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """Builds all that the collections of a folder of `<provider>/defs.yaml` need, to be merged into a project's own definitions.

    It is for projects without a folder of components. Of `resources` those under our keys take the place of ours, and the others are
    added. Raises ConfigurationError for a folder without such a file, and for a resource that collections cannot use.
    """
    own = dict(resources or {})
    check_own(own)
    place = Path(folder).expanduser().resolve()
    if not has_files(place):
        raise ConfigurationError(
            f"no <provider>/defs.yaml stands in {str(place)!r}: name the folder above the providers' folders"
        )
    tree = folder_tree(place)
    check_files(tree)
    declared = tree.build_defs()
    # Not the tree itself: Dagster merges no two definitions that have one.
    return dg.Definitions(
        assets=declared.assets,
        asset_checks=declared.asset_checks,
        schedules=declared.schedules,
        sensors=declared.sensors,
        jobs=declared.jobs,
        resources={**(declared.resources or {}), **own},
        loggers=declared.loggers,
        executor=declared.executor,
    )


def build_sync_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """Builds what runs, without what watches: Dagster would run the checks of whole tables after each sync of a command."""
    everything = build_definitions(environment)
    return dg.Definitions(
        assets=everything.assets,
        asset_checks=[check for check in everything.asset_checks or [] if not _watches(check)],
        jobs=[job for job in everything.jobs or [] if job.name != JOB],
        resources=everything.resources,
        executor=everything.executor,
        loggers=everything.loggers,
    )


def _watches(check: dg.AssetsDefinition) -> bool:
    return {spec.name for spec in check.check_specs} <= WATCHING
