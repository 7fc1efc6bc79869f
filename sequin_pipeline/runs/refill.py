"""This module fills columns of rows that are there already, after their declaration was added or changed.

`data` is read back through the same normalizing and written by the same merge, at the versions that are stored. Rows that somebody
changes meanwhile win: they are read again. In batches by key, resumable. A value that does not fit stays null, with an open reject that
names the row.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.columns import forget_columns, known_fingerprints, note_declarations, note_refill, unfilled_columns
from sequin_pipeline.ledger.forgets import hold_forgets, read_forgotten
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import record_rejects, settle_refilled
from sequin_pipeline.normalize.normalizer import Normalizer, Reject
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, without_limits
from sequin_pipeline.records.fields import FIELD_NAMES, compose_envelope
from sequin_pipeline.table.child_tables import fit_children, rows_of_children
from sequin_pipeline.table.foreign_keys import follow_foreign_keys
from sequin_pipeline.table.managed import Preparation
from sequin_pipeline.table.target import Target, collection_target
from sequin_pipeline.write.child_rows import count_rows, managed_children, remove_orphans
from sequin_pipeline.write.job import WriteJob
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.read_back import ChangedMeanwhile
from sequin_pipeline.write.writer import TableWriter

logger = logging.getLogger("sequin_pipeline.refill")

REFILL_ROWS = 2_000
"""A batch of this many rows has about 5 MB."""


def declare_columns(connection: Connection, ledger: Ledger, collection: Collection, preparation: Preparation) -> None:
    """Tells the ledger what each column is filled by now.

    A column that is new, or declared in another way, waits for its refill; one that is declared no longer is forgotten, so that
    it is filled again should it ever come back.
    """
    declared = _fingerprints(collection)
    record = preparation.record or ledger.find_table(connection)
    is_empty = record is None or record.row_count == 0
    orphaned = _orphaned(connection, ledger, preparation.target) if is_empty else frozenset()
    known = {name: by for name, by in known_fingerprints(connection, ledger).items() if name not in orphaned}
    if known == declared:
        return
    with connection.transaction():
        if known.keys() - declared.keys() and not collection.children:
            follow_foreign_keys(connection, preparation.target, ledger)
        forget_columns(connection, ledger, sorted(orphaned | (known.keys() - declared.keys())))
        changed = {name: fingerprint for name, fingerprint in declared.items() if known.get(name) != fingerprint}
        # What stood only in the envelope is not kept: such a column fills with the versions that come.
        of_envelope = {column.name for column in collection.columns if column.path.root == "record"}
        filled = declared.keys() - orphaned if is_empty else of_envelope
        note_declarations(connection, ledger, changed, filled=filled)


def _orphaned(connection: Connection, ledger: Ledger, target: Target) -> frozenset[str]:
    """Returns the child tables that hold rows, below a table that has none: what refills them removes these."""
    rows = rows_of_children(connection, target, ledger)
    return frozenset(child.declared.frame_name for child in managed_children(target) if rows.get(str(child.target.table)))


def _fingerprints(collection: Collection) -> dict[str, str]:
    """Returns by the frame's names what columns and child tables are filled by."""
    children = {child.frame_name: child.fingerprint for child in collection.children}
    return {column.name: column.fingerprint for column in collection.columns} | children


