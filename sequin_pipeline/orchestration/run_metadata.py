"""This module says what a run did as Dagster's metadata: numbers are plotted over time, names are those of the ledger's fields.

What holds for a run stands with every one of its windows; counts stand with the window that they belong to.
"""

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

import dagster as dg

from sequin_pipeline.ledger.ledger import Counts
from sequin_pipeline.runs.frame_run import FrameOutcome
from sequin_pipeline.runs.outcome import SyncOutcome


def run_metadata(outcome: SyncOutcome) -> dict[str, dg.MetadataValue]:
    """Returns the metadata of a collection's run; `dagster/row_count` is the table's, by the ledger's running total."""
    numbers: dict[str, int | float] = {
        "dagster/row_count": outcome.rows,
        "pages": outcome.pages,
        "requests": outcome.requests,
        "bytes": outcome.bytes,
        "wal_bytes": outcome.wal_bytes,
        "retries": outcome.retries,
        "rate_limit_seconds": outcome.rate_limit_seconds,
        "lag_seconds": outcome.lag_seconds,
        "outside": outcome.outside,
        "swept": outcome.swept,
        "refilled": outcome.refilled,
        "open_rejects": outcome.open_rejects,
        "settled": outcome.settled,
        **{f"{stage}_seconds": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
    }
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))
        for name, value in numbers.items()
    }
    texts = {"cursor": outcome.cursor or "none"} | ({"notes": "\n".join(outcome.notes)} if outcome.notes else {})
    return metadata | {name: dg.MetadataValue.text(text) for name, text in texts.items()}


def count_metadata(counts: Counts) -> Mapping[str, int]:
    """Returns the metadata of one window: the fates of its records, and the rows that the table gained."""
    return {**asdict(counts), "dagster/partition_row_count": counts.created - counts.removed}


def frame_metadata(outcome: FrameOutcome) -> Mapping[str, int | str]:
    """Returns the metadata of a plain DataFrame; `notes` name the columns that its table still lacks."""
    names = ", ".join(map(repr, outcome.untyped))
    notes = (
        {"notes": f"no value and no dtype tell the type of {names}: the table gets them with their first value"} if names else {}
    )
    return {**asdict(outcome.counts), "dagster/row_count": outcome.rows, **notes}


def restricted_observations(key: dg.AssetKey, outcome: SyncOutcome, *, sync_id: str) -> list[dg.AssetObservation]:
    """Returns what a run of one sync says instead of materializing: one observation for the run, and one per window with records.

    Its windows stay as they were, since the other syncs' records have not been read.
    """
    restriction = {"sync_id": sync_id}
    of_run = dg.AssetObservation(key, metadata={**run_metadata(outcome), **count_metadata(outcome.counts), **restriction})
    return [of_run, *window_observations(key, outcome, restriction)]


def window_observations(
    key: dg.AssetKey, outcome: SyncOutcome, restriction: Mapping[str, str] = MappingProxyType({})
) -> list[dg.AssetObservation]:
    """Returns one observation for each window that the run found records in."""
    return [
        dg.AssetObservation(key, partition=window, metadata={**count_metadata(counts), **restriction})
        for window, counts in sorted(outcome.counts_by_window.items())
    ]
