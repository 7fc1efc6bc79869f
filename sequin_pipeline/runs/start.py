"""This module begins a run of a collection.

Ledger, table and columns are made ready, and the place to start from is found. Everything here happens on a connection before a
writer exists, and before anything has been requested of the source.
"""

import logging
from dataclasses import dataclass, replace

from sequin_pipeline.ledger.census import Census, begin_census, find_census, mark_others, restart_clock
from sequin_pipeline.ledger.ledger import Ledger, LiveCursor
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.undeclared import adopt_undeclared
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, lift_limits
from sequin_pipeline.read.cursor_position import BEGINNING, CursorPosition
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.runs.heartbeat import Heartbeat
from sequin_pipeline.runs.history_seed import seed_history
from sequin_pipeline.runs.refill import declare_columns, refill
from sequin_pipeline.sources import Source
from sequin_pipeline.table.child_tables import prepare_children
from sequin_pipeline.table.history_table import prepare_history_table
from sequin_pipeline.table.managed import Preparation, prepare_table
from sequin_pipeline.table.target import Target, collection_target
from sequin_pipeline.table.write_access import tell_access
from sequin_pipeline.windows import SLACK
from sequin_pipeline.write.child_rows import count_rows, remove_orphans
from sequin_pipeline.write.removals import sweep_marked

logger = logging.getLogger("sequin_pipeline.start")


@dataclass(frozen=True)
class RunStart:
    """This value is what a run begins with.

    That is the table as it takes rows, the place in the stream, and of each lane the live cursor that it will move. `census`: the
    run tells in the end which rows the source does not have. `swept` are rows that were only marked as deleted until now,
    `refilled` those whose new or changed columns were filled. `notes` are what there is to say of what was asked for.
    `is_table_empty`: the table has just been made, or the ledger counts no row in it.
    """

    target: Target
    position: CursorPosition
    cursors: tuple[LiveCursor | None, ...]
    swept: int
    refilled: int
    census: Census | None = None
    notes: tuple[str, ...] = ()
    is_table_empty: bool = False


def owns_cursor(run_config: RunConfig, source: Source) -> bool:
    """Tells whether the run moves the live cursor.

    A queue keeps its own place, by what was acknowledged, so nothing is fenced: any number of runs may drain it beside each
    other, and what is delivered twice is known by its version.
    """
    return run_config.mode == "live" and source.can_reread


def start_run(
    session: Session, ledger: Ledger, run_config: RunConfig, source: Source, *, run_id: str, lanes: int, heartbeat: Heartbeat
) -> RunStart:
    """Prepares ledger and table for a run with that many lanes. Raises TableRefused, LedgerRefused, WarehouseError."""
    collection = run_config.collection

    def prepare(connection: Connection) -> tuple[Target, int, bool]:
        migrate(connection, ledger.schema)
        preparation = prepare_collection_table(connection, ledger, run_config, source)
        for told in tell_access(connection, preparation.target):
            logger.info(told)
        seed_history(connection, ledger, preparation.target, heartbeat)
        swept = _follow_declaration(connection, ledger, preparation, heartbeat)
        is_empty = preparation.record.row_count == 0 if preparation.record else not preparation.is_adopted
        return preparation.target, swept, is_empty

    def find_start(connection: Connection) -> RunStart:
        target = replace(
            prepared,
            has_removed_rows=ledger.has_removed_rows(connection),
            # A full refresh finds what an earlier version stored wrongly under a hash that was right.
            rechecks_text=run_config.full_refresh,
        )
        if owns_cursor(run_config, source):
            if refilled:
                restart_clock(connection, ledger)
            position, cursors = _find_live_start(connection, ledger, run_config, run_id=run_id, lanes=lanes)
            census, notes = _find_census(connection, ledger, run_config)
            return RunStart(target, position, cursors, swept, refilled, census, notes, is_empty)
        notes, position = _tell_unmarked(connection, ledger, run_config), _find_window(connection, ledger, run_config)
        return RunStart(target, position, (None,) * lanes, swept, refilled, notes=notes, is_table_empty=is_empty)

    prepared, swept, is_empty = session.attempt(prepare, f"preparing table {ledger.table_name!r} of {collection.label!r}")
    # The objects of an unmanaged table's rows may not be kept: its columns fill with the versions that come.
    refilled = 0 if prepared.is_unmanaged else refill(session.warehouse, ledger, collection, run_id=run_id)
    return session.attempt(find_start, f"reading the ledger of {collection.label!r}")


