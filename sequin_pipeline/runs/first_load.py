"""This module carries out a first load that is divided: each shard is some of the collection's syncs, read by whichever run has its number.

The shards know nothing of each other. The run that completes the last one sets the live cursor, and reads on from there as every live run
does: what entered the stream since the load began, of whichever sync, known or not. A collection that has a live cursor, or whose source
cannot be read sync by sync, is read as ever (collection_run.py).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from sequin_pipeline.ledger.census import find_census
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.ledger.shards import Shard, begin_load, complete_shard, find_shards, hold_division, which_are
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.read.shard_stream import ShardStream
from sequin_pipeline.read.stream import RecordStream, normalized_portion
from sequin_pipeline.runs.collection_run import BATCH_RECORDS, run_sync
from sequin_pipeline.runs.outcome import Progress, SyncOutcome, nothing_read, summed
from sequin_pipeline.runs.start import prepare_collection_table
from sequin_pipeline.sources import ListsSyncs, ReadRequest, SyncListing

logger = logging.getLogger("sequin_pipeline.start")


@dataclass(frozen=True)
class _Task:
    """This value is what a run has to do: shards of a first load, or, where there is none, the whole stream, or nothing."""

    shards: tuple[Shard, ...] = ()
    reads_all: bool = False


def read_collection(
    stream: RecordStream,
    warehouse: Warehouse,
    *,
    run_id: str,
    schema: str = DEFAULT_SCHEMA,
    batch_records: int = BATCH_RECORDS,
    report: Callable[[Progress], None] = lambda progress: None,
) -> SyncOutcome:
    """Reads what the run was asked for, as `run_sync` does; of a first load that is divided, the run's shard or all that are left.

    Raises what `run_sync` raises, after which the next run of the shard goes on at the first batch that was not committed.
    """
    read = partial(run_sync, warehouse=warehouse, run_id=run_id, schema=schema, batch_records=batch_records, report=report)
    run_config = stream.run_config
    ledger = Ledger(str(run_config.collection.table), run_config.collection.label, schema)
    with Session(warehouse) as session:
        task = _find_task(session, ledger, stream, run_id=run_id)
    if not task.shards:
        return read(stream) if task.reads_all else nothing_read("there is nothing left for a run of one shard")
    outcomes = []
    left: list[int] | None = [one.number for one in task.shards if not one.is_complete]
    for shard in task.shards:
        if shard.is_complete or run_config.only_shard not in (None, shard.number):
            continue
        outcomes.append(read(ShardStream(replace(run_config, shard=shard.number), stream.source, shard.syncs)))
        completing = partial(complete_shard, ledger=ledger, shard=shard, run_id=run_id)
        with Session(warehouse) as session:
            left = session.attempt(completing, f"completing shard {shard.number} of {ledger.label!r}")
    if left is None or left:
        read_now = summed(outcomes) if outcomes else nothing_read("the shard of this run has been loaded")
        note = (
            f"of {len(task.shards)} shards of the first load, {which_are(left)} left" if left else "the load has been begun anew"
        )
        return replace(read_now, is_partial=True, notes=(*read_now.notes, note))
    return summed([*outcomes, read(stream)])


def _find_task(session: Session, ledger: Ledger, stream: RecordStream, *, run_id: str) -> _Task:
    """Returns what there is to do for the run, having begun the load where there is none."""
    run_config, source = stream.run_config, stream.source
    in_one_stream = _Task(reads_all=run_config.only_shard in (None, 1))
    is_plain = run_config.mode == "live" and not run_config.full_refresh and not run_config.adopt
    if run_config.collection.shards == 1 or not is_plain or not isinstance(source, ListsSyncs):
        return in_one_stream
    looking = partial(_look, ledger=ledger)
    cursor_of, takes_stock, shards = session.attempt(looking, f"reading the ledger of {ledger.label!r}")
    if cursor_of is not None:
        # A step that completed the last shard, and is tried again, goes on with the rest.
        return _Task(reads_all=run_config.only_shard is None or cursor_of == run_id)
    if shards or takes_stock:
        return _Task(shards) if shards else in_one_stream
    # First of all: a table of another source is refused before anything is asked.
    preparing = partial(prepare_collection_table, ledger=ledger, run_config=run_config, source=source)
    session.attempt(preparing, f"preparing table {ledger.table_name!r} of {ledger.label!r}")
    dividing = partial(_divide, ledger=ledger, stream=stream, source=source)
    begun = session.attempt(dividing, f"dividing the first load of {ledger.label!r}")
    return in_one_stream if begun is None else _Task(begun, reads_all=run_config.only_shard is None)


def _divide(connection: Connection, *, ledger: Ledger, stream: RecordStream, source: ListsSyncs) -> tuple[Shard, ...] | None:
    """Returns the shards of the load, begun now where there is none; none where it has ended, None where it cannot be divided.

    The runs of a load begin together. One asks the source, and the others wait for it rather than ask the same.
    """
    most = stream.run_config.collection.shards
    with connection.transaction():
        hold_division(connection, ledger)
        if (begun := find_shards(connection, ledger)) or ledger.live_cursors(connection):
            return tuple(begun)
        listing = source.list_syncs(stream.run_config.collection.id)
        if listing is None or len(listing.sync_ids) < 2 or not _knows_first(stream, listing.sync_ids):
            _tell_undivided(ledger, listing, most)
            return None
        return tuple(begin_load(connection, ledger, listing.sync_ids, most=most, began_at=listing.received_at))


def _look(connection: Connection, ledger: Ledger) -> tuple[str | None, bool, tuple[Shard, ...]]:
    """Returns whose live cursor there is, whether a reading takes stock of the source, and the shards of a load under way."""
    migrate(connection, ledger.schema)
    cursors = ledger.live_cursors(connection)
    takes_stock = find_census(connection, ledger) is not None
    return cursors[0].run_id if cursors else None, takes_stock, tuple(find_shards(connection, ledger))


def _tell_undivided(ledger: Ledger, listing: SyncListing | None, shards: int) -> None:
    if listing is None:
        found = "lists no syncs"
    elif len(listing.sync_ids) < 2:
        found = f"has {len(listing.sync_ids)} sync of it"
    else:
        found = "has records of syncs that it does not list"
    logger.warning("%s: its first load is read as one stream and not as %d, since the source %s", ledger.label, shards, found)


def _knows_first(stream: RecordStream, syncs: tuple[str, ...]) -> bool:
    """Says whether the earliest records of the stream are of syncs that are listed: what is not would be read by no shard."""
    collection = stream.run_config.collection
    for page in stream.source.pages(ReadRequest(frozenset({collection.id}))):
        found = normalized_portion(page, Normalizer(collection)).normalized.frame["sync_id"].dropna()
        return set(found.unique()) <= set(syncs)
    return True
