"""This module holds how the objects of a collection tell their keys, versions and deletions, and readers of those values.

A reader looks at nothing else of an object: what it skips costs little, and is kept byte for byte.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from sequin_pipeline.reads import JsonPath
from sequin_pipeline.records import json_text
from sequin_pipeline.records.literals import INTEGER

MAX_DIGITS = 100
"""A number of more digits is taken as its text."""

Found = tuple[Any, ...]
"""These are the values at the paths of a reader, in their order: keys and times as JSON gives them, a flag in any form."""


@dataclass(frozen=True)
class Shape:
    """A shape says where an object's key, version, creation and deletion stand.

    Without `version` nobody can ask for what has changed: such a collection is listed whole at each run. `resumes_listings`: a listing
    can be gone on with from the state in its middle; else it begins again.
    """

    key: tuple[JsonPath, ...]
    version: JsonPath | None = None
    created: JsonPath | None = None
    deleted: JsonPath | None = None
    resumes_listings: bool = False

    @property
    def paths(self) -> tuple[JsonPath, ...]:
        """These are the paths of all that is read of an object.

        Its keys come first, then version, creation and deletion as far as they are declared.
        """
        return (*self.key, *(path for path in (self.version, self.created, self.deleted) if path is not None))

    @property
    def version_place(self) -> int | None:
        """This is where the version stands among these paths."""
        return None if self.version is None else len(self.key)


class ValueReader:
    """A reader takes the values at some paths out of objects; a path that leads nowhere gives None."""

    def __init__(self, paths: Sequence[JsonPath]) -> None:
        self._paths = tuple(paths)
        self._decoder = msgspec.json.Decoder(_struct(self._paths))
        attributes = [_attributes(self._paths, path) for path in self._paths]
        is_flat = all(len(each) == 1 for each in attributes) and len(attributes) > 1
        self._values: Callable[[Any], Found] = (
            attrgetter(*(name for (name,) in attributes))
            if is_flat
            else lambda row: tuple(_value(row, each) for each in attributes)
        )

    def read(self, element: bytes | msgspec.Raw) -> Found | None:
        """Returns the values of one object, None for what is no object. A fault elsewhere in it keeps nobody from reading them."""
        try:
            return self._values(self._decoder.decode(element))
        except json_text.REFUSALS:
            return self.read_exactly(bytes(element))

    def read_exactly(self, element: bytes) -> Found | None:
        """Goes by quotes and brackets alone: for half of a surrogate pair, numbers beyond a double, a scalar where an object was.

        A number that is no integer is its digits, as they stand, since a double does not hold each of them.
        """
        if not element.strip(json_text.SPACE).startswith(b"{"):
            return None
        return tuple(_scanned(element, path) for path in self._paths)


def _struct(paths: Sequence[JsonPath], name: str = "Row") -> type[msgspec.Struct]:
    """Makes a struct that has these leaves, and skips everything else of an object without looking at it."""
    fields: list[tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    for number, (key, below) in enumerate(_branches(paths)):
        field = f"f{number}"
        rename[field] = key
        # A path that ends where another goes on takes all that stands there.
        is_leaf = any(not rest for rest in below)
        inner: Any = Any if is_leaf else _struct(below, name + field) | None
        fields.append((field, inner, None))
    return msgspec.defstruct(name, fields, rename=rename)


def _branches(paths: Sequence[JsonPath]) -> Iterator[tuple[str, list[JsonPath]]]:
    for key in dict.fromkeys(path[0] for path in paths):
        yield key, [path[1:] for path in paths if path[0] == key]


def _attributes(paths: Sequence[JsonPath], path: JsonPath) -> tuple[str, ...]:
    for number, (key, below) in enumerate(_branches(paths)):
        if key == path[0]:
            ends = len(path) == 1 or any(not rest for rest in below)
            return (f"f{number}", *path[1:]) if ends else (f"f{number}", *_attributes(below, path[1:]))
    raise AssertionError(path)


def _value(row: Any, attributes: tuple[str, ...]) -> Any:  # Any: structs made at run time, and what JSON holds
    for name in attributes:
        if isinstance(row, dict):
            row = row.get(name)
        elif row is None or not hasattr(row, name):
            return None
        else:
            row = getattr(row, name)
    return row


def _scanned(element: bytes, path: JsonPath) -> Any:  # Any: what JSON holds
    text = element
    try:
        for name in path:
            text = json_text.members(text)[name]
    except (KeyError, ValueError):
        return None
    if json_text.kind_of(text) == "number":
        literal = text.decode()
        return int(literal) if INTEGER.fullmatch(literal) and len(literal) <= MAX_DIGITS else literal
    try:
        return msgspec.json.decode(text)
    except json_text.REFUSALS:
        return None
