"""The memory of pages: it is given back by reference counts alone, since the garbage collector sees few objects, however large they are."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from sequin_pipeline.catalog import Collection, HistoryTable, TableName
from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.write.batch import Batch
from sequin_pipeline.write.prepare import PageGroup, Prepared
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.syncing import sync

LARGE = (NormalizedPages, PageGroup, Prepared, Batch, pd.DataFrame, pa.Table, pa.Array, pa.ChunkedArray, pa.Buffer, memoryview)
"""What holds records, and what is made of them."""

COLLECTIONS = {
    "plain": collection(),
    "removes": collection(on_delete="remove"),
    "children": with_children(collection()),
    "history": replace(collection(), history_table=HistoryTable(TableName("demo", "thing_history"))),
}


def pages(version: int, *, changed: int = 12) -> list[list[dict[str, object]]]:
    """Three pages of four records, of which the first ones are of this version, and the others of the first one."""
    rows = [record(f"r{number}", version if number < changed else 1) for number in range(12)]
    return [rows[start : start + 4] for start in (0, 4, 8)]


@contextmanager
def uncollected() -> Iterator[list[object]]:
    """Yields a list that holds, once the block has ended, everything that only the garbage collector could have freed."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.extend(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("kind", COLLECTIONS)
def test_nothing_that_holds_records_waits_for_the_garbage_collector(warehouse_url: str, kind: str, lanes: int) -> None:
    of: Collection = COLLECTIONS[kind]
    histories: Sequence[list[list[dict[str, object]]]] = [pages(1), pages(2), pages(2), pages(3, changed=2), pages(3, changed=2)]

    with uncollected() as found:
        fetched = [
            sync(warehouse_url, *delivered, of=of, full_refresh=True, lanes=lanes, run_id=f"run {number}").counts.fetched
            for number, delivered in enumerate(histories)
        ]

    assert fetched == [12] * 5
    assert sorted({type(each).__name__ for each in found if isinstance(each, LARGE)}) == []
