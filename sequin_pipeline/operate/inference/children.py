"""This module finds the lists of a sample's objects that could be tables of their own.

They are proposed as comments: a table more is for whoever reads the proposal to want. Each list is proposed once all that it needs has been
seen to hold for the sample: elements that are alike, and a key that is unique in every list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sequin_pipeline.catalog import Column, Path
from sequin_pipeline.operate.inference.names import column_names, snake_case
from sequin_pipeline.operate.inference.sample import Sample, SampledField, are_alike, fields_of, fields_of_objects
from sequin_pipeline.operate.inference.types import propose_column
from sequin_pipeline.records import json_text
from sequin_pipeline.records.fields import CHILD_COLUMNS
from sequin_pipeline.records.json_text import kind_of

MOST = 8
"""A collection has at most this many child tables."""

KEY = "id"
"""Elements that have a key are told apart by this member, in most APIs."""

_WRAPPERS = frozenset({"data", "items", "nodes", "edges", "elements", "results"})
"""A list that stands in one of these is named by what holds it."""


@dataclass(frozen=True)
class ProposedChild:
    """This value is a list that could be a table: `has_key` tells whether its elements have an `id` that is unique in each list."""

    name: str
    path: Path
    has_key: bool
    columns: tuple[Column, ...]


def propose_children(provider: str, sample: Sample) -> tuple[ProposedChild, ...]:
    """Returns a child for each list whose elements are objects that are alike."""
    found: dict[str, ProposedChild] = {}
    for field in fields_of(sample):
        elements = _elements(field)
        if elements and are_alike(elements):
            child = _child(provider, field, elements)
            found.setdefault(child.name, child)
    return tuple(found.values())[:MOST]


def _elements(field: SampledField) -> Sequence[bytes]:
    if field.kinds != {"array"}:
        return ()
    return [one for one in json_text.elements(*field.values) if kind_of(one) != "null"]


def _child(provider: str, field: SampledField, elements: Sequence[bytes]) -> ProposedChild:
    steps = [step for step in field.steps if step not in _WRAPPERS] or list(field.steps)
    has_key = all(_tells_apart(text) for text in field.values)
    parts = [
        part
        for part in fields_of_objects(elements)
        if part.values and not part.kinds & {"array", "object"} and not (has_key and part.steps == (KEY,))
    ]
    names = column_names(provider, [part.steps for part in parts], reserved=CHILD_COLUMNS)
    columns = tuple(propose_column(names[part.steps], part) for part in parts)
    return ProposedChild(snake_case("_".join(steps)), Path("data", field.steps), has_key, columns)


def _tells_apart(text: bytes) -> bool:
    """Says whether each element of a list has a key of its own."""
    keys = [json_text.members(one).get(KEY, b"null") for one in json_text.elements(text) if kind_of(one) != "null"]
    plain = {key.strip(b'"') for key in keys}
    return len(plain) == len(keys) and all(kind_of(key) in ("string", "number") for key in keys)
