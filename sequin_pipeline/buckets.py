"""Which ids belong together: buckets by a hash of the id, the same in every process.

Advisory locks are taken by bucket, and lanes (writers of one table beside each other) own whole buckets, so that no two lanes ever
meet in a row.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BUCKETS = 16
"""Few enough to lock one by one, enough for several writers not to wait for each other."""


def bucket_of(record_id: str) -> int:
    """The bucket of an id, from 0 to BUCKETS - 1."""
    return zlib.crc32(record_id.encode()) % BUCKETS


@dataclass(frozen=True)
class Lane:
    """The `index`-th of `count` writers beside each other; the only one by default."""

    index: int = 0
    count: int = 1

    def takes(self, ids: Iterable[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """For each id whether it is this lane's."""
        return np.fromiter((bucket_of(record_id) % self.count == self.index for record_id in ids), dtype=bool)
