"""This reader reads whole pages at once: the usual form of records and values, parsed by type and cast by column.

A page is parsed by itself, so that a fault stays in its page; columns are made of several pages together, since each costs the same
for a hundred values as for a thousand.

What is unusual (the older form, a number where a string is usual, a fault) is handed back by position, for record_reader.py to decide.
What is not handed back is what record_reader.py would have given.

The values declared of `data` cost as much as all the rest, and a record that is known needs none: a page that is parsed lazily goes
without, and they are read afterwards from the objects of those records that need them (`read_declared`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, chain
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import ChildTable, Collection, Column, Path
from sequin_pipeline.normalize.child_lists import ChildReader, child_readers, list_type
from sequin_pipeline.normalize.column_casts import cast_column, leaf_of, positions, raw_strings, slices
from sequin_pipeline.normalize.json_decoders import NULL_RAW, Columns, Leaf, Parser, decoders_of, is_readable
from sequin_pipeline.normalize.value_casts import STORAGE
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import EMPTY_OBJECT, ENVELOPE_SCHEMA, MAX_UPDATED_IDX, MIN_UPDATED_IDX
from sequin_pipeline.records.fields import FIELDS, RecordField

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Version = Annotated[int, msgspec.Meta(ge=MIN_UPDATED_IDX, le=MAX_UPDATED_IDX)]


def _leaf(field: RecordField) -> Leaf:
    match field.type:
        case "bigint":
            return Leaf(field.path, _Version)
        case "boolean":
            return Leaf(field.path, bool, default=False)
        case "text" if field.is_always_given:
            return Leaf(field.path, _Text)
        case _:
            return Leaf(field.path, str | None)


_ENVELOPE_LEAVES = {field.name: _leaf(field) for field in FIELDS}
_DATA = Leaf(("data",), msgspec.Raw, default=NULL_RAW)

_TIMES = {
    field.name: Column(field.name, Path("record", (field.name,)), field.type) for field in FIELDS if field.type == "timestamptz"
}

_NEVER_NULL = frozenset(field.name for field in FIELDS if field.is_always_given)
"""A null in one of these means the older form, or a fault."""


ROW_NUMBER = "#position"
"""This column counts the rows through all pages; no column can be declared with such a name."""


DECODED_TOGETHER = 1_000
"""One text that msgspec refuses has this many of its neighbours decoded again, one by one."""


def frame_schema(columns: Sequence[Column], children: Sequence[ChildTable] = ()) -> pa.Schema:
    """Returns the frame's columns except the content hash.

    That is the envelope's, these declared ones, the lists of these child tables, `data`, and the position in the pages.
    """
    declared = [pa.field(column.name, STORAGE[column.type].arrow) for column in columns]
    declared += [pa.field(child.frame_name, list_type(child)) for child in children]
    return pa.schema([*ENVELOPE_SCHEMA, *declared, pa.field("data", pa.string()), pa.field(ROW_NUMBER, pa.int32())])


@dataclass(frozen=True)
class ParsedPage:
    """This value holds a page's values by leaf, and the positions in the page that are doubtful.

    `is_lazy`: the values declared of `data` are not among them.
    """

    records: bytes = field(repr=False)
    values: Columns = field(repr=False)
    doubtful: frozenset[int]
    is_lazy: bool = False

    def __len__(self) -> int:
        return len(self.values[_DATA])

    def may_be_after(self, moment: datetime) -> bool:
        """Returns False where a record entered the stream before that moment, which the first one alone tells for nearly every page."""
        if len(self) == 0 or 0 in self.doubtful:
            return len(self) > 0
        text = self.values[_ENVELOPE_LEAVES["record_inserted_at"]][0]
        try:
            return text is not None and datetime.fromisoformat(text) > moment
        except (ValueError, TypeError):
            # What Python does not read, or without a zone, is for the frame to say.
            return True


class PageReader:
    """This reader reads pages of one collection."""

    def __init__(self, collection: Collection) -> None:
        self.eager_columns = tuple(column for column in collection.columns if column.path.root == "record")
        self._lazy_columns = tuple(column for column in collection.columns if column.path.root == "data")
        self._columns = collection.columns
        self._children = collection.children
        self._child_readers: tuple[ChildReader, ...] = child_readers(collection.children)
        self._is_readable = all(is_readable(column.path.steps) for column in collection.columns) and all(
            reader.is_readable for reader in self._child_readers
        )
        readable = [column for column in collection.columns if is_readable(column.path.steps)]
        self._leaves = {column.name: leaf_of(column) for column in readable}
        self._collection_id = Leaf(("collection_id",), Literal[collection.id])
        record_leaves = [self._leaves[column.name] for column in readable if column.path.root == "record"]
        data_leaves = [self._leaves[column.name] for column in readable if column.path.root == "data"]
        data_leaves += [reader.leaf for reader in self._child_readers if self._is_readable]
        envelope, *others = decoders_of([self._collection_id, *_ENVELOPE_LEAVES.values(), _DATA, *record_leaves])
        page_type: Any = list[envelope.type]  # type: ignore[name-defined] # made at run time
        self._page = msgspec.json.Decoder(page_type)
        self._envelope = Parser(envelope)
        self._record_parsers = [Parser(decoder) for decoder in others]
        self._data_parsers = [Parser(decoder) for decoder in decoders_of(data_leaves)]

    def parse(self, records: bytes, *, lazily: bool = False) -> ParsedPage:
        """Parses one page; raises ValueError where `records` is not the JSON text of an array."""
        doubtful: set[int] = set()
        found = self._envelope.decoder.columns(self._rows(records, doubtful))
        doubtful.update(place for place, named in enumerate(found[self._collection_id]) if named is None)
        if self._record_parsers:
            elements = json_text.elements(records)
            for parser in self._record_parsers:
                found |= parser.columns(elements, doubtful)
        for parser in () if lazily else self._data_parsers:
            found |= parser.columns(found[_DATA], doubtful)
        return ParsedPage(records, found, frozenset(doubtful), lazily)

    def read(self, pages: Sequence[ParsedPage]) -> tuple[pa.Table, frozenset[int]]:
        """Returns one table of them all, in their order, and the positions of doubtful rows, which mean nothing.

        All of them are lazy, or none is.
        """
        columns = self.eager_columns if pages[0].is_lazy else self._columns
        starts = [0, *accumulate(map(len, pages))]
        doubtful = {start + place for start, page in zip(starts, pages, strict=False) for place in page.doubtful}
        values = {leaf: list(chain.from_iterable(page.values[leaf] for page in pages)) for leaf in pages[0].values}
        data = self._data(values, doubtful)
        arrays = {name: self._envelope_array(name, values[leaf], doubtful) for name, leaf in _ENVELOPE_LEAVES.items()}
        for column in columns:
            arrays[column.name] = self._declared_array(column, values, data, doubtful)
        children = () if pages[0].is_lazy else self._children
        if children:
            arrays |= self._child_arrays(values, len(data), doubtful)
        arrays["data"] = data
        arrays[ROW_NUMBER] = pa.array(np.arange(len(data), dtype=np.int32))
        if not self._is_readable:
            doubtful.update(range(len(data)))
        table = pa.Table.from_arrays(list(arrays.values()), schema=frame_schema(columns, children))
        return table, frozenset(doubtful)

    def read_declared(self, data: pa.Array) -> tuple[Mapping[str, pa.Array], frozenset[int]]:
        """Returns the columns declared of `data`, from objects as `read` has them, and the positions of doubtful rows."""
        texts = [b"null" if text is None else text for text in slices(data)]
        doubtful = set[int]() if self._is_readable else set(range(len(texts)))
        values: dict[Leaf, list[Any]] = {}
        for parser in self._data_parsers:
            for start in range(0, max(1, len(texts)), DECODED_TOGETHER):
                odd = set[int]()
                for leaf, column_values in parser.columns(texts[start : start + DECODED_TOGETHER], odd).items():
                    values.setdefault(leaf, []).extend(column_values)
                doubtful.update(start + position for position in odd)
        arrays = {column.name: self._declared_array(column, values, data, doubtful) for column in self._lazy_columns}
        arrays |= self._child_arrays(values, len(data), doubtful)
        return arrays, frozenset(doubtful)

    def _rows(self, page: bytes, doubtful: set[int]) -> Sequence[msgspec.Struct | None]:
        if json_text.is_harmless(page):
            try:
                rows: Sequence[msgspec.Struct] = self._page.decode(page)
                return rows
            except json_text.REFUSALS:
                pass
        elements = json_text.elements(page)
        doubtful.update(place for place, element in enumerate(elements) if not json_text.is_harmless(element))
        return self._envelope.rows(elements, doubtful)

    def _data(self, values: Mapping[Leaf, Sequence[Any]], doubtful: set[int]) -> pa.Array:
        """Returns the objects as they were received, null where a record carries none."""
        texts, deleted = values[_DATA], values[_ENVELOPE_LEAVES["deleted"]]
        array = raw_strings(texts)
        doubtful.update(positions(pc.invert(pc.starts_with(array, "{"))))
        bare = [position for position, is_deleted in enumerate(deleted) if is_deleted and EMPTY_OBJECT.fullmatch(texts[position])]
        if not bare:
            return array
        is_bare = np.zeros(len(array), bool)
        is_bare[bare] = True
        return pc.if_else(pa.array(is_bare), None, array)

    def _envelope_array(self, name: str, values: Sequence[Any], doubtful: set[int]) -> pa.Array:
        if name in _TIMES:
            cast = cast_column(_TIMES[name], values)
            array = cast.array
            doubtful.update(cast.doubtful)
        else:
            array = pa.array(values, ENVELOPE_SCHEMA.field(name).type)
        if name in _NEVER_NULL and array.null_count:
            doubtful.update(positions(pc.is_null(array)))
        return array

    def _child_arrays(self, values: Mapping[Leaf, Sequence[Any]], rows: int, doubtful: set[int]) -> dict[str, pa.Array]:
        if not self._is_readable:
            return {child.frame_name: pa.nulls(rows, list_type(child)) for child in self._children}
        arrays: dict[str, pa.Array] = {}
        for reader in self._child_readers:
            arrays |= reader.read(values[reader.leaf], doubtful)
        return {child.frame_name: arrays[child.frame_name] for child in self._children}

    def _declared_array(
        self, column: Column, values: Mapping[Leaf, Sequence[Any]], data: pa.Array, doubtful: set[int]
    ) -> pa.Array:
        if column.name not in self._leaves:
            return pa.nulls(len(data), STORAGE[column.type].arrow)
        cast = cast_column(column, values[self._leaves[column.name]])
        doubtful.update(cast.doubtful)
        if column.is_required and cast.array.null_count:
            doubtful.update(positions(pc.and_(pc.is_null(cast.array), pc.is_valid(data))))
        return cast.array