def prepare_collection_table(connection: Connection, ledger: Ledger, run_config: RunConfig, source: Source) -> Preparation:
    """Makes the table ready for rows of the source, or refuses it; the ledger must be there."""
    preparation = prepare_table(
        connection,
        collection_target(run_config.collection),
        ledger,
        source=source.identity,
        adopt=run_config.adopt,
        full_refresh=run_config.full_refresh,
        others=run_config.others if run_config.adopt and owns_cursor(run_config, source) else None,
    )
    prepare_history_table(connection, preparation.target, ledger, adopt=run_config.adopt)
    if preparation.target.children:
        prepared = prepare_children(connection, preparation.target, ledger, source=source.identity, adopt=run_config.adopt)
        preparation = replace(preparation, target=prepared)
    adopt_undeclared(connection, ledger)
    if not preparation.target.is_unmanaged:
        declare_columns(connection, ledger, run_config.collection, preparation)
    return preparation


def _follow_declaration(connection: Connection, ledger: Ledger, preparation: Preparation, heartbeat: Heartbeat) -> int:
    """Brings a table up to an `on_delete` that has changed; returns how many rows were removed for it."""
    target, record, swept, kept = preparation.target, preparation.record, 0, 0
    has_changed = record is not None and record.on_delete != target.on_delete
    if target.removes and not target.is_unmanaged and (preparation.is_adopted or has_changed):
        swept, kept = sweep(connection, ledger, target, heartbeat)
    if kept:
        logger.warning(
            "%d rows of table %r that are marked as deleted were to be removed, and are still there: a trigger keeps them. "
            "The next run tries again",
            kept,
            str(target.table),
        )
    elif has_changed:
        ledger.set_on_delete(connection, target.on_delete)
    return swept


def sweep(connection: Connection, ledger: Ledger, target: Target, heartbeat: Heartbeat) -> tuple[int, int]:
    """Removes the rows that are marked as deleted; returns how many were removed, and how many were kept."""
    removed = kept = 0
    after: str | None = None
    while True:
        with connection.transaction():
            lift_limits(connection)
            swept = sweep_marked(connection, target, versions=ledger.table("versions"), after=after)
            if swept.removed:
                count_rows(connection, ledger, remove_orphans(connection, target, after=after, last=swept.last))
            ledger.add_rows(connection, -swept.removed)
            heartbeat.beat(connection)
        removed, kept, after = removed + swept.removed, kept + swept.due - swept.removed, swept.last
        if after is None:
            return removed, kept


def _find_census(connection: Connection, ledger: Ledger, run_config: RunConfig) -> tuple[Census | None, tuple[str, ...]]:
    census = find_census(connection, ledger)
    if census is None:
        return None, _tell_unmarked(connection, ledger, run_config)
    if run_config.adopt and run_config.others != census.others == "keep":
        # The table was taken over by a run that did not come to its end.
        mark_others(connection, ledger)
        census = replace(census, others="mark")
    return census, ()


def _tell_unmarked(connection: Connection, ledger: Ledger, run_config: RunConfig) -> tuple[str, ...]:
    """Returns a note where rows cannot be marked.

    Only while a table is taken over does a read from the beginning tell which rows its source does not have.
    """
    record = ledger.find_table(connection)
    if not (run_config.adopt and run_config.others == "mark" and record and record.row_count):
        return ()
    note = (
        f"no row of table {ledger.table_name!r} is marked as deleted for being another source's: it has been filled from {record.source} "
        "before, and this run does not read that from its beginning. To have rows marked that it does not have: "
        f"`sequin-pipeline sync --collection {ledger.label} --full-refresh --others mark`"
    )
    logger.warning("%s: %s", ledger.label, note)
    return (note,)


def _find_window(connection: Connection, ledger: Ledger, run_config: RunConfig) -> CursorPosition:
    window = run_config.window
    if window is None or window.start is None or run_config.full_refresh:
        return BEGINNING
    found = ledger.position_before(connection, window.start - SLACK)
    if found is None:
        return BEGINNING
    stream_time, cursor = found
    return CursorPosition(cursor, stream_time, recorded_at=stream_time)


def _find_live_start(
    connection: Connection, ledger: Ledger, run_config: RunConfig, *, run_id: str, lanes: int
) -> tuple[CursorPosition, tuple[LiveCursor | None, ...]]:
    if run_config.full_refresh and not any(cursor.run_id == run_id for cursor in ledger.live_cursors(connection)):
        # Not again when a step of this run is tried again: it goes on where it came to.
        with connection.transaction():
            if run_config.others == "mark":
                begin_census(connection, ledger, others="mark", before="")
            ledger.forget_cursor(connection)
    cursors = ledger.take_over(connection, lanes=lanes, run_id=run_id)
    if not cursors:
        return BEGINNING, (None,) * lanes
    start = cursors[0]
    return CursorPosition(start.cursor, start.stream_time, recorded_at=start.stream_time), tuple(cursors)
