"""This module reads the lists of child tables of one record, exactly: it says why they cannot become rows.

It is right by definition; child_lists.py does the same for whole pages and must agree on everything that it does not hand back.
"""

from collections.abc import Iterator, Mapping, Sequence

from sequin_pipeline.catalog import NAME, POSITION, ChildTable, Column
from sequin_pipeline.normalize.child_lists import ELEMENT
from sequin_pipeline.normalize.value_casts import Value, cast
from sequin_pipeline.records import json_text
from sequin_pipeline.records.json_text import find_value, kind_of, show
from sequin_pipeline.records.literals import InvalidLiteral

Element = Mapping[str, Value]

FIX = "fix the object at the provider or the declaration of the child"


class ListMisfit(Exception):
    """A list cannot become rows; the message says why and what to do."""


def read_lists(children: Sequence[ChildTable], data: bytes | None) -> dict[str, list[Element]]:
    """Returns by the frame's names the rows of each child table that the object has. Raises ListMisfit for the first fault."""
    found: dict[str, list[Element]] = {child.frame_name: [] for child in children}
    if data is not None:
        for child in children:
            if child.within is None:
                _read_list(child, children, data, {}, found)
    return found


def _read_list(
    child: ChildTable, children: Sequence[ChildTable], root: bytes, outer: Mapping[str, Value], found: dict[str, list[Element]]
) -> None:
    keys = dict[tuple[Value, ...], int]()
    for place, name, raw in _elements(child, find_value(root, child.path.steps)):
        if kind_of(raw) == "null":
            continue
        element = {**outer, **_own_values(child, place, name, raw)}
        key = tuple(element[column.name] for column in child.own_key)
        if key in keys:
            told = ", ".join(f"{column.name} {value!r}" for column, value in zip(child.own_key, key, strict=True))
            raise ListMisfit(
                f"child {child.name!r} (path {child.path}) has the key {told} in elements {keys[key]} and {place}, where one was expected: "
                f"name more columns with `key`, or leave it out to tell elements by their position; or {FIX}"
            )
        keys[key] = place
        found[child.frame_name].append({**element, ELEMENT: raw.decode()})
        for inner in children:
            if inner.within == child:
                values = [*outer.values(), *key]
                names = [column.name for column in inner.outer_key]
                _read_list(inner, children, raw, dict(zip(names, values, strict=True)), found)


def _elements(child: ChildTable, raw: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Returns the place, the name and the text of each element; an empty list stands for an empty object, and the other way round."""
    kind = kind_of(raw)
    if kind == "null":
        return
    if kind == ("object" if child.by_name else "array"):
        parts = json_text.members(raw).items() if child.by_name else [("", part) for part in json_text.elements(raw)]
        yield from ((place, name, part) for place, (name, part) in enumerate(parts))
        return
    if kind not in ("array", "object") or json_text.elements_or_members(raw):
        other = "say `by_name: true` where the names of an object's members are the key" if kind == "object" else FIX
        wanted = "an object" if child.by_name else "a list"
        raise ListMisfit(f"child {child.name!r} (path {child.path}) found {show(raw)}, where {wanted} was expected: {other}")


def _own_values(child: ChildTable, place: int, name: str, raw: bytes) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for column in child.read[len(child.outer_key) :]:
        if column == POSITION:
            values[column.name] = place
        elif column == NAME:
            values[column.name] = name
        else:
            values[column.name] = _value(child, column, place, raw)
    return values


def _value(child: ChildTable, column: Column, place: int, raw: bytes) -> Value:
    found = find_value(raw, column.path.steps)
    try:
        value = cast(column, found)
        if value is None and column in child.key:
            raise InvalidLiteral("a value (the column is part of the key)")
        if value is None and column.is_required:
            raise InvalidLiteral("a value (the column is required)")
    except InvalidLiteral as invalid:
        raise ListMisfit(
            f"element {place} of child {child.name!r}: column {column.name!r} (path {column.path}, {column.type}) found {show(found)}, "
            f"where {invalid} was expected: {FIX}"
        ) from invalid
    return value
