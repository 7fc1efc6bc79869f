"""This module finds the YAML files, in defs/ of the package or the folder that SEQUIN_COLLECTIONS names, and loads their catalog.

Dagster's own loading reads them, so that a file means the same in the UI, to `dg` and to our commands.
"""

import hashlib
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dagster as dg
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sequin_pipeline.catalog import Collection
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.declare.yaml_text import declared_types
from sequin_pipeline.declare.yaml_words import COMPONENT, explained
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.orchestration.across_files import checked_collections
from sequin_pipeline.orchestration.component import CollectionSync

FilesState = tuple[tuple[str, int, int], ...]
"""This is path, time of change (nanoseconds) and size (bytes) of files: another one where one of them has changed."""

FOLDER_VARIABLE = "SEQUIN_COLLECTIONS"
PACKAGE = Path(__file__).resolve().parents[1]


def load_collections(environment: Mapping[str, str]) -> dict[str, Collection]:
    """Returns the catalog by label, in the order of the files, without building definitions.

    Raises CatalogError with file and line, where definitions would show it inside Dagster's tree of files.
    """
    tree = component_tree(environment)
    types = dict(declared_types(definitions_folder(environment)))
    try:
        return check_files(tree)
    except Exception as error:
        # Dagster's tree wraps whatever a file raises in an exception that is not public.
        raise _at_fault(error, types) from error


def check_files(tree: dg.ComponentTree) -> dict[str, Collection]:
    """Returns the catalog of the files in `tree`, once they are checked against each other; raises what a file raises, wrapped."""
    return checked_collections(tree.get_all_components(CollectionSync), ledger_schema=DEFAULT_SCHEMA)


def component_tree(environment: Mapping[str, str]) -> dg.ComponentTree:
    """Returns the tree of files, none of them read yet; raises ConfigurationError when the folder that is named holds none."""
    folder = _folder(environment)
    if folder is None:
        # Not by pyproject.toml, which an installed package has not.
        return dg.ComponentTree.from_module(import_module("sequin_pipeline.defs"), project_root=PACKAGE.parent)
    if not has_files(folder):
        raise ConfigurationError(
            f"{FOLDER_VARIABLE} names {str(folder)!r}, where no <provider>/defs.yaml stands: name the folder above the providers' "
            "folders, or unset the variable to use the definitions of the package"
        )
    return folder_tree(folder)


def has_files(folder: Path) -> bool:
    """Says whether a defs.yaml stands in one of the folders of this one."""
    return any(folder.glob("*/defs.yaml"))


def files_state(folder: str | Path) -> FilesState:
    """Returns the state of all files of a folder that definitions can be made of, as it is now."""
    place = Path(folder).expanduser().resolve()
    files = sorted(path for pattern in ("*.yaml", "*.yml", "*.py") for path in place.rglob(pattern))
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path in files for stat in (path.stat(),))


def folder_tree(folder: Path) -> dg.ComponentTree:
    """Returns the tree of the files in a folder, which need not be a package of Python."""
    module = ModuleType(f"sequin_collections_{hashlib.blake2b(bytes(folder), digest_size=8).hexdigest()}")
    module.__path__ = [str(folder)]
    module.__file__ = None
    # Dagster imports the Python files that stand beside the YAML as parts of this module: those of an earlier state go.
    for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:
        del sys.modules[name]
    sys.modules[module.__name__] = module
    return dg.ComponentTree.from_module(module, project_root=folder)


def definitions_folder(environment: Mapping[str, str]) -> Path:
    """Returns the folder above the providers' folders: the one that the environment names, or that of the package."""
    return _folder(environment) or PACKAGE / "defs"


def _folder(environment: Mapping[str, str]) -> Path | None:
    """Returns the folder that the environment names, or None for that of the package."""
    named = environment.get(FOLDER_VARIABLE)
    return Path(named).expanduser().resolve() if named else None


def _at_fault(error: Exception, types: Mapping[str, str]) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CatalogError):
            return cause
        if isinstance(cause, ValidationError):
            return CatalogError("; ".join(map(_sentence, cause.errors())))
        if isinstance(cause, dg.DagsterError):
            # Dagster names the module and the class of a type that is none, and not the place.
            origin = next((at for name, at in types.items() if _is_about(str(cause), name)), None)
            is_meant = origin is not None and any(suggestion(name, [COMPONENT]).endswith("?") for name in types)
            meant = f" Did you mean {COMPONENT!r}?" if is_meant else ""
            return CatalogError(f"the definitions cannot be read: {cause}{meant}", origin)
        cause = cause.__cause__
    return error


def _is_about(message: str, type_name: str) -> bool:
    module, _, name = type_name.rpartition(".")
    return f"Module `{module}`" in message and (f"`{name}`" in message or "not found" in message)


def _sentence(detail: ErrorDetails) -> str:
    # Dagster has put the place into the location: "attributes.provider at file:line".
    node, _, origin = ".".join(map(str, detail["loc"])).partition(" at ")
    message = explained(detail["type"], detail["msg"], node.split("."), detail["input"])
    return f"{origin}: {node}: {message}" if origin else f"{node}: {message}"
