"""This module says which runs a first load that is divided needs: one for each shard that is left, so that they can be on other machines.

What a run of a shard does is in runs/first_load.py.
"""

from collections.abc import Iterable, Iterator, Sequence

from sequin_pipeline.catalog import Collection
from sequin_pipeline.orchestration.resources import LiveState
from sequin_pipeline.windows import KeyRange

LiveRun = tuple[KeyRange | None, Sequence[Collection], int | None]
"""A live run has its windows (None for a queue), its collections, and the number of the shard that it reads (None: no shard)."""


def shards_to_read(collection: Collection, state: LiveState) -> tuple[int, ...]:
    """Returns the numbers of the shards that are to be read before the collection has a live cursor; none where nothing is divided."""
    label = collection.label
    if collection.shards == 1 or label in state.cursor_times:
        return ()
    if label in state.shards_left:
        return state.shards_left[label]
    return () if label in state.completed_runs else tuple(range(1, collection.shards + 1))


def with_shards(runs: Iterable[tuple[KeyRange | None, Sequence[Collection]]], state: LiveState) -> Iterator[LiveRun]:
    """Yields the runs, with one for each shard in place of the collections whose first load is divided."""
    for asked, members in runs:
        divided = {collection.label: shards_to_read(collection, state) for collection in members}
        if whole := [collection for collection in members if not divided[collection.label]]:
            yield asked, whole, None
        for collection in members:
            for shard in divided[collection.label]:
                yield asked, [collection], shard
