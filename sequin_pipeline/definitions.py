"""The code location: what stands in defs/ (or in the folder that SEQUIN_COLLECTIONS names) and the resources. Nothing else.

Loading needs no API and no database, and SEQUIN_COLLECTIONS is all that it looks for in the environment.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import dagster as dg
from pydantic import ValidationError

from sequin_pipeline.catalog import Collection
from sequin_pipeline.component import CollectionSync, checked_collections
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.io_manager import PostgresMergeIOManager
from sequin_pipeline.ledger_schema import DEFAULT_SCHEMA
from sequin_pipeline.resources import IO_MANAGER, SOURCE, WAREHOUSE, SequinSourceResource, WarehouseResource

FOLDER_VARIABLE = "SEQUIN_COLLECTIONS"


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the code location."""
    return build_definitions(os.environ)


def build_definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """The definitions of the folder that `environment` names, else of defs/. Raises CatalogError, wrapped in Dagster's tree of files."""
    tree = component_tree(environment)
    checked_collections(tree.get_all_components(CollectionSync), ledger_schema=DEFAULT_SCHEMA)
    warehouse = WarehouseResource(url=dg.EnvVar("WAREHOUSE_URL"))
    return dg.Definitions.merge(
        tree.build_defs(),
        dg.Definitions(
            resources={
                SOURCE: SequinSourceResource(base_url=dg.EnvVar("SEQUIN_API_URL"), token=dg.EnvVar("SEQUIN_API_TOKEN")),
                WAREHOUSE: warehouse,
                IO_MANAGER: PostgresMergeIOManager(warehouse=warehouse),
            },
            # Steps wait for the network: a process for each would cost seconds and gain nothing.
            executor=dg.in_process_executor,
        ),
    )


def load_collections(environment: Mapping[str, str]) -> dict[str, Collection]:
    """The catalog by label, without building a definition. Raises CatalogError as the file deserves it, not wrapped."""
    tree = component_tree(environment)
    try:
        components = tree.get_all_components(CollectionSync)
    except Exception as error:  # the tree wraps whatever a file raises in an exception that is not public
        raise _from_file(error) from error
    return checked_collections(components, ledger_schema=DEFAULT_SCHEMA)


def component_tree(environment: Mapping[str, str]) -> dg.ComponentTree:
    """The tree of YAML files; reads none of them yet. Raises ConfigurationError when the folder holds none."""
    named = environment.get(FOLDER_VARIABLE)
    if not named:
        return dg.ComponentTree.for_project(Path(__file__).parent)
    folder = Path(named).expanduser().resolve()
    if not any(folder.glob("*/defs.yaml")):
        raise ConfigurationError(
            f"{FOLDER_VARIABLE} names {str(folder)!r}, where no <provider>/defs.yaml stands: name the folder above the providers' "
            "folders, or unset the variable to use the shipped definitions"
        )
    module = ModuleType("sequin_collections", "Definitions from outside the package.")
    module.__path__ = [str(folder)]
    module.__file__ = None
    return dg.ComponentTree.from_module(module, project_root=folder)


def _from_file(error: BaseException) -> BaseException:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CatalogError):
            return cause
        if isinstance(cause, ValidationError):
            return CatalogError(str(cause))
        cause = cause.__cause__
    return error
