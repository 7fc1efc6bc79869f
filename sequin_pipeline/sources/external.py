"""This module finds sources of other packages: classes that an entry point or a defs.yaml names."""

import importlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.reads import filled, variables_in
from sequin_pipeline.sources import Source
from sequin_pipeline.sources.kind import Environment, SourceClass, SourceKind

GROUP = "sequin_pipeline.sources"
"""This is the group of entry points; each has the name that a defs.yaml says and the class that it stands for."""

OF_CLASS = ("can_reread", "observes_time", "open")
OF_SOURCE = ("pages", "committed", "head", "describe", "collection_ids")
"""A class must have these; `identity`, which is a source's own, stands in it only once it is opened."""


def offered_names() -> tuple[str, ...]:
    """Returns the names of the sources that installed packages offer, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@cache
def find_external(name: str, own: Collection[str] = ()) -> SourceKind:
    """Returns the kind for the name of an entry point, or for `package.module:Class`.

    `own` are the names of the product's own kinds, for the message. Raises ConfigurationError for a name that nothing has, that two
    packages have, or whose class cannot be imported or is no source.
    """
    where, found = (f"source {name!r}", _imported(name)) if ":" in name else _offered(name, own)
    return _kind(where, found)


def _offered(name: str, own: Collection[str]) -> tuple[str, object]:
    entries = list(entry_points(group=GROUP, name=name))
    packages = sorted({_package(entry) for entry in entries})
    if not entries:
        raise ConfigurationError(
            f"there is no source {name!r}: there are {', '.join([*own, *offered_names()])}; a class of your own is named as in "
            "package.module:Class"
        )
    if len(packages) > 1:
        raise ConfigurationError(
            f"source {name!r} is offered by {' and by '.join(packages)}: uninstall one of them, or name the class, as in {entries[0].value}"
        )
    return f"source {name!r}, which is {entries[0].value} of {packages[0]},", _imported(entries[0].value)


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name!r}" if entry.dist is not None else "a package without a name"


def _imported(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the package's own code raises
        raise ConfigurationError(
            f"source {name!r}: module {module_name!r} cannot be imported here ({type(error).__name__}: {error}): install the package that "
            "has it into the environment of this process, or fix the name"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = sorted(key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "pages"))
        raise ConfigurationError(
            f"source {name!r}: module {module_name!r} has no {attribute!r}; sources in it: {', '.join(classes) or 'none'}"
        ) from None


def _kind(where: str, found: object) -> SourceKind:
    if not isinstance(found, type):
        raise ConfigurationError(f"{where} is no class but {type(found).__name__}: name the class of the source")
    missing = [member for member in (*OF_CLASS, *OF_SOURCE) if not hasattr(found, member)]
    if missing:
        raise ConfigurationError(
            f"{where} lacks {', '.join(missing)}, which the class of a source has: see 'A source of your own' in docs/sources.md"
        )
    loaded = cast("type[SourceClass]", found)
    optional = cast("Any", found)  # what only some classes have

    def variables(declaration: SourceDeclaration) -> tuple[str, ...]:
        named: Sequence[str] = getattr(optional, "variables", ())
        return (*(named(declaration) if callable(named) else named), *variables_in(declaration.options))

    def open_filled(declaration: SourceDeclaration, environment: Environment) -> Source:
        return loaded.open(replace(declaration, options=filled(declaration.options, environment)), environment)

    return SourceKind(
        variables=variables,
        open=open_filled,
        can_reread=loaded.can_reread,
        observes_time=loaded.observes_time,
        collections=getattr(optional, "collections", None),
        lists_again=getattr(optional, "lists_again", False),
        takes_options=True,
    )
