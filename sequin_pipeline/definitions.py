"""The code location: what the YAML files declare, and the resources. Nothing else.

Loading needs neither API nor database, and looks for nothing but SEQUIN_COLLECTIONS in the environment.
"""

import os
from collections.abc import Mapping

import dagster as dg

from sequin_pipeline.catalog_files import check_files, component_tree
from sequin_pipeline.io_manager import PostgresMergeIOManager
from sequin_pipeline.resources import IO_MANAGER, SOURCE, WAREHOUSE, SequinSourceResource, WarehouseResource


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return build_definitions(os.environ)


def build_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """The definitions of the files that `environment` names. Raises what a file at fault raises, in Dagster's tree of files."""
    tree = component_tree(environment)
    check_files(tree)
    warehouse = WarehouseResource(url=dg.EnvVar("WAREHOUSE_URL"))
    return dg.Definitions.merge(
        tree.build_defs(),
        dg.Definitions(
            resources={
                SOURCE: SequinSourceResource(base_url=dg.EnvVar("SEQUIN_API_URL")),
                WAREHOUSE: warehouse,
                IO_MANAGER: PostgresMergeIOManager(warehouse=warehouse),
            },
            # Steps wait for the network: a process for each would cost seconds and gain nothing.
            executor=dg.in_process_executor,
        ),
    )