def refill(warehouse: Warehouse, ledger: Ledger, collection: Collection, *, run_id: str) -> int:
    """Fills every column that waits for it; returns how many rows changed. One short read when none waits.

    Raises WarehouseError; what was committed stays, and the next call goes on behind it.
    """
    label = collection.label
    with Session(warehouse) as session:
        unfilled = session.attempt(partial(unfilled_columns, ledger=ledger), f"reading the ledger of {label!r}")
        if not unfilled:
            return 0
        has_removed_rows = session.attempt(ledger.has_removed_rows, f"reading the ledger of {label!r}")
        lenient = replace(
            collection,
            columns=tuple(replace(column, is_required=False) for column in collection.columns if column.path.root == "data"),
        )
        # The others stand as the source wrote them, which `data` no longer tells: jsonb has made 1000 of 1e3 and 0 of -0.
        waiting = replace(
            lenient,
            columns=tuple(column for column in lenient.columns if column.name in unfilled),
            children=tuple(child for child in lenient.children if child.frame_name in unfilled),
        )
        # What was told of a version stays as it was told in the history table; the next delivery of it brings the new columns.
        target = replace(
            collection_target(waiting),
            has_removed_rows=has_removed_rows,
            trusts_hash=False,
            history_table=None,
            fills_children=bool(waiting.children),
        )
        if target.children:
            target = session.attempt(partial(fit_children, target=target), f"looking at the child tables of {label!r}")
        filling = _Refill(session, WriteJob(target, ledger, run_id, "refill"), Normalizer(lenient, nulls_unfit=True))
        told = ", ".join([*sorted(column.name for column in waiting.columns), *(str(child.table) for child in waiting.children)])
        logger.info("filling %s of %s from the objects that are stored", told, target.table)
        changed, columns = 0, [column.name for column in waiting.columns]
        if columns:
            emptying = partial(_empty, target=target, columns=sorted(columns))
            changed = session.attempt(without_limits(emptying), f"emptying columns of rows of {label!r} that carry no object")
        # Columns that wait from different places begin again together: what is filled already comes out unchanged.
        places = set(unfilled.values())
        after = places.pop() if len(places) == 1 else None
        fingerprints = {name: fingerprint for name, fingerprint in _fingerprints(collection).items() if name in unfilled}
        while True:
            before = after
            rows, filled, is_last = filling.fill(collection, after=after)
            changed += filled
            if rows:
                after = str(rows[-1][0])
            if waiting.children:
                cleaning = partial(_clean, target=target, ledger=ledger, after=before, last=None if is_last else after)
                session.attempt(without_limits(cleaning), f"removing children of {label!r} that have no parent")
            noting = partial(_note, ledger=ledger, columns=fingerprints, rows=() if is_last else rows)
            session.attempt(noting, f"noting the refill of {label!r}")
            if is_last:
                return changed


