"""This is the code location: what the YAML files declare, what watches over it, and the resources, and nothing else.

Loading needs neither API nor database, and looks for nothing but SEQUIN_COLLECTIONS in the environment.
"""

import os
from collections.abc import Mapping
from functools import cache

import dagster as dg

from sequin_pipeline.environment.settings import SEQUIN_COLLECTIONS
from sequin_pipeline.orchestration.alerts import build_alert_sensors
from sequin_pipeline.orchestration.catalog_files import check_files, component_tree
from sequin_pipeline.orchestration.component import CollectionSync, run_together, schedule_of
from sequin_pipeline.orchestration.executor import collections_executor
from sequin_pipeline.orchestration.freshness import build_freshness
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, SourceResource, WarehouseResource
from sequin_pipeline.orchestration.table_checks import build_table_checks


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the definitions that Dagster loads."""
    return loaded_definitions(os.environ.get(SEQUIN_COLLECTIONS))


@cache
def loaded_definitions(folder: str | None) -> dg.Definitions:
    """Returns the definitions of a folder (None: the shipped ones), made once in a process and those forked from it."""
    return build_definitions({} if folder is None else {SEQUIN_COLLECTIONS: folder})


def build_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """Builds the definitions of the files that `environment` names, and what watches over their runs and tables.

    Raises what a file at fault raises, in Dagster's tree of files.
    """
    tree = component_tree(environment)
    collections = tuple(check_files(tree).values())
    components = tree.get_all_components(CollectionSync)
    return dg.Definitions.merge(
        _build_sync_definitions(tree),
        build_table_checks(collections),
        *(
            build_freshness(component.provider, component.collections, cron=cron)
            for component in components
            if (cron := schedule_of(run_together(component, components))) is not None
        ),
        dg.Definitions(sensors=build_alert_sensors(collections)),
    )


def build_sync_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """Builds what runs, without what watches: Dagster would run the checks of whole tables after each sync of a command."""
    tree = component_tree(environment)
    check_files(tree)
    return _build_sync_definitions(tree)


def _build_sync_definitions(tree: dg.ComponentTree) -> dg.Definitions:
    warehouse = WarehouseResource(url=dg.EnvVar("WAREHOUSE_URL"))
    return dg.Definitions.merge(
        tree.build_defs(),
        dg.Definitions(
            resources={
                SOURCE: SourceResource(),
                WAREHOUSE: warehouse,
                IO_MANAGER: PostgresMergeIOManager(warehouse=warehouse),
            },
            executor=collections_executor,
        ),
    )
