"""This module holds the partitions of a collection: one for each combination of the values of `each`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.reads import Read, Setting, Variable
from sequin_pipeline.sources.rest.state import partition_name


@dataclass(frozen=True)
class Partition:
    """A partition is read by itself; `name` is its name in the state, `values` stand in braces."""

    name: str
    values: Mapping[str, str]


def partitions_of(read: Read, environment: Mapping[str, str], *, names: Collection[str] | None = None) -> list[Partition]:
    """Returns all partitions, or those of some names of `each` only; raises ConfigurationError for a name without values."""
    each = {name: settings for name, settings in read.each.items() if names is None or name in names}
    values = {name: _values(name, settings, environment) for name, settings in each.items()}
    is_secret = any(isinstance(setting, Variable) for settings in each.values() for setting in settings)
    return [
        Partition(partition_name(combination, is_secret=is_secret), dict(zip(values, combination, strict=True)))
        for combination in product(*values.values())
    ]


def _values(name: str, settings: tuple[Setting, ...], environment: Mapping[str, str]) -> list[str]:
    """Returns the values of one name; a variable holds several with commas between."""
    found: list[str] = []
    for setting in settings:
        held = setting.value(environment).split(",") if isinstance(setting, Variable) else [setting]
        found += [value.strip() for value in held if value.strip()]
    if not found:
        raise ConfigurationError(f"`each` has no values for {name!r}, so that nothing would be read: name at least one")
    return list(dict.fromkeys(found))
