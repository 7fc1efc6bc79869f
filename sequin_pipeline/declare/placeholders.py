"""This module knows the names in braces of a request: which there are, which may stand where, and those that the file itself fills.

`{columns.x}` is filled here: the keys below `x` that the collection's columns ask for, so that an API which sends only what is named
sends what is stored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

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


def with_columns(value: object, steps: Sequence[Sequence[str | int]]) -> object:
    """Returns the value with `{columns.x}` filled, by the paths of the collection's columns.

    As a text of its own it becomes None where no column asks for anything, and several elements within a list.
    """
    if isinstance(value, str):
        asked = _asked(value, steps)
        if asked is not None:
            return ",".join(asked) or None
        return PLACEHOLDER.sub(
            lambda found: ",".join(_below(found[1], steps)) if found[1].startswith(COLUMNS) else found[0], value
        )
    if isinstance(value, Mapping):
        return {key: with_columns(inner, steps) for key, inner in value.items()}
    if isinstance(value, list):
        filled: list[object] = []
        for inner in value:
            asked = _asked(inner, steps) if isinstance(inner, str) else None
            filled.extend(asked if asked is not None else [with_columns(inner, steps)])
        return filled
    return value


def _asked(text: str, steps: Sequence[Sequence[str | int]]) -> list[str] | None:
    """Returns what is asked for by a text that is nothing else than `{columns.x}`."""
    whole = PLACEHOLDER.fullmatch(text)
    return _below(whole[1], steps) if whole is not None and whole[1].startswith(COLUMNS) else None


def _below(name: str, steps: Sequence[Sequence[str | int]]) -> list[str]:
    first = name.removeprefix(COLUMNS)
    return list(dict.fromkeys(str(path[1]) for path in steps if len(path) > 1 and path[0] == first))
