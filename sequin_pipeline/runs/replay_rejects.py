"""Rejects tried again: their records go through normalize and merge as they are declared now, at their own versions.

After the declaration, or what a foreign key points to, has been fixed. A record that still does not fit stays an open reject.
"""

from collections.abc import Callable, Set
from dataclasses import replace
from functools import partial

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.ledger import Counts, Ledger
from sequin_pipeline.ledger.rejects import PARENT, WAITING, KeptReject, content_hash, list_rejects, settle
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.table.unmanaged import look_up
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter, WriteJob

REPLAY_RECORDS = 1_000

OWN = "again"
"""The mode under which a run tries rejects of its own again: their records have been counted as rejected, and are not fetched twice."""


def replay(
    warehouse: Warehouse,
    collection: Collection,
    ledger: Ledger,
    *,
    run_id: str,
    mode: str = "replay",
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


def retry_waiting(warehouse: Warehouse, collection: Collection, ledger: Ledger, *, run_id: str, met: Set[bytes]) -> int:
    """Tries the rejects that wait for another row or version again, of this run and of earlier ones, as long as some of them pass.

    It may have come, or let its value go, since: with this run, or with that of another collection. `met` are the hashes of what this
    attempt at the run rejected; returns how many records of these, other than for a missing parent, have been stored. Raises
    WarehouseError; what was committed stays.
    """
    before = [reject for reject in _open(warehouse, collection, ledger) if reject.reject_class in WAITING]
    own = {reject.number for reject in before if reject.run_id == run_id}
    others = {reject.number for reject in before} - own
    while True:
        landed = 0
        for mode, numbers in ("replay", others), (OWN, own):
            if numbers:
                wanted = partial(_is_one_of, numbers)
                counts = replay(warehouse, collection, ledger, run_id=run_id, mode=mode, is_wanted=wanted)
                landed += counts.fetched - counts.rejected
        if not landed:
            break
    # By record: a partial one that was completed and then refused is open under another content.
    after = {(reject.record_id, reject.version) for reject in _open(warehouse, collection, ledger)}
    return sum(
        reject.reject_class != PARENT and (reject.record_id, reject.version) not in after and content_hash(reject.raw) in met
        for reject in before
    )


def _is_one_of(numbers: Set[str], reject: KeptReject) -> bool:
    return reject.number in numbers


def _open(warehouse: Warehouse, collection: Collection, ledger: Ledger) -> list[KeptReject]:
    with Session(warehouse) as session:
        return session.attempt(partial(list_rejects, ledger=ledger), f"reading the rejects of {collection.label!r}")
