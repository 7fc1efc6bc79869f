"""This module says which resources a project gets for the collections that it declares, and which it may bring itself.

They have keys of their own, so that the project's own resources, its default IO manager among them, stay what they are. They are the same
objects for every file: Dagster merges definitions only where one key stands for one object. So a project that defines one of the keys
itself, anywhere below its defs folder, keeps its own, and gets only the others.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dagster as dg

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WAREHOUSE, SourceResource, WarehouseResource

if TYPE_CHECKING:
    from dagster.components.core.decl import ComponentDecl


@dg.io_manager(  # type: ignore[arg-type]  # Dagster takes generators too, and types them for resources alone
    config_schema={"ledger_schema": dg.Field(str, default_value=DEFAULT_SCHEMA, is_required=False)},
    required_resource_keys={WAREHOUSE},
    description=f"Merges collections into Postgres: into the database of {WAREHOUSE!r}, whoever defines that.",
)
def merge_io_manager(context: dg.InitResourceContext) -> Iterator[PostgresMergeIOManager]:
    """Gives the IO manager of the collections; for as long as a run has it, its process shows life."""
    io_manager = PostgresMergeIOManager(
        warehouse=getattr(context.resources, WAREHOUSE), ledger_schema=context.resource_config["ledger_schema"]
    )
    if context.run is None:
        yield io_manager
        return
    with io_manager.showing_life(context.run.run_id):
        yield io_manager


@dg.io_manager(
    config_schema={},
    required_resource_keys={IO_MANAGER},
    description=f"The same as {IO_MANAGER!r}, for assets that name no IO manager.",
)
def default_io_manager(context: dg.InitResourceContext) -> PostgresMergeIOManager:
    """Returns the IO manager of the collections; without settings of its own, so that nobody sets the one and means the other."""
    io_manager: PostgresMergeIOManager = getattr(context.resources, IO_MANAGER)
    return io_manager


RESOURCES: Mapping[str, object] = {SOURCE: SourceResource(), WAREHOUSE: WarehouseResource(), IO_MANAGER: merge_io_manager}
"""A project gets these by their keys."""

_CLASSES: Mapping[str, type] = {SOURCE: SourceResource, WAREHOUSE: WarehouseResource, IO_MANAGER: PostgresMergeIOManager}

_is_looking: ContextVar[bool] = ContextVar("_is_looking", default=False)


def missing_resources(tree: dg.ComponentTree, ours: type[dg.Component]) -> dict[str, object]:
    """Returns those of RESOURCES that the project does not define itself; `ours` is the class of components that bring them.

    Raises ConfigurationError for one of the project's that collections cannot use.
    """
    if not is_of_project(tree):
        return dict(RESOURCES)
    if _is_looking.get():
        # A file of the project has asked for this component's definitions while we were looking into that file: whoever looks brings them.
        return {}
    token = _is_looking.set(True)
    try:
        own = {key: value for definitions in _others(tree, ours) for key, value in (definitions.resources or {}).items()}
    finally:
        _is_looking.reset(token)
    check_own(own)
    return {key: resource for key, resource in RESOURCES.items() if key not in own}


def check_own(own: Mapping[str, object]) -> None:
    """Raises ConfigurationError for a resource of a project's own that has one of our keys and that collections cannot use."""
    for key, expected in _CLASSES.items():
        found = own.get(key)
        # A resource that is to be configured when a run is launched knows its class only by this name.
        kind = getattr(found, "resource_cls", type(found))
        if key in own and not issubclass(kind, expected):
            raise ConfigurationError(
                f"the project's resource {key!r} is of the class {kind.__name__}, and collections need a {expected.__name__} of "
                f"sequin_pipeline there: make it one, give it another key, or leave it out to get the default"
            )


def is_of_project(tree: dg.ComponentTree) -> bool:
    """Says whether there is a project around a component: `dg.build_defs_for_component` makes up a tree that has no module."""
    return isinstance(tree.defs_module, ModuleType)


def _others(tree: dg.ComponentTree, ours: type[dg.Component]) -> Iterator[dg.Definitions]:
    """Yields the definitions of everything in the tree but our components; Dagster keeps what is built for when it needs it itself."""
    pending: list[ComponentDecl[Any]] = [tree.find_root_decl()]  # of components of any class
    while pending:
        declaration = pending.pop()
        parts = list(declaration.iterate_all_component_decls())
        # A function of the project's that gives a component may say in its annotation what it gives, or not, or in quotes.
        kinds = [part.component_type for part in parts]
        if not any(isinstance(kind, type) and issubclass(kind, ours) for kind in kinds):
            yield tree.build_defs_at_path(declaration.loc)
        elif len(parts) > 1:
            pending += declaration.iterate_child_component_decls()
