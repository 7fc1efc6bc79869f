"""Rejects tried again: their records go through normalize and merge as they are declared now, at their own versions.

After the declaration, or what a foreign key points to, has been fixed. A record that still does not fit stays an open reject.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.ledger import Counts, Ledger
from sequin_pipeline.ledger.rejects import KeptReject, list_rejects, settle
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.table.unmanaged import look_up
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter, WriteJob

REPLAY_RECORDS = 1_000


def replay(
    warehouse: Warehouse,
    collection: Collection,
    ledger: Ledger,
    *,
    run_id: str,
    is_wanted: Callable[[KeptReject], bool] = lambda reject: True,
) -> Counts:
    """Tries the open rejects that are wanted again; of the counts returned, `rejected` wait on.

    Raises WarehouseError; what was committed stays.
    """
    normalize, completion = Normalizer(collection), Completion(ledger)
    counts = Counts()
    with Session(warehouse) as session:

        def find(connection: Connection) -> list[KeptReject]:
            return [reject for reject in list_rejects(connection, ledger) if is_wanted(reject)]

        waiting = session.attempt(find, f"reading the rejects of {collection.label!r}")
        has_removed_rows = session.attempt(ledger.has_removed_rows, f"reading the ledger of {collection.label!r}")
        looking = partial(look_up, target=collection_target(collection))
        target = session.attempt(looking, f"looking at table {ledger.table_name!r} of {collection.label!r}")
        target = replace(target, has_removed_rows=has_removed_rows)
        writer = TableWriter(session, WriteJob(target, ledger, run_id, "replay"))
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
