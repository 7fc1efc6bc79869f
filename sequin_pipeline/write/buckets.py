"""This module says which ids belong together: buckets by a hash of the id, the same in every process.

Advisory locks are taken by bucket, and lanes (writers of one table beside each other) own whole buckets, so that no two lanes ever
meet in a row.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sequin_pipeline.catalog import MAX_LANES

BUCKETS = MAX_LANES
"""These are few enough to lock one by one, enough for several writers not to wait for each other."""


def bucket_of(record_id: str) -> int:
    """Returns the bucket of an id, from 0 to BUCKETS - 1."""
    return zlib.crc32(record_id.encode()) % BUCKETS


def buckets_of(record_ids: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Returns what `bucket_of` says for all of them, without a step of the interpreter for each."""
    hashes = np.fromiter(map(zlib.crc32, map(str.encode, record_ids)), np.uint32, len(record_ids))
    return hashes % BUCKETS


@dataclass(frozen=True)
class Lane:
    """This value is the `index`-th of `count` writers beside each other; the only one by default."""

    index: int = 0
    count: int = 1

    def owns(self, buckets: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Says for each bucket whether it is this lane's."""
        is_owned: np.ndarray[tuple[int], np.dtype[np.bool_]] = buckets % self.count == self.index
        return is_owned
