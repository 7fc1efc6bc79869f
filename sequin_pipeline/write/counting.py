"""This module counts what became of the records of a batch, by window. Pure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.write.merge import Merged
from sequin_pipeline.write.prepare import Prepared


def count_by_window(prepared: Prepared, merged: Merged, window_keys: Sequence[str]) -> dict[str, Counts]:
    """Counts the batch by key of the window.

    Rejects have no time that could be trusted, and what is forgotten has none at all: they stand with the batch's newest window.
    """
    batch = prepared.batch
    newest = int(batch.windows.max()) if len(batch.windows) else len(window_keys) - 1
    indexes = sorted({*merged.counts, *prepared.known, *np.flatnonzero(batch.duplicates).tolist(), newest})
    counts = {}
    for index in indexes:
        stored = merged.counts.get(index, Counts()) + prepared.known.get(index, Counts())
        window = replace(
            stored,
            duplicate=int(batch.duplicates[index]) if index < len(batch.duplicates) else 0,
            rejected=len(prepared.rejects) if index == newest else 0,
            forgotten=prepared.forgotten if index == newest else 0,
        )
        counts[window_keys[index]] = replace(window, fetched=window.accounted)
    return counts
