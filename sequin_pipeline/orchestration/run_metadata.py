"""This module says what a run did as Dagster's metadata: numbers are plotted over time, names are those of the ledger's fields.

Counts stand with the window that they belong to, what holds for the whole run with the newest of its windows.
"""

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

import dagster as dg

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.runs.frame_run import FrameOutcome
from sequin_pipeline.runs.outcome import SyncOutcome

COUNT_DESCRIPTIONS: Mapping[str, str] = {
    "fetched": "records of the window that the source delivered; each has one of the fates that follow, or is forgotten",
    "inserted": "records whose id had no row",
    "updated": "records that changed a row, or only its object",
    "deleted": "tombstones that were applied",
    "unchanged": "records whose version and content were stored already",
    "stale": "records older than what is stored",
    "duplicate": "records that were not the newest of their id in their batch",
    "rejected": "records that were kept as rejects",
    "created": "rows that the table gained",
    "removed": "rows that the table lost",
    "rows_gained": "`created` less `removed`: this may be negative, and is not the number of rows in the window",
    "rewritten": "rows that changed at a version that was stored already",
    "forgotten": "records of tenants that have been forgotten: passed over, and kept nowhere",
}
"""These belong to one window."""

RUN_DESCRIPTIONS: Mapping[str, str] = {
    "dagster/row_count": "rows of the whole table after the run, by the ledger's running total",
    "pages": "answers of the source that held records, or said that there are no more",
    "requests": "requests sent, repeated ones too",
    "bytes": "bytes received, as they came",
    "wal_bytes": "bytes of Postgres' log written meanwhile: an upper bound where others write to the same server",
    "retries": "requests that were repeated",
    "rate_limit_seconds": "seconds waited because the source said to wait",
    "lag_seconds": "0 at the end of the stream, else how old the last record read was; live runs only",
    "outside": "records outside the windows that were asked for, passed over",
    "swept": "marked rows that were removed because the collection was told to remove them",
    "refilled": "rows whose new or changed columns were filled",
    "open_rejects": "rejects of the collection that wait, of all runs",
    "held_deletes": "rows that a listing does not have and that wait to be accepted, of all runs; left out where there are none",
    "settled": "of the rejected records, those that waited for another row and were stored when the run ended",
    "cursor": "the place in the stream where the run ended",
    "notes": "what the source had to say",
    "bottleneck": "which stage set the pace of a run of a second or more: source, client, server or commit",
    "syncs": "records, rejects and the time of the newest record of each sync that the run met, where they are not more than 50",
    "fetch_seconds": "seconds of requests, until their answers were there",
    "wait_seconds": "seconds that the run waited for pages which are fetched ahead",
    "normalize_seconds": "seconds of turning pages into columns",
    "encode_seconds": "seconds of turning columns into the bytes of COPY",
    "copy_seconds": "seconds of COPY, into staging or straight into the table",
    "merge_seconds": "seconds of the merge, of the batches that were staged",
    "versions_seconds": "seconds of writing the history table, where there is one",
    "ledger_seconds": "seconds of writing counts, rejects and positions",
    "commit_seconds": "seconds of commits",
    "total_seconds": "seconds from the run's start to its end; with lanes, those of the stages add up to more",
}
"""These hold for the whole run, and stand with the newest of its windows."""

MOST_SYNCS = 50
"""The metadata of more would be longer than anybody reads: `status --by sync` shows them."""

SOURCE_NUMBERS = ("pages", "requests", "bytes", "retries", "rate_limit_seconds", "lag_seconds", "cursor", "notes")
"""A run tells these about the API's side of its collection, beside `fetched`."""


def explanation() -> dg.MetadataValue:
    """Returns what the definition of every collection's asset says about the numbers of its materializations."""
    rows = [*COUNT_DESCRIPTIONS.items(), *RUN_DESCRIPTIONS.items()]
    return dg.MetadataValue.md("\n".join(["| | |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, text in rows)]))


def run_metadata(outcome: SyncOutcome) -> dict[str, dg.MetadataValue]:
    """Returns the metadata of a collection's run; `dagster/row_count` is the table's, by the ledger's running total."""
    numbers: dict[str, int | float | None] = {
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
        "held_deletes": sum(held.rows for held in outcome.held_deletes) or None,
        "settled": outcome.settled,
        **{f"{stage}_seconds": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
    }
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))
        for name, value in numbers.items()
        if value is not None
    }
    texts = {"cursor": outcome.cursor or "none", "notes": "\n".join(outcome.notes), "bottleneck": outcome.bottleneck}
    return metadata | {name: dg.MetadataValue.text(text) for name, text in texts.items() if text} | _sync_metadata(outcome)


def _sync_metadata(outcome: SyncOutcome) -> dict[str, dg.MetadataValue]:
    if not 0 < len(outcome.syncs) <= MOST_SYNCS:
        return {}
    told = {
        one.sync_id: {
            "internal_id": one.internal_id,
            "records": one.records,
            "rejected": one.rejected,
            "newest_record_at": one.newest_at and one.newest_at.isoformat(),
        }
        for one in outcome.syncs
    }
    return {"syncs": dg.MetadataValue.json(told)}


def count_metadata(counts: Counts) -> Mapping[str, int]:
    """Returns the metadata of one window: the fates of its records, and the rows that the table gained.

    Dagster's own `dagster/partition_row_count` is the number of rows in the partition, which nobody counts here.
    """
    return {**asdict(counts), "rows_gained": counts.created - counts.removed}


def window_metadata(run_config: RunConfig, outcome: SyncOutcome) -> dict[str, Mapping[str, int | dg.MetadataValue]]:
    """Returns by window what the materializations of a run say.

    Dagster goes over all windows of a run for each one that is given metadata of its own: of a long backfill only the newest is, and
    the counts are observations of the windows in which something was found (`window_observations`).
    """
    newest = run_config.partition_keys[-1]
    told: dict[str, Mapping[str, int | dg.MetadataValue]] = {}
    if not run_config.has_many_windows:
        told = {key: count_metadata(outcome.counts_by_window.get(key, Counts())) for key in run_config.partition_keys}
    return {**told, newest: {**told.get(newest, {}), **run_metadata(outcome)}}


def source_observation(key: dg.AssetKey, outcome: SyncOutcome) -> dg.AssetObservation:
    """Returns what a run saw of the API's side of its collection, whose asset has that key."""
    told = run_metadata(outcome)
    seen = {name: told[name] for name in SOURCE_NUMBERS if name in told}
    return dg.AssetObservation(key, metadata={"fetched": outcome.counts.fetched, **seen})


def frame_metadata(outcome: FrameOutcome) -> Mapping[str, int | str]:
    """Returns the metadata of a plain DataFrame; `notes` name the columns that its table still lacks."""
    names = ", ".join(map(repr, outcome.untyped))
    notes = (
        {"notes": f"no value and no dtype tell the type of {names}: the table gets them with their first value"} if names else {}
    )
    return {**asdict(outcome.counts), "dagster/row_count": outcome.rows, **notes}


def restricted_observations(key: dg.AssetKey, outcome: SyncOutcome, restriction: Mapping[str, str]) -> list[dg.AssetObservation]:
    """Returns what a run of some syncs says instead of materializing: one observation for the run, and one per window with records.

    Its windows stay as they were, since the other syncs' records have not been read. `restriction` says which it read.
    """
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
