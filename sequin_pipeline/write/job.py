"""This module holds what the writers of one table share in a run, and what comes of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sequin_pipeline.ledger.counts import ChildCounts, Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.syncs import SyncCount
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.table.target import Target

DELIVERING_MODES = ("live", "backfill")
"""What a source delivers counts for its sync, and not what is read back from the table or the ledger."""


@dataclass(frozen=True)
class WriteJob:
    """This value is what all writers of one table share in one run: the table as it was prepared, its ledger, and who writes.

    `window_keys` and `window_starts` are the run's windows, oldest first; both empty where there are none. Two are
    hints: `is_table_empty`, the run found no row in the table when it began; `reads_again`, it reads what has been read before.
    """

    target: Target
    ledger: Ledger
    run_id: str
    mode: str
    window_keys: tuple[str, ...] = ()
    window_starts: tuple[datetime, ...] = ()
    is_table_empty: bool = False
    reads_again: bool = False


@dataclass(frozen=True)
class Committed:
    """This value says what the attempt that committed did.

    It has counts by key of the window, rejects taken out (`discarded` of them given up before, those that wait for a parent
    aside), what it cost, what came of each sync, and of the rows of each child table.
    """

    counts: dict[str, Counts]
    rejects: tuple[Reject, ...]
    discarded: int
    copied_bytes: int
    wal_bytes: int
    seconds: dict[str, float]
    syncs: tuple[SyncCount, ...] = ()
    children: Mapping[str, ChildCounts] = field(default_factory=dict)
