"""This module reads the names of collections as people write them, and says what a wrong one may have meant."""

import re
from collections.abc import Iterable
from typing import TypeVar

import click

from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.errors import ConfigurationError

Given = TypeVar("Given", str, tuple[str, ...], None)

_SEPARATOR = re.compile(r"[:.]")


def plain_label(text: str) -> str:
    """Returns `provider/name`, also of what the API (`provider:name`) or the database (`provider.name`) would say.

    A provider's name has neither `/`, `:` nor `.`, so that the first of them ends it.
    """
    return text if "/" in text else _SEPARATOR.sub("/", text, count=1)


def read_labels(ctx: click.Context, param: click.Parameter, given: Given) -> Given:
    """Reads names of collections as click's callback of arguments and options; None is one that was not given."""
    if given is None:
        return given
    return plain_label(given) if isinstance(given, str) else tuple(map(plain_label, given))


def unknown_collection(label: str, there: Iterable[str]) -> ConfigurationError:
    """Returns the error about a collection that is not declared, with the names that may have been meant."""
    names = list(there)
    of_provider = [name for name in names if name.partition("/")[0] == label]
    if of_provider:
        return ConfigurationError(f"{label!r} is a provider: name one of its collections, such as {of_provider[0]!r}")
    return ConfigurationError(f"no collection {label!r} is declared: {suggestion(label, names)}")
