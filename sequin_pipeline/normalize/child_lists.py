"""This module reads the lists of child tables for whole pages at once, as page_reader.py reads columns.

Of each record it makes a list of structs, in a column of the frame: the record's rows in the child table. What is unusual (no list, a
key that comes twice, a value that does not fit) makes the record doubtful, for child_elements.py to decide.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import NAME, POSITION, ChildTable, Column
from sequin_pipeline.normalize.column_casts import arrow_values, cast_column, leaf_of, positions, raw_strings
from sequin_pipeline.normalize.json_decoders import NULL_RAW, Leaf, Parser, decoders_of, is_readable
from sequin_pipeline.normalize.value_casts import STORAGE, Value
from sequin_pipeline.records import json_text

Owners = np.ndarray[tuple[int], np.dtype[np.int64]]
"""This is, for each element, the index of its record."""

ELEMENT = "data"
"""The element itself, whole, stands in this column of a child table."""

_NULL = b"null"


def element_type(child: ChildTable) -> pa.StructType:
    """Returns the type of one row of a child table, as a frame holds it."""
    columns = [pa.field(column.name, STORAGE[column.type].arrow) for column in child.read]
    return pa.struct([*columns, pa.field(ELEMENT, pa.string())])


def list_type(child: ChildTable) -> pa.ListType:
    """Returns the type of the frame's column for a child table."""
    return pa.list_(element_type(child))


def list_array(child: ChildTable, lists: Sequence[Sequence[Mapping[str, Value]] | None]) -> pa.Array:
    """Returns the frame's column from rows that were read one by one; None for a record whose rows are left as they are."""
    elements = [element for each in lists for element in each or ()]
    arrays = [arrow_values(column.type, [element[column.name] for element in elements]) for column in child.read]
    arrays.append(pa.array([element[ELEMENT] for element in elements], pa.string()))
    counts = [len(each or ()) for each in lists]
    values = pa.StructArray.from_arrays(arrays, fields=list(element_type(child)))
    array = pa.ListArray.from_arrays(_offsets(np.array(counts, np.int64)), values, type=list_type(child))
    is_left = pa.array([each is None for each in lists], pa.bool_())
    return pc.if_else(is_left, pa.scalar(None, array.type), array) if any(each is None for each in lists) else array


def child_readers(children: Sequence[ChildTable]) -> "tuple[ChildReader, ...]":
    """Returns a reader of each list that stands in the object itself; it reads those within, too."""
    return tuple(ChildReader(child, children) for child in children if child.within is None)


