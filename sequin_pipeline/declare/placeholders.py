"""This module knows the names in braces of a request: which there are, which may stand where, and those that the file itself fills.

`{columns.x}` is filled here: the keys below `x` that the collection's columns ask for, so that an API which sends only what is named
sends what is stored. Where no column asks for any, it is all fields that the API tells, if the declaration says where; else nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)?)\}")
"""Braces around anything else, a space for instance, are the API's own."""

COLUMNS = "columns."
TIMES = ("since", "until")
RESERVED = (*TIMES, "fields")


def names_in(value: object) -> Iterator[str]:
    """Yields each name in braces of a value of YAML, however deep."""
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from names_in(key)
            yield from names_in(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from names_in(inner)


@dataclass(frozen=True)
class ColumnNames:
    """This value knows what the columns of a collection ask for: `steps` are their paths, `has_fields` whether the API tells all fields."""

    steps: Sequence[Sequence[str | int]]
    has_fields: bool

    def fill(self, value: object) -> object:
        """Returns the value with `{columns.x}` filled.

        As a text of its own it becomes None where nothing is to be asked for, and several elements within a list.
        """
        if isinstance(value, str):
            asked = self._asked(value)
            if asked is not None:
                return ",".join(asked) or None
            return PLACEHOLDER.sub(
                lambda found: ",".join(self._below(found[1])) if found[1].startswith(COLUMNS) else found[0], value
            )
        if isinstance(value, Mapping):
            return {key: self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            filled: list[object] = []
            for inner in value:
                asked = self._asked(inner) if isinstance(inner, str) else None
                filled.extend(asked if asked is not None else [self.fill(inner)])
            return filled
        return value

    def _asked(self, text: str) -> list[str] | None:
        """Returns what is asked for by a text that is nothing else than `{columns.x}`."""
        whole = PLACEHOLDER.fullmatch(text)
        return self._below(whole[1]) if whole is not None and whole[1].startswith(COLUMNS) else None

    def _below(self, name: str) -> list[str]:
        first = name.removeprefix(COLUMNS)
        found = list(dict.fromkeys(str(path[1]) for path in self.steps if len(path) > 1 and path[0] == first))
        return found or (["{fields}"] if self.has_fields else [])
