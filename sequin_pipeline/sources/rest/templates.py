"""This module fills what stands in braces in a declaration: names of `each`, `{since}`, `{until}` and `{fields}`. It is pure."""

import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.reads import Read, Since
from sequin_pipeline.sources.keyed.times import EPOCH, MICROSECOND, moment_of

SINCE, UNTIL, FIELDS = "since", "until", "fields"

_NAME = re.compile(r"\{(\w+)\}")
_UNITS = {"iso": 1_000_000, "epoch_seconds": 1_000_000, "epoch_milliseconds": 1_000}
"""The microseconds that the least step of a format takes."""

Filled = TypeVar("Filled")


def fill(template: Filled, values: Mapping[str, str]) -> Filled:
    """Returns the template with all names in braces replaced, however deep they stand; raises ConfigurationError for an unknown one."""
    if isinstance(template, str):
        return _NAME.sub(lambda found: _value(found[1], values), template)  # type: ignore[return-value] # a str for a str
    if isinstance(template, Mapping):
        return {key: fill(inner, values) for key, inner in template.items()}  # type: ignore[return-value] # a dict for a Mapping
    if isinstance(template, list | tuple):
        return [one for inner in template for one in _elements(inner, values)]  # type: ignore[return-value] # a list for a Sequence
    return template


def fill_path(template: str, values: Mapping[str, str]) -> str:
    """Returns a path with all names in braces replaced by their values as a path writes them: a `?` or a `#` in one begins nothing.

    A slash stays one: `owner/name` is a value of two steps.
    """
    return fill(template, path_values(values))


def path_values(values: Mapping[str, str]) -> dict[str, str]:
    """Returns the values as a path writes them."""
    return {name: quote(value, safe="/:,") for name, value in values.items()}


def _elements(template: object, values: Mapping[str, str]) -> list[object]:
    """Returns an element of a list; the names of all fields are as many elements."""
    return list(values[FIELDS].split(",")) if template == f"{{{FIELDS}}}" and FIELDS in values else [fill(template, values)]


def _value(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise ConfigurationError(f"{{{name}}} stands for nothing: expected one of {', '.join(sorted(values)) or 'no names'}")
    return values[name]


def names_in(*templates: object) -> frozenset[str]:
    """Returns the names in braces, however deep they stand."""
    found: set[str] = set()
    for template in templates:
        if isinstance(template, str):
            found.update(_NAME.findall(template))
        elif isinstance(template, Mapping):
            found |= names_in(*template.values())
        elif isinstance(template, list | tuple):
            found |= names_in(*template)
    return frozenset(found)


def names_of(read: Read) -> frozenset[str]:
    """Returns the names in braces of what asks for a list."""
    return names_in(read.path, read.params, read.json)


def before(moment: int, since: Since) -> int:
    """Returns the last time of the format that is before the moment, in microseconds: whether an API means `from` or `after` by what
    it is asked for, it then gives everything from the moment on."""
    unit = _UNITS[since.format]
    return (moment - 1) // unit * unit


def after(moment: int, since: Since) -> int:
    """Returns the first time of the format that is after the moment."""
    unit = _UNITS[since.format]
    return (moment // unit + 1) * unit


def time_text(moment: int, since: Since) -> str:
    """Writes a time, in microseconds, in the format."""
    if since.format == "iso":
        return (EPOCH + moment * MICROSECOND).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(moment // _UNITS[since.format])


def first_moment(since: Since) -> int:
    """Returns the time that a whole read asks for, in microseconds; raises ConfigurationError for a text that is no time."""
    moment = moment_of(since.first)
    if moment is None:
        raise ConfigurationError(f"since.first is {since.first!r}, where a time as 1970-01-01T00:00:00Z was expected")
    return moment
