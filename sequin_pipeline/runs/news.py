"""This module looks for news: whether a live run of a collection would find anything to do, so that none is launched in vain.

First the table and the ledger: what a run does at its start or its end, whatever comes, speaks for one. Then the source, from the live
cursor, until the first record that the table does not know. Nothing is written, and no transaction is open while the source is asked.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.columns import known_fingerprints
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.quiet import NothingNew, find_work
from sequin_pipeline.ledger.rejects import count_known
from sequin_pipeline.normalize.normalizer import NormalizedPages, Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, explain, limit_lock_waits
from sequin_pipeline.runs.replay_rejects import RESTING_SECONDS
from sequin_pipeline.sources import ForeseesListings, Page, ReadRequest, Source
from sequin_pipeline.table.indexes import declared_indexes, find_missing
from sequin_pipeline.table.managed import pending_changes
from sequin_pipeline.table.target import Target, collection_target
from sequin_pipeline.write.batch import build_batch
from sequin_pipeline.write.known_rows import ask, build_question, can_be_asked
from sequin_pipeline.write.prepare import earlier_hashes

LONGEST_WITHOUT_RUN = timedelta(days=1)
"""A collection without news is run this often all the same: Dagster is told of the windows that have begun, old entries of the ledger go.

A cursor that only steps over what is known moves, too, before its source forgets it.
"""

MOST_KNOWN_RECORDS = 200
"""This many known records are looked at before a run is launched to read them: at the edge of what was read lie a few objects, of each
partition some; a list that cannot be asked for what has changed may hold all there is.
"""

MOST_STEPS = 5
"""An empty page may move the cursor this many times before a run is launched to keep it: a server that passes over other records
moves it a little further with each tick.
"""

LOCK_TIMEOUT_SECONDS = 2.0
"""A look should hold up nobody, nor wait: whoever alters the table is about to change what a run would do."""


@dataclass(frozen=True)
class Due:
    """This value says in words why a run is needed."""

    why: str


@dataclass(frozen=True)
class _Standing:
    """This value says from where the source is asked, and which table tells what is known."""

    last_run: str
    cursor: str | None
    target: Target


def look_for_news(
    session: Session, collection: Collection, ledger: Ledger, open_source: Callable[[Collection], Source]
) -> NothingNew | Due:
    """Returns why a run is needed, or what to remember where it would find nothing.

    Raises ConfigurationError, SourceError and WarehouseError, as the run would that is then needed to say so.
    """
    source = open_source(collection)
    try:
        standing = _look(session.connection(), collection, ledger, source)
        if isinstance(standing, Due):
            return standing
        request = ReadRequest(frozenset({collection.id}), after=standing.cursor)
        if isinstance(source, ForeseesListings) and source.lists_next(request):
            return Due("everything is to be listed")
        # A generator that holds something open closes it now, not whenever memory is cleaned up.
        with closing(_generated(source.pages(request))) as pages:
            news = _find_news(session, collection, ledger, standing, pages)
    except psycopg.Error as error:
        raise explain(error, f"looking whether {collection.label!r} needs a run") from error
    return NothingNew(ledger.table_name, standing.last_run, standing.cursor) if news is None else news


def _look(connection: Connection, collection: Collection, ledger: Ledger, source: Source) -> _Standing | Due:
    target = replace(collection_target(collection), history=None)
    with connection.transaction():
        limit_lock_waits(connection, LOCK_TIMEOUT_SECONDS)
        record = ledger.find_table(connection)
        if record is None:
            return Due("it has never been synced")
        changes = pending_changes(connection, target, record, source=source.identity)
        if changes is None or changes or _is_declared_anew(connection, collection, ledger, target):
            return Due("its declaration or its table has changed")
        if record.on_delete != target.on_delete:
            return Due("its on_delete has changed")
        if any(any(find_missing(connection, *declared)) for declared in declared_indexes(collection).items()):
            return Due("an index is missing")
        work = find_work(connection, ledger, oldest=LONGEST_WITHOUT_RUN, resting_seconds=RESTING_SECONDS)
        if work.last_run is None:
            return Due("no live run has come to its end yet")
        reasons = {
            "the last run did not come to its end": work.is_unfinished,
            "deletes are held": work.has_held_deletes,
            "a census is under way": work.has_census,
            "rejects wait to be tried again": work.has_rejects_to_retry,
            "columns are still to be filled": work.has_unfilled_columns,
            "the last run was a day ago": work.is_old,
        }
        if why := next((reason for reason, is_true in reasons.items() if is_true), None):
            return Due(why)
        lowest = min(ledger.live_cursors(connection), key=lambda lane: lane.seq, default=None)
        target = replace(target, has_removed_rows=ledger.has_removed_rows(connection))
    return _Standing(work.last_run, lowest.cursor if lowest else None, target)


def _is_declared_anew(connection: Connection, collection: Collection, ledger: Ledger, target: Target) -> bool:
    if target.is_unmanaged:
        return False
    known = known_fingerprints(connection, ledger)
    declared = {column.name: column.fingerprint for column in collection.columns if column.path.root == "data"}
    declared |= {child.frame_name: child.fingerprint for child in collection.children}
    return any(known.get(name) != fingerprint for name, fingerprint in declared.items())


def _find_news(
    session: Session, collection: Collection, ledger: Ledger, standing: _Standing, pages: Iterator[Page]
) -> Due | None:
    """Reads to the first news; what the table knows already is none, where an edge is given again each time.

    A counter's stream that has moved on behind records is new without a look.
    """
    normalize = Normalizer(collection)
    known, steps, cursor = 0, 0, standing.cursor
    for page in pages:
        if page.listed is not None:
            return Due("everything is to be listed")
        has_moved, cursor = page.cursor not in (None, cursor), page.cursor or cursor
        if _is_empty(page.records):
            steps += has_moved
            if steps > MOST_STEPS:
                return Due("its cursor moves on")
            continue
        if has_moved and not collection.observes_time:
            return Due("there are new records")
        normalized = normalize(page.records)
        if _holds_news(session.connection(), ledger, standing.target, normalized):
            return Due("there are new records")
        known += normalized.fetched
        if known > MOST_KNOWN_RECORDS:
            return Due(f"it gives {known:,} records that are known")
    return None


def _holds_news(connection: Connection, ledger: Ledger, target: Target, normalized: NormalizedPages) -> bool:
    """Says whether a merge would do anything with these records, or cannot tell without it."""
    with connection.transaction():
        limit_lock_waits(connection, LOCK_TIMEOUT_SECONDS)
        if count_known(connection, ledger, normalized.rejects) < len(normalized.rejects):
            return True
        batch = build_batch(target, [normalized], window_starts=())
        if not len(batch):
            return False
        if not can_be_asked(target):
            return True
        question = build_question(target, batch, earlier_hashes([normalized], batch))
        return bool(ask(connection, target, batch, question, versions=ledger.table("versions")).is_needed.any())


def _is_empty(records: bytes) -> bool:
    return b"".join(records[:100].split()) == b"[]"


def _generated(pages: Iterator[Page]) -> Generator[Page, None, None]:
    yield from pages
