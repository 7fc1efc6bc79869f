"""This module turns the pages of a collection into a frame of typed columns, and into rejects.

Pages are read as a whole first (page_reader.py), and what that hands back is read one by one (record_reader.py): so one bad record is
one reject, and the others are in the frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceFault
from sequin_pipeline.normalize.child_lists import list_array
from sequin_pipeline.normalize.column_casts import arrow_values
from sequin_pipeline.normalize.content_hash import HASH_BYTES, content_hashes, declaration_fingerprint, earlier_fingerprint
from sequin_pipeline.normalize.page_reader import ROW_NUMBER, PageReader, ParsedPage, frame_schema
from sequin_pipeline.normalize.record_reader import ExactRecord, RecordReader
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import RecordRejected

MAX_PAGE_BYTES = 256 * 2**20
"""A page may not be larger.

A frame's text columns end at 2 GiB each, and it holds some pages of 8 MB together and at most one that is larger; pages of the records
API have some megabytes.
"""


Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Indexes = np.ndarray[tuple[int], np.dtype[np.int64]]

TIMES_OF_OBSERVATION = frozenset({"updated_idx", "record_inserted_at"})
"""Where a source observes time, these differ each time an object is looked at, whether or not it has changed."""


@dataclass(frozen=True)
class Reject:
    """A reject is a record that is not stored, or a value of it that is not, and why.

    `raw` are the record's own bytes, exactly as received. `reject_class` is `envelope` (what the API promises of every record),
    `value` (what the provider put in) or `partial` (what its message left out); later stages add further ones.
    `sqlstate` is Postgres' own, where Postgres refused it. `missing` names required columns without a value.
    """

    record_id: str | None
    raw: bytes = field(repr=False)
    reason: str
    reject_class: str
    sqlstate: str | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class NormalizedPages:
    """This is what became of pages that were read together: each of their records is a row of `frame` or one of `rejects`.

    `starts` are the positions at which each page begins. After `Normalizer(nulls_unfit=True)` a record with values that do not fit is
    both row and reject. `is_lazy`: the columns declared of `data` are not in the frame yet, so that some rows may yet turn out not to
    fit; `normalizer` reads them, where the pages are of records.
    """

    pages: tuple[bytes, ...] = field(repr=False)
    frame: pd.DataFrame
    rejects: tuple[Reject, ...]
    starts: tuple[int, ...] = (0,)
    is_lazy: bool = False
    normalizer: "Normalizer | None" = field(default=None, repr=False)

    @property
    def fetched(self) -> int:
        """This is the number of records that the pages held; it means nothing after `nulls_unfit`."""
        return len(self.frame) + len(self.rejects)

    @property
    def completed(self) -> "NormalizedPages":
        """These are the pages with every column, and every reject; not kept, for pages that know themselves are freed late."""
        if not self.is_lazy:
            return self
        read = self.read_declared(np.ones(len(self.frame), dtype=bool))
        return replace(read.pages, rejects=(*self.rejects, *read.unfit.values()))

    def read_declared(self, is_wanted: Flags) -> "ReadAfterwards":
        """Returns some rows of lazy pages with all their columns."""
        assert self.normalizer is not None  # noqa: S101 - it has made them
        return self.normalizer.complete(self, is_wanted)

    def raw_record(self, position: int) -> bytes:
        """Returns the record's own bytes, by the frame's column ROW_NUMBER; the pages are taken apart at the first call."""
        return self._elements[position]

    @cached_property
    def _elements(self) -> Sequence[bytes]:
        return json_text.elements(*self.pages)


@dataclass(frozen=True, eq=False)
class ReadAfterwards:
    """This value holds rows of lazy pages with all their columns, and by position those that turned out not to fit."""

    pages: NormalizedPages
    unfit: Mapping[int, Reject]


@dataclass(frozen=True, eq=False)
class ReadTogether:
    """This value holds rows of several lazy pages with all their columns, and those that turned out not to fit, numbered through.

    `origins` are, by that number, the index of a row's pages and its position in them.
    """

    pages: NormalizedPages
    unfit: Mapping[int, Reject]
    origins: tuple[Indexes, Indexes]


class Normalizer:
    """A normalizer reads pages of one collection; it is built once for many pages.

    `nulls_unfit` is for filling columns of rows that exist already: a declared value that does not fit is null in the frame, and
    its record is returned as a reject of class `value` as well. Such a row has no hash, by which it would be known.
    """

    def __init__(self, collection: Collection, *, nulls_unfit: bool = False) -> None:
        self._collection = collection
        self._nulls_unfit = nulls_unfit
        self._reader = PageReader(collection)
        self._records = RecordReader(collection)
        self._fingerprint = declaration_fingerprint(collection)
        self._earlier_fingerprint = earlier_fingerprint(collection)
        self._children = {child.frame_name: child for child in collection.children}
        self._derived = (
            frozenset(column.name for column in collection.columns if column.path.root == "data") | self._children.keys()
        )
        self._unhashed = TIMES_OF_OBSERVATION if collection.observes_time else frozenset[str]()
        self._schema = frame_schema(collection.columns, collection.children)
        self._declared_types = {column.name: column.type for column in collection.columns}

    def __call__(self, records: bytes) -> NormalizedPages:
        """Normalizes one page by itself.

        Raises SourceFault where `records` is not the JSON text of an array; never for what is in the array.
        """
        return self.normalize([self.parse(records)])

    def parse(self, records: bytes, *, lazily: bool = False) -> ParsedPage:
        """Does the first half of the work, one page at a time; lazily, without the values declared of `data`.

        Raises SourceFault where `records` is not the JSON text of an array.
        """
        if len(records) > MAX_PAGE_BYTES:
            raise SourceFault(
                f"a page of collection {self._collection.label!r} has {len(records)} bytes, and at most {MAX_PAGE_BYTES} were expected: "
                "ask for fewer records a page"
            )
        try:
            return self._reader.parse(records, lazily=lazily)
        except ValueError as error:
            raise SourceFault(
                f"a page of collection {self._collection.label!r} should be a JSON array of records, but {error}: "
                "look at what the source answers"
            ) from error

    def normalize(self, parsed: Sequence[ParsedPage]) -> NormalizedPages:
        """Does the second half, for at least one page: cheaper for several successive pages together than for each of them."""
        table, doubtful = self._reader.read(parsed)
        starts = tuple(accumulate(map(len, parsed[:-1]), initial=0))
        pages = tuple(page.records for page in parsed)
        rejects = tuple[Reject, ...]()
        unfit: Mapping[int, Reject] = {}
        if doubtful:
            elements = json_text.elements(*pages)
            exact, unfit = self._read_exactly({position: elements[position] for position in sorted(doubtful)}, table.schema)
            is_certain = [position not in doubtful for position in range(len(elements))]
            table, rejects = _together(table.filter(pa.array(is_certain, pa.bool_())), exact), tuple(unfit.values())
        frame = self._frame(table, without_hash=list(unfit) if self._nulls_unfit else [])
        return NormalizedPages(pages, frame, rejects, starts, is_lazy=parsed[0].is_lazy, normalizer=self)

    def complete(self, pages: NormalizedPages, is_wanted: Flags) -> ReadAfterwards:
        """Reads what is declared of `data` for some rows of lazy pages."""
        frame, unfit = self._complete(self._lazy_rows(pages, is_wanted), pages.raw_record)
        return ReadAfterwards(replace(pages, frame=frame, rejects=(), is_lazy=False), unfit)

    def complete_together(self, pages: Sequence[NormalizedPages], wanted: Sequence[Flags]) -> ReadTogether:
        """Does as `complete` for several lazy pages at once, some of them with no row that is wanted: each would cost as much as all."""
        some = [(index, self._lazy_rows(pages[index], flags)) for index, flags in enumerate(wanted) if flags.any()]
        page_of = np.repeat([index for index, _ in some], [len(rows) for _, rows in some])
        rows = pa.concat_tables([rows for _, rows in some]).combine_chunks()
        place = rows.column_names.index(ROW_NUMBER)
        position_of = rows.column(place).to_numpy().astype(np.int64)
        rows = rows.set_column(place, self._schema.field(ROW_NUMBER), pa.array(np.arange(len(rows), dtype=np.int32)))

        def raw_record(row: int) -> bytes:
            of: NormalizedPages = pages[page_of[row]]
            return of.raw_record(int(position_of[row]))

        frame, unfit = self._complete(rows, raw_record)
        return ReadTogether(NormalizedPages((), frame, (), normalizer=self), unfit, (page_of, position_of))

    def _lazy_rows(self, pages: NormalizedPages, is_wanted: Flags) -> pa.Table:
        names = frame_schema(self._reader.eager_columns).names
        rows = pa.table({name: pages.frame[name].array.__arrow_array__() for name in names})
        return rows.filter(pa.array(is_wanted)).combine_chunks()

    def _complete(self, rows: pa.Table, raw_record: Callable[[int], bytes]) -> tuple[pd.DataFrame, Mapping[int, Reject]]:
        declared, doubtful = self._reader.read_declared(_whole(rows.column("data")))
        columns = {name: declared[name] if name in declared else rows.column(name) for name in self._schema.names}
        table = pa.table(columns).cast(self._schema)
        unfit: Mapping[int, Reject] = {}
        if doubtful:
            numbers = table.column(ROW_NUMBER).to_pylist()
            raw = {numbers[row]: raw_record(numbers[row]) for row in sorted(doubtful)}
            exact, unfit = self._read_exactly(raw, self._schema)
            is_certain = [row not in doubtful for row in range(len(table))]
            table = _together(table.filter(pa.array(is_certain, pa.bool_())), exact)
        return self._frame(table), unfit

    @property
    def earlier_names(self) -> list[str]:
        """These are the columns that `earlier_hashes` takes, in its order."""
        left_out = {*self._unhashed, *self._children, ROW_NUMBER}
        return [name for name in self._schema.names if name not in left_out]

    def earlier_hashes(self, rows: pa.Table) -> pa.Array:
        """Returns for each of some rows the hash that builds before the present framing have stored with it."""
        *written, data = [_whole(column) for column in rows.select(self.earlier_names).columns]
        return content_hashes(written, data, self._earlier_fingerprint)

    def _read_exactly(self, elements: Mapping[int, bytes], schema: pa.Schema) -> tuple[pa.Table, Mapping[int, Reject]]:
        """Reads records by position; returns a table of those that are rows, and by position the rejects."""
        found: list[tuple[int, ExactRecord]] = []
        rejects: dict[int, Reject] = {}
        for position, raw in elements.items():
            try:
                record = self._records.read(raw)
            except RecordRejected as rejected:
                rejects[position] = Reject(rejected.record_id, raw, rejected.reason, rejected.reject_class)
                continue
            if record.misfits:
                reason = "; ".join(record.misfits)
                rejects[position] = Reject(str(record.values["id"]), raw, reason, "value", missing=record.missing)
            if self._nulls_unfit or not record.misfits:
                found.append((position, record))
        return self._table(found, schema), rejects

    def _table(self, found: Sequence[tuple[int, ExactRecord]], schema: pa.Schema) -> pa.Table:
        arrays = []
        for name, arrow_type in zip(schema.names, schema.types, strict=True):
            if name == ROW_NUMBER:
                arrays.append(pa.array([position for position, _ in found], arrow_type))
            elif name in self._children:
                arrays.append(list_array(self._children[name], [record.lists.get(name) for _, record in found]))
            elif name in self._declared_types:
                arrays.append(arrow_values(self._declared_types[name], [record.values[name] for _, record in found]))
            else:
                values = pa.array([record.values[name] for _, record in found])
                arrays.append(values.cast(arrow_type))
        return pa.Table.from_arrays(arrays, schema=schema)

    def _frame(self, table: pa.Table, *, without_hash: Sequence[int] = ()) -> pd.DataFrame:
        columns = dict(zip(table.column_names, table.columns, strict=True))
        position = columns.pop(ROW_NUMBER)
        *written, data = [
            _whole(column) for name, column in columns.items() if name not in self._unhashed and name not in self._derived
        ]
        hashes = content_hashes(written, data, self._fingerprint) if len(table) else pa.array([], pa.binary(HASH_BYTES))
        if without_hash:
            is_known = pc.invert(pc.is_in(_whole(position), pa.array(without_hash, position.type)))
            hashes = pc.if_else(is_known, hashes, None)
        columns |= {"content_hash": pa.chunked_array([hashes]), ROW_NUMBER: position}
        return pd.DataFrame({name: pd.arrays.ArrowExtensionArray(column) for name, column in columns.items()}, copy=False)


def _together(certain: pa.Table, exact: pa.Table) -> pa.Table:
    return pa.concat_tables([certain, exact]).sort_by(ROW_NUMBER).combine_chunks()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
