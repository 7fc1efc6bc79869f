"""This module makes one batch a lane from the frames of some pages. Pure.

A batch has the newest row per key, in key order, and what became of the rest. The order matters twice. Among the rows of one key
the greatest version wins, and of equal ones the last delivered. And staging is filled in key order, which is the order in which
rows of the target are locked, so that racing writers cannot deadlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from sequin_pipeline.table.target import TENANT_COLUMNS, Target
from sequin_pipeline.write.buckets import Lane, buckets_of

Indexes = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

OBJECT_VERSION = "#object_version"
"""In batches that hold a bare tombstone this is the version whose object the row carries; null when it carries none."""


@dataclass(frozen=True)
class Place:
    """This value says where a row of a batch came from.

    It has the index of its frame among the batch's, and its position in that frame's pages.
    """

    page: int
    position: int


@dataclass(frozen=True)
class Batch:
    """A batch holds rows ready for staging: unique by key, sorted by key.

    The rows are those of `delivered` at `order`, with the target's columns, and OBJECT_VERSION when `has_bare_tombstones`.
    `duplicates` counts, by index of the window, the rows that were not the newest of their key; `windows` is the index of each row's
    window; `places` where each row came from, `object_places` where its object did: elsewhere for a bare tombstone that carries one;
    `passed_over` where the duplicates came from. Of lazy pages, the columns declared of `data` are not among the rows'.
    `superseded`: keys, versions and tenants of the duplicates, for a target with a history. `versions`: of a target with a history
    table, every version that came, as it came: a batch by key and version, of whose equal ones the last is there.
    """

    delivered: pa.Table = field(repr=False)
    order: Indexes = field(repr=False)
    duplicates: Indexes
    windows: Indexes = field(repr=False)
    places: tuple[Indexes, Indexes] = field(repr=False)
    object_places: tuple[Indexes, Indexes] = field(repr=False)
    passed_over: tuple[Indexes, Indexes] = field(repr=False)
    has_bare_tombstones: bool = False
    superseded: pa.Table | None = field(default=None, repr=False)
    versions: "Batch | None" = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.order)

    def column(self, name: str) -> pa.ChunkedArray:
        """Returns one column of the rows, without the others being put in order."""
        return self.delivered.column(name).take(pa.array(self.order))

    def select(self, names: Sequence[str]) -> pa.Table:
        """Returns some columns of the rows, copied."""
        return self.delivered.select(names).take(pa.array(self.order))

    def place(self, row: int) -> Place:
        """Returns the origin of the row at index `row`."""
        return Place(int(self.places[0][row]), int(self.places[1][row]))

    def object_place(self, row: int) -> Place | None:
        """Returns the origin of the object that a bare tombstone carries; None for every other row."""
        place = Place(int(self.object_places[0][row]), int(self.object_places[1][row]))
        return None if place == self.place(row) else place

    @property
    def carries(self) -> Flags:
        """These are the rows that are bare tombstones with an object from elsewhere in the batch."""
        pages, positions = self.places
        object_pages, object_positions = self.object_places
        is_elsewhere: Flags = (pages != object_pages) | (positions != object_positions)
        return is_elsewhere

    @property
    def holds_all_versions(self) -> bool:
        """This is true where the rows are the versions that came, each as it came."""
        return self.versions is None or (len(self.versions) == len(self) and not self.has_bare_tombstones)

    def only(self, is_wanted: Flags) -> "Batch":
        """Returns the rows that are wanted, without the duplicates, but with all of their versions that came."""
        versions = self.versions
        if versions is not None:
            unwanted = _codes(self.places)[~is_wanted]
            versions = versions.only(~np.isin(_codes(versions.places), unwanted))
        return replace(
            self,
            versions=versions,
            order=self.order[is_wanted],
            duplicates=np.zeros_like(self.duplicates),
            windows=self.windows[is_wanted],
            places=(self.places[0][is_wanted], self.places[1][is_wanted]),
            object_places=(self.object_places[0][is_wanted], self.object_places[1][is_wanted]),
        )

    def originating(self, origins: tuple[Indexes, Indexes]) -> "Batch":
        """Returns the batch with the places that rows had, page and position, before they were numbered through as one page."""

        def before(places: tuple[Indexes, Indexes]) -> tuple[Indexes, Indexes]:
            return origins[0][places[1]], origins[1][places[1]]

        return replace(
            self,
            places=before(self.places),
            object_places=before(self.object_places),
            passed_over=before(self.passed_over),
            versions=self.versions.originating(origins) if self.versions else None,
        )

    def part(self, rows: Sequence[int]) -> "Batch":
        """Returns some of the rows, in this order, without the duplicates and the versions."""
        taken = np.array(rows, dtype=np.int64)
        return replace(
            self,
            versions=None,
            order=self.order[taken],
            duplicates=np.zeros_like(self.duplicates),
            windows=self.windows[taken],
            places=(self.places[0][taken], self.places[1][taken]),
            object_places=(self.object_places[0][taken], self.object_places[1][taken]),
        )


def _codes(places: tuple[Indexes, Indexes]) -> Indexes:
    """Returns one number for each place."""
    page_of, position_of = places
    return (page_of << 40) | position_of


def build_batch(
    target: Target,
    pages: Sequence[NormalizedPages],
    *,
    window_starts: Sequence[datetime],
    without: frozenset[Place] = frozenset(),
    lane: Lane = Lane(),  # noqa: B008 - frozen
) -> Batch:
    """Builds the batch of these pages, in the order of their arrival.

    Rows at `without` are left out, as if never delivered, and so are those of other lanes. `window_starts` are ascending; a row
    belongs to the last window that starts at or before its stream time, else to the first.
    """
    (batch,) = build_batches(target, pages, window_starts=window_starts, without=without, lanes=[lane])
    return batch


def build_batches(
    target: Target,
    pages: Sequence[NormalizedPages],
    *,
    window_starts: Sequence[datetime],
    without: frozenset[Place] = frozenset(),
    lanes: Sequence[Lane],
) -> list[Batch]:
    """Builds the batch of each of the lanes: what they have in common, the rows together and in order, is made once."""
    arrived = _gather(target, pages, without)
    windows = _windows(target, arrived.rows, window_starts)
    order = _order(target, arrived.rows)
    if len(lanes) == 1 and lanes[0].count == 1:
        shares = [order]
    else:
        buckets = buckets_of(arrived.rows.column(target.key[-1]).to_pylist())[order]
        shares = [order[lane.owns(buckets)] for lane in lanes]
    return [_batch(target, arrived, windows, share, window_count=max(1, len(window_starts))) for share in shares]


def _superseded(target: Target, rows: pa.Table) -> pa.Table:
    names = dict.fromkeys(filter(None, (target.record_id, target.version, *TENANT_COLUMNS)))
    return rows.select(list(names))


@dataclass(frozen=True)
class _Arrived:
    """This value holds all rows of the pages as they came, and the place that each came from."""

    rows: pa.Table
    page_of: Indexes
    position_of: Indexes


def _batch(target: Target, arrived: _Arrived, windows: Indexes, order: Indexes, *, window_count: int) -> Batch:
    """Builds a batch of the rows at `order`, which are in the order of `_order`."""
    rows, page_of, position_of = arrived.rows, arrived.page_of, arrived.position_of
    is_newest = _is_last(rows, order, target.key)
    newest = order[is_newest]
    dropped = order[~is_newest]
    duplicates = np.bincount(windows[dropped], minlength=window_count)
    delivered, kept, object_rows = rows, newest, newest
    has_bare_tombstones = False
    if target.tombstone and target.data:
        bare = _is_bare(target, rows)
        has_bare_tombstones = bool(bare[newest].any())
        if has_bare_tombstones:
            delivered, object_rows = _with_carried_objects(target, rows, newest, bare)
            kept = np.arange(len(newest))
    return Batch(
        delivered=delivered,
        order=kept,
        duplicates=duplicates,
        windows=windows[newest],
        places=(page_of[newest], position_of[newest]),
        object_places=(page_of[object_rows], position_of[object_rows]),
        passed_over=(page_of[dropped], position_of[dropped]),
        has_bare_tombstones=has_bare_tombstones,
        superseded=_superseded(target, rows).take(pa.array(dropped)) if target.history else None,
        versions=_versions(target, arrived, windows, order) if target.history_table else None,
    )


def _versions(target: Target, arrived: _Arrived, windows: Indexes, order: Indexes) -> Batch:
    """Builds the batch of all versions at `order`; of rows of one key and version, the last delivered."""
    assert target.version is not None  # noqa: S101 - records have versions
    last = order[_is_last(arrived.rows, order, (*target.key, target.version))]
    places = (arrived.page_of[last], arrived.position_of[last])
    nowhere = np.empty(0, dtype=np.int64)
    return Batch(
        delivered=arrived.rows,
        order=last,
        duplicates=np.zeros(1, dtype=np.int64),
        windows=windows[last],
        places=places,
        object_places=places,
        passed_over=(nowhere, nowhere),
    )


def _gather(target: Target, pages: Sequence[NormalizedPages], without: frozenset[Place]) -> _Arrived:
    tables = [_arrow_table(page.frame) for page in pages]
    page_of = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rows = pa.concat_tables(tables)
    position_of = rows.column(ROW_NUMBER).to_numpy().astype(np.int64)
    wanted = (*target.column_names, *(child.declared.frame_name for child in target.children))
    rows = rows.select([name for name in wanted if name in rows.column_names])
    if without:
        is_kept = np.array(
            [Place(int(page), int(at)) not in without for page, at in zip(page_of, position_of, strict=True)], dtype=bool
        )
        rows, page_of, position_of = rows.filter(pa.array(is_kept)), page_of[is_kept], position_of[is_kept]
    return _Arrived(rows, page_of, position_of)


def _arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Returns the frame's own Arrow columns, not copied; those of other dtypes converted."""
    columns = [frame[name].array for name in frame.columns]
    if all(isinstance(column, pd.arrays.ArrowExtensionArray) for column in columns):
        return pa.table(dict(zip(frame.columns, (column.__arrow_array__() for column in columns), strict=True)))
    return pa.Table.from_pandas(frame, preserve_index=False)