class _Refill:
    """This class reads rows back: they become rows again, and values that do not fit become rejects."""

    def __init__(self, session: Session, job: WriteJob, normalize: Normalizer) -> None:
        self._session = session
        self._job = job
        self._normalize = normalize
        self._writer = TableWriter(session, job)

    def fill(self, collection: Collection, *, after: str | None) -> tuple[Sequence[tuple[object, ...]], int, bool]:
        """Fills the next rows; returns them, how many of them changed, and whether they are the last."""
        limit, label = REFILL_ROWS, collection.label
        while True:
            reading = partial(_rows, target=self._job.target, after=after, limit=limit)
            rows = self._session.attempt(without_limits(reading), f"reading back {label!r}")
            try:
                return rows, self._write(collection, rows) if rows else 0, len(rows) < limit
            except ChangedMeanwhile:
                # Of fewer rows, read and written in less time, fewer change.
                limit = max(1, limit // 2)

    def _write(self, collection: Collection, rows: Sequence[tuple[object, ...]]) -> int:
        """Commits rows; returns how many of them changed. Raises ChangedMeanwhile."""
        page, ledger = self._normalize(_records(collection, rows)), self._job.ledger
        rejects = [replace(reject, reject_class="refill") for reject in page.rejects]
        keeping = partial(_keep, ledger=ledger, rejects=rejects, run_id=self._job.run_id)
        self._session.attempt(keeping, "keeping values that do not fit")
        read_as = {str(row[0]): str(row[-1]) for row in rows}
        committed = self._writer.write(PageGroup(pages=(replace(page, rejects=()),), read_as=read_as))
        fitting = set(page.frame["id"]) - {reject.record_id for reject in (*rejects, *committed.rejects)}
        settling = partial(settle_refilled, ledger=ledger, record_ids=sorted(fitting))
        self._session.attempt(settling, "settling what fits by now")
        changed = sum(counts.rewritten for counts in committed.counts.values())
        # Of rows that are as they were, some may have got children.
        return max(changed, min(len(page.frame), sum(each.inserted + each.updated for each in committed.children.values())))


def _keep(connection: Connection, *, ledger: Ledger, rejects: Sequence[Reject], run_id: str) -> None:
    """Keeps values that do not fit, unless their record has been forgotten since its row was read."""
    with connection.transaction():
        hold_forgets(connection, ledger.schema)
        forgotten = read_forgotten(connection, ledger.schema)
        kept = [reject for reject in rejects if not forgotten.holds_raw(ledger.label, reject.raw)]
        record_rejects(connection, ledger, kept, run_id=run_id)


def _note(connection: Connection, *, ledger: Ledger, columns: Mapping[str, str], rows: Sequence[tuple[object, ...]]) -> None:
    """Notes how far the refill has come: to the last of these rows that is not forgotten; to the end where there are none."""
    with connection.transaction():
        hold_forgets(connection, ledger.schema)
        forgotten = read_forgotten(connection, ledger.schema)
        found = (dict(zip(FIELD_NAMES, row, strict=False)) for row in reversed(rows))
        kept = (
            str(row["id"])
            for row in found
            if not forgotten.holds_row(ledger.label, row["id"], row["sync_id"], row["internal_id"])
        )
        place = next(kept, None)
        if place is not None or not rows:
            note_refill(connection, ledger, columns, after=place)


def _empty(connection: Connection, *, target: Target, columns: Sequence[str]) -> int:
    """Empties columns of rows without an object, which can still hold what was declared before; returns how many.

    Rows that were there when the table was adopted are left alone: they have no hash, and may hold all that there is.
    """
    names = [sql.Identifier(name) for name in columns]
    return connection.execute(
        sql.SQL("update {} set {}, {} = now() where data is null and content_hash is not null and ({})").format(
            sql.Identifier(target.table.schema, target.table.name),
            sql.SQL(", ").join(sql.SQL("{} = null").format(name) for name in names),
            sql.Identifier(target.changed_at or ""),
            sql.SQL(" or ").join(sql.SQL("{} is not null").format(name) for name in names),
        )
    ).rowcount


def _clean(connection: Connection, *, target: Target, ledger: Ledger, after: str | None, last: str | None) -> None:
    """Removes what child tables have kept of parents that went, or lost their object, while nobody declared them."""
    with connection.transaction():
        count_rows(connection, ledger, remove_orphans(connection, target, after=after, last=last))


def _rows(connection: Connection, *, target: Target, after: str | None, limit: int) -> Sequence[tuple[object, ...]]:
    """Returns the next rows that carry an object, in the order of the key, on whose index this leans.

    A row has the record's fields, then `data`, then the transaction that wrote it.
    """
    return connection.execute(
        sql.SQL(
            "select {fields}, data::text, xmin::text from {table} where data is not null and (%(after)s::text is null or id > %(after)s)"
            " order by id limit %(limit)s"
        ).format(
            fields=sql.SQL(", ").join(map(sql.Identifier, FIELD_NAMES)),
            table=sql.Identifier(target.table.schema, target.table.name),
        ),
        {"after": after, "limit": limit},
    ).fetchall()


def _records(collection: Collection, rows: Sequence[tuple[object, ...]]) -> bytes:
    """Returns the rows as the source would have sent them, as far as they are kept."""
    records = []
    for *fields, data, _ in rows:
        envelope = compose_envelope(collection.id, dict(zip(FIELD_NAMES, fields, strict=True)))
        records.append(json.dumps(envelope, ensure_ascii=False)[:-1] + f', "data": {data}}}')
    return ("[" + ",".join(records) + "]").encode()
