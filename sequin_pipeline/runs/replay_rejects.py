"""This module tries rejects again, after the declaration, or what a foreign key points to, has been fixed.

Their records go through normalize and merge as they are declared now, at their own versions. A record that still does not fit
stays an open reject.
"""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import list_rejects, open_versions, settle, waiting_rejects
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.table.history_table import existing_history
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.table.unmanaged import look_up
from sequin_pipeline.write.job import WriteJob
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter

REPLAY_RECORDS = 1_000

MAX_REFUSED = 1_000
"""One run tries at most this many that are refused again.

Such a row costs some 75 ms, one that passes next to nothing. The others come first in the next run.
"""

RESTING_SECONDS = 3_600
"""After this time a run that changed no row tries a reject again: what it waits for may have come from elsewhere."""

OWN = "again"
"""A run tries rejects of its own again under this mode.

Their records have been counted as rejected, and are not fetched twice.
"""


def replay(
    warehouse: Warehouse,
    collection: Collection,
    ledger: Ledger,
    *,
    run_id: str,
    mode: str = "replay",
    numbers: Sequence[str] = (),
) -> Counts:
    """Tries the open rejects again, only those with these `numbers`, where asked; of the counts returned, `rejected` wait on.

    Raises WarehouseError; what was committed stays.
    """
    normalize, completion = Normalizer(collection), Completion(ledger)
    counts = Counts()
    with Session(warehouse) as session:
        finding = partial(list_rejects, ledger=ledger, numbers=numbers)
        waiting = session.attempt(finding, f"reading the rejects of {collection.label!r}")
        has_removed_rows = session.attempt(ledger.has_removed_rows, f"reading the ledger of {collection.label!r}")
        looking = partial(look_up, target=collection_target(collection))
        target = session.attempt(looking, f"looking at table {ledger.table_name!r} of {collection.label!r}")
        finding_history = partial(existing_history, ledger=ledger, target=target)
        history_table = session.attempt(finding_history, f"reading the ledger of {collection.label!r}")
        target = replace(target, has_removed_rows=has_removed_rows, history_table=history_table)
        writer = TableWriter(session, WriteJob(target, ledger, run_id, mode))
        for start in range(0, len(waiting), REPLAY_RECORDS):
            part = waiting[start : start + REPLAY_RECORDS]
            records = b"[" + b",".join(reject.raw for reject in part) + b"]"
            completing = partial(completion, target=target, records=records)
            page = normalize(session.attempt(completing, f"reading what is stored of {collection.label!r}"))
            committed = writer.write(PageGroup(pages=(page,)))
            still_rejected = {reject.raw for reject in committed.rejects}
            landed = [reject.raw for reject in part if reject.raw not in still_rejected]
            settled = partial(settle, ledger=ledger, raws=landed, resolution="replayed")
            session.attempt(settled, f"settling rejects of {collection.label!r}")
            counts = sum(committed.counts.values(), counts)
    return counts


def retry_waiting(
    warehouse: Warehouse, collection: Collection, ledger: Ledger, *, run_id: str, met: Set[bytes], resting_seconds: float
) -> Counter[str]:
    """Tries the rejects that wait for another row or version again, of this run and of earlier ones, as long as some of them pass.

    It may have come, or let its value go, since: with this run, or with that of another collection. The run's own come first, then those
    that were tried the longest ago, at least `resting_seconds`. `met` are the hashes of what this attempt at the run rejected; returns
    by class how many records of these have been stored. Raises WarehouseError; what was committed stays.
    """
    with Session(warehouse) as session:
        reading = f"reading the rejects of {collection.label!r}"
        waiting = session.attempt(partial(waiting_rejects, ledger=ledger, resting_seconds=resting_seconds), reading)
        if not waiting:
            return Counter()
        own = [reject.number for reject in waiting if reject.run_id == run_id]
        others = [reject.number for reject in waiting if reject.run_id != run_id]
        _retry(
            partial(replay, warehouse, collection, ledger, run_id=run_id), [*_portions(OWN, own), *_portions("replay", others)]
        )
        # By record: a partial one that was completed and then refused is open under another content.
        still_open = session.attempt(partial(open_versions, ledger=ledger), reading)
    return Counter(
        reject.reject_class
        for reject in waiting
        if (reject.record_id, reject.version) not in still_open and reject.content_hash in met
    )


def _portions(mode: str, numbers: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    return [(mode, numbers[start : start + REPLAY_RECORDS]) for start in range(0, len(numbers), REPLAY_RECORDS)]


def _retry(replay_portion: Callable[..., Counts], portions: Sequence[tuple[str, Sequence[str]]]) -> None:
    refused, landed = 0, 1
    while landed:
        landed = 0
        for mode, numbers in portions:
            counts = replay_portion(mode=mode, numbers=numbers)
            landed += counts.fetched - counts.rejected
            refused += counts.rejected
            if refused >= MAX_REFUSED:
                return