def _windows(target: Target, rows: pa.Table, starts: Sequence[datetime]) -> Indexes:
    if target.stream_time is None or len(starts) < 2:
        return np.zeros(rows.num_rows, dtype=np.int64)
    earliest = pa.scalar(datetime.min.replace(tzinfo=UTC), pa.timestamp("us", "UTC"))
    times = rows.column(target.stream_time).fill_null(earliest).cast(pa.int64()).to_numpy()
    bounds = pa.array(starts, pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    windows: Indexes = np.clip(np.searchsorted(bounds, times, side="right") - 1, 0, None)
    return windows


def _order(target: Target, rows: pa.Table) -> Indexes:
    """Returns the indexes of the rows by key, version, arrival."""
    sort_keys = [(name, "ascending") for name in (*target.key, *([target.version] if target.version else ()))]
    order: Indexes = pc.sort_indices(rows, sort_keys=sort_keys).to_numpy().astype(np.int64)
    return order


def _is_last(rows: pa.Table, order: Indexes, key: Sequence[str]) -> Flags:
    """Says for each row at `order` whether it is the last of its key."""
    is_last = np.ones(len(order), dtype=bool)
    if len(order) > 1:
        is_same = np.ones(len(order) - 1, dtype=bool)
        for name in key:
            keys = rows.column(name).combine_chunks().take(pa.array(order))
            is_same &= pc.equal(keys[:-1], keys[1:]).to_numpy(zero_copy_only=False)
        is_last[:-1] = ~is_same
    return is_last


def _is_bare(target: Target, rows: pa.Table) -> Flags:
    assert target.tombstone is not None  # noqa: S101 - the caller asked
    assert target.data is not None  # noqa: S101
    bare = pc.and_(rows.column(target.tombstone), rows.column(target.data).is_null())
    is_bare: Flags = bare.combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    return is_bare


def _with_carried_objects(
    target: Target,
    rows: pa.Table,
    newest: Indexes,
    bare: Flags,
) -> tuple[pa.Table, Indexes]:
    """Gives each bare tombstone the object of the newest version delivered before it.

    Where that stands in this very batch, its object columns are carried over, with the version they came from, and the merge
    decides against the stored row's. Returns the rows, and for each the index of the row that its object came from.
    """
    assert target.version is not None  # noqa: S101 - tombstones come with versions
    versions = rows.column(target.version).to_numpy()
    keys = _keys(target, rows)
    wanted = set(keys.iloc[newest[bare[newest]]])
    carried: dict[object, int] = {}
    highest: dict[object, int] = {}
    for index in np.flatnonzero(keys.isin(wanted).to_numpy()):
        key = keys.iloc[index]
        version = int(versions[index])
        if version < highest.get(key, version):
            continue
        highest[key] = version
        if not bare[index]:
            carried[key] = int(index)
    object_rows = newest.copy()
    object_versions: list[int | None] = [int(version) for version in versions[newest]]
    for at in np.flatnonzero(bare[newest]):
        origin = carried.get(keys.iloc[newest[at]])
        object_versions[at] = None if origin is None else int(versions[origin])
        object_rows[at] = newest[at] if origin is None else origin
    of_object = object_names(target)
    taken = {name: rows.column(name).take(pa.array(object_rows if name in of_object else newest)) for name in rows.column_names}
    return pa.table({**taken, OBJECT_VERSION: pa.array(object_versions, pa.int64())}), object_rows


def object_names(target: Target) -> set[str]:
    """Returns the frame's columns that come from the provider's object."""
    declared = {column.name for column in target.columns if column.is_object}
    return declared | {child.declared.frame_name for child in target.children}


def _keys(target: Target, rows: pa.Table) -> "pd.Series[Any]":
    columns = [rows.column(name) for name in target.key]
    if len(columns) == 1:
        return pd.Series(columns[0].to_pandas(types_mapper=pd.ArrowDtype))
    return pd.Series(list(zip(*(column.to_pylist() for column in columns), strict=True)))
