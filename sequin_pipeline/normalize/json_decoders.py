"""This module turns paths into msgspec types, so that a text is parsed into exactly what is wanted of it and the rest is skipped.

Values come out column by column. What the types do not take is refused by msgspec as a whole; which record it was, and what then
happens to it, is decided by the reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from sequin_pipeline.records import json_text

NULL_RAW = msgspec.Raw(b"null")

MAX_INDEX = 1_000
"""An index may not be larger.

Each element before the wanted one is a field of every record: 8 kB of memory a record here, and as much as the machine has for an
index of nine digits.
"""

Text = bytes | memoryview | msgspec.Raw
Steps = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf is a wanted value.

    `type` is one that msgspec understands, or a union of them; `default` stands for a path that leads nowhere.
    """

    steps: Steps
    type: Any  # unions and Annotated types have no common type
    default: object = None


Columns = dict[Leaf, Sequence[Any]]
"""This maps each leaf to its values, one per text, of the leaf's type."""


class Decoder:
    """A decoder has the type for leaves that one parse can give, and takes their values out of its instances."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        root = _Branch()
        for leaf in leaves:
            root.add(leaf)
        self._reader = _StructReader(root)
        self.blank = self._reader.blank
        self.type = type(self.blank)

    def columns(self, rows: Sequence[msgspec.Struct | None]) -> Columns:
        found: Columns = {}
        self._reader.read(rows, found)
        return found


def is_readable(steps: Steps) -> bool:
    """Returns True where msgspec can be told this path into an object.

    It takes no quote, backslash or control character in a key, and a far index only at the price of memory.
    """
    keys = "".join(step for step in steps if isinstance(step, str))
    is_near = all(step <= MAX_INDEX for step in steps if isinstance(step, int))
    return isinstance(steps[0], str) and is_near and not any(letter in '"\\' or letter < " " for letter in keys)


def decoders_of(leaves: Sequence[Leaf]) -> tuple[Decoder, ...]:
    """Returns as few decoders as the leaves allow.

    That is one, unless a value is wanted both whole and in part, in two types, or a list at two indexes.
    """
    groups: list[tuple[_Branch, list[Leaf]]] = []
    for leaf in leaves:
        group = next((group for group in groups if group[0].accepts(leaf.steps)), None)
        if group is None:
            group = (_Branch(), [])
            groups.append(group)
        group[0].add(leaf)
        group[1].append(leaf)
    return tuple(Decoder(members) for _, members in groups)


class Parser:
    """A parser decodes texts, one at a time, with one decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._decoder = msgspec.json.Decoder(decoder.type | None)

    def columns(self, texts: Sequence[Text], doubtful: set[int]) -> Columns:
        """Returns the values of each leaf, and adds the places of texts that are doubtful."""
        return self.decoder.columns(self.rows(texts, doubtful))

    def rows(self, texts: Sequence[Text], doubtful: set[int]) -> Sequence[msgspec.Struct | None]:
        """Returns the parsed texts, with None in place of what is doubtful."""
        decode = self._decoder.decode
        if not doubtful:
            try:
                return list(map(decode, texts))
            except json_text.REFUSALS:
                pass
        rows: list[msgspec.Struct | None] = []
        for position, text in enumerate(texts):
            row = None
            if position not in doubtful:
                try:
                    row = decode(text)
                except json_text.REFUSALS:
                    doubtful.add(position)
            rows.append(row)
        return rows


class _Branch:
    """A branch is a step on the way to leaves: its children are keys, or one index."""

    def __init__(self) -> None:
        self.children: dict[str | int, _Branch | Leaf] = {}

    @property
    def index(self) -> int | None:
        return next((step for step in self.children if isinstance(step, int)), None)

    def accepts(self, steps: Steps) -> bool:
        child = self.children.get(steps[0])
        if child is None:
            return not self.children or (self.index is None and isinstance(steps[0], str))
        return isinstance(child, _Branch) and len(steps) > 1 and child.accepts(steps[1:])

    def add(self, leaf: Leaf, depth: int = 0) -> None:
        step = leaf.steps[depth]
        if depth + 1 == len(leaf.steps):
            self.children[step] = leaf
            return
        child = self.children.setdefault(step, _Branch())
        assert isinstance(child, _Branch)  # noqa: S101 - whoever adds has asked `accepts`
        child.add(leaf, depth + 1)


class _LeafReader:
    def __init__(self, leaf: Leaf) -> None:
        self.type = leaf.type
        self.default = leaf.default
        self._leaf = leaf

    def read(self, values: Sequence[Any], found: Columns) -> None:
        found[self._leaf] = values


class _StructReader:
    """This reader takes out an object's wanted members, or an array's wanted element with everything before it skipped as raw text.

    No container is made that the garbage collector would have to look at: its rounds cost more than a page's parse.
    """

    default = None

    def __init__(self, branch: _Branch) -> None:
        self._children = {f"field_{place}": _reader(child) for place, child in enumerate(branch.children.values())}
        wanted = [(name, child.type, child.default) for name, child in self._children.items()]
        skipped = [(f"skipped_{place}", msgspec.Raw, NULL_RAW) for place in range(branch.index or 0)]
        keys = {name: str(step) for name, step in zip(self._children, branch.children, strict=True)}
        is_array = branch.index is not None
        struct = msgspec.defstruct("Wanted", [*skipped, *wanted], rename=keys, array_like=is_array, gc=False)
        self.type: Any = struct | None
        self.blank = struct()

    def read(self, values: Sequence[Any], found: Columns) -> None:
        rows: Sequence[Any] = [self.blank if value is None else value for value in values] if None in values else values
        for name, child in self._children.items():
            child.read(list(map(attrgetter(name), rows)), found)


def _reader(child: "_Branch | Leaf") -> "_LeafReader | _StructReader":
    return _LeafReader(child) if isinstance(child, Leaf) else _StructReader(child)