class ChildReader:
    """This reader reads one list of each record, and the lists within its elements."""

    def __init__(self, child: ChildTable, children: Sequence[ChildTable]) -> None:
        self.child = child
        self._inner = tuple(ChildReader(each, children) for each in children if each.within == child)
        self.leaf = Leaf(child.path.steps, msgspec.Raw, NULL_RAW)
        found = [column for column in (*child.key, *child.columns) if column.path.steps]
        self._whole = [column for column in child.columns if not column.path.steps]
        self.is_readable: bool = (
            is_readable(child.path.steps)
            and all(is_readable(column.path.steps) for column in found)
            and all(inner.is_readable for inner in self._inner)
        )
        self._leaves = {column.name: leaf_of(column) for column in found} if self.is_readable else {}
        inner_leaves = [inner.leaf for inner in self._inner] if self.is_readable else []
        self._parsers = [Parser(decoder) for decoder in decoders_of([*self._leaves.values(), *inner_leaves])]
        self._lists = msgspec.json.Decoder(dict[str, msgspec.Raw] | None if child.by_name else list[msgspec.Raw] | None)

    def read(self, lists: Sequence[msgspec.Raw], doubtful: set[int]) -> dict[str, pa.Array]:
        """Returns the column of this child table, and of each within it, for these texts of lists; one for each record."""
        return self.read_within(lists, np.arange(len(lists)), {}, doubtful, records=len(lists))

    def read_within(
        self, lists: Sequence[msgspec.Raw], owners: Owners, outer: Mapping[str, pa.Array], doubtful: set[int], *, records: int
    ) -> dict[str, pa.Array]:
        """Does as `read`, for lists that stand in elements: `owners` are the records, `outer` the keys that say in which."""
        taken = self._take_apart(lists, owners, doubtful)
        counts = np.fromiter(map(len, taken), np.int64, len(taken))
        texts: list[Any] = list(chain.from_iterable(each.values() if isinstance(each, dict) else each for each in taken))
        list_of = np.repeat(np.arange(len(taken)), counts)
        place = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
        is_there = np.fromiter((len(text) != len(_NULL) or bytes(text) != _NULL for text in texts), bool, len(texts))
        names = [name for each in taken if isinstance(each, dict) for name in each]
        if not is_there.all():
            # A null is no element, but the others keep their places.
            texts = [text for text, is_kept in zip(texts, is_there, strict=True) if is_kept]
            names = [name for name, is_kept in zip(names, is_there, strict=False) if is_kept]
            list_of, place = list_of[is_there], place[is_there]
        of_record = owners[list_of]
        odd = set[int]()
        arrays = {name: values.take(pa.array(list_of)) for name, values in outer.items()}
        own, values = self._own_arrays(texts, place, names, odd)
        arrays |= own
        doubtful.update(of_record[sorted(odd)].tolist())
        doubtful.update(self._repeating(arrays, of_record))
        read = {self.child.frame_name: self._column(arrays, texts, of_record, records)}
        for inner in self._inner:
            keys = [column.name for column in inner.child.outer_key]
            told = [*(column.name for column in self.child.outer_key), *(column.name for column in self.child.own_key)]
            outer_keys = dict(zip(keys, (arrays[name] for name in told), strict=True))
            read |= inner.read_within(values[inner.leaf], of_record, outer_keys, doubtful, records=records)
        return read

    def _take_apart(
        self, lists: Sequence[msgspec.Raw], owners: Owners, doubtful: set[int]
    ) -> list[Sequence[msgspec.Raw] | dict[str, msgspec.Raw]]:
        taken: list[Sequence[msgspec.Raw] | dict[str, msgspec.Raw]] = []
        for text, owner in zip(lists, owners.tolist(), strict=True):
            try:
                taken.append(self._lists.decode(text) or ())
            except json_text.REFUSALS:
                doubtful.add(owner)
                taken.append(())
        return taken

    def _own_arrays(
        self, texts: Sequence[Any], place: Owners, names: Sequence[str], odd: set[int]
    ) -> tuple[dict[str, pa.Array], Mapping[Leaf, Sequence[Any]]]:
        values: dict[Leaf, Sequence[Any]] = {}
        for parser in self._parsers:
            values |= parser.columns(texts, odd)
        arrays: dict[str, pa.Array] = {}
        for column in self.child.read[len(self.child.outer_key) :]:
            if column == POSITION:
                arrays[column.name] = pa.array(place, pa.int32())
            elif column == NAME:
                arrays[column.name] = pa.array(names, pa.string())
            else:
                found = values[self._leaves[column.name]] if column.path.steps else _decoded(column, texts, odd)
                cast = cast_column(column, found)
                arrays[column.name] = cast.array
                odd.update(cast.doubtful)
                if (column.is_required or column in self.child.key) and cast.array.null_count:
                    odd.update(positions(pc.is_null(cast.array)))
        return arrays, values

    def _repeating(self, arrays: Mapping[str, pa.Array], of_record: Owners) -> set[int]:
        """Returns the records that have a key more than once."""
        if not self.child.key:
            return set()
        names = [*(column.name for column in self.child.outer_key), *(column.name for column in self.child.key)]
        keys = list(zip(of_record.tolist(), *(arrays[name].to_pylist() for name in names), strict=True))
        if len(set(keys)) == len(keys):
            return set()
        seen, repeating = set[tuple[Any, ...]](), set[int]()
        for key in keys:
            if key in seen:
                repeating.add(key[0])
            seen.add(key)
        return repeating

    def _column(self, arrays: Mapping[str, pa.Array], texts: Sequence[Any], of_record: Owners, records: int) -> pa.Array:
        columns = [arrays[column.name] for column in self.child.read]
        values = pa.StructArray.from_arrays([*columns, raw_strings(texts)], fields=list(element_type(self.child)))
        counts = np.bincount(of_record, minlength=records)
        return pa.ListArray.from_arrays(_offsets(counts), values, type=list_type(self.child))


def _decoded(column: Column, texts: Sequence[Any], odd: set[int]) -> list[Any]:
    """Returns the elements themselves as values of a column."""
    leaf = leaf_of(column)
    decode = msgspec.json.Decoder(leaf.type).decode
    found = []
    for place, text in enumerate(texts):
        try:
            found.append(decode(text))
        except json_text.REFUSALS:
            odd.add(place)
            found.append(leaf.default)
    return found


def _offsets(counts: Owners) -> pa.Array:
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.array(offsets, pa.int32())
