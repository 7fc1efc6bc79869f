"""A dry run is a run that is rolled back: what the next live run of a collection would do to its table, with nothing of it kept.

Pages are spooled to disk first, so that the one transaction in which they are merged waits for nobody but Postgres, and there at most
LOCK_TIMEOUT_SECONDS. While it is open, others wait for the rows that it would change. A table that exists is never altered, not even
for a moment: what would be altered is reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import psycopg
from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.columns import known_fingerprints
from sequin_pipeline.ledger.counts import ChildCounts, Counts
from sequin_pipeline.ledger.forgets import read_forgotten
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, VERSION, check_server, check_version, ledger_version
from sequin_pipeline.normalize.normalizer import NormalizedPages, Normalizer, Reject
from sequin_pipeline.operate.row_text import RowText, rows_as_text
from sequin_pipeline.operate.spool import Spool
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, explain, limit_lock_waits
from sequin_pipeline.read.stream import RecordStream, Room, RunConfig
from sequin_pipeline.records.forgotten import NOTHING_FORGOTTEN
from sequin_pipeline.sources import Source
from sequin_pipeline.table.child_tables import existing_children, pending_children
from sequin_pipeline.table.ddl import create_table
from sequin_pipeline.table.history_table import PendingHistory, pending_history
from sequin_pipeline.table.managed import PendingChange, existing_columns, pending_changes
from sequin_pipeline.table.target import Target, collection_target
from sequin_pipeline.table.write_access import tell_access
from sequin_pipeline.write import staging
from sequin_pipeline.write.bad_rows import find_refused
from sequin_pipeline.write.batch import Batch, Place, build_batch
from sequin_pipeline.write.child_rows import added
from sequin_pipeline.write.forgotten_rows import without_forgotten
from sequin_pipeline.write.merge import Merged, RowsRefused, merge_in_parts, merge_rows
from sequin_pipeline.write.misfits import take_out_misfits
from sequin_pipeline.write.prepare import PageGroup

LOCK_TIMEOUT_SECONDS = 2.0
"""Nobody should notice a dry run: one that meets somebody else's lock gives up."""

BATCH_RECORDS = 5_000
SHOWN_DIFFERENCES = 10
UNTOLD = frozenset({"inserted_at", "updated_at", "content_hash"})
"""These columns change with every change, and are not reported."""


@dataclass(frozen=True)
class Difference:
    """This value is a row that would be inserted, updated or removed; `changes` are (column, old, new), of `data` key by key."""

    record_id: str
    kind: str
    changes: tuple[tuple[str, str | None, str | None], ...] = field(repr=False)


@dataclass(frozen=True)
class DryRun:
    """This value is what a run would do.

    `changes` None: it would create the table. `filled` are columns that would be filled for existing rows, `swept` is how many rows
    that are marked as deleted would be removed, `rejects` and `differences` are samples, `remarks` say what there is to say of
    its triggers and policies. `history` is what would be done to have the history table. `child_changes` are of child tables, by name,
    and `children` what would become of their rows.
    """

    counts: Counts
    pages: int
    bytes: int
    changes: tuple[PendingChange, ...] | None
    filled: tuple[str, ...]
    swept: int
    rejects: tuple[Reject, ...]
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...] = ()
    history: PendingHistory | None = None
    child_changes: Mapping[str, tuple[PendingChange, ...] | None] = field(default_factory=dict)
    children: Mapping[str, ChildCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class _Start:
    """This value is how the table stands before the run."""

    has_ledger: bool
    record: TableRecord | None
    cursor: str | None
    changes: tuple[PendingChange, ...] | None
    filled: tuple[str, ...]
    swept: int
    target: Target
    remarks: tuple[str, ...] = ()
    history: PendingHistory | None = None
    child_changes: Mapping[str, tuple[PendingChange, ...] | None] = field(default_factory=dict)


def dry_run(source: Source, warehouse: Warehouse, collection: Collection, *, schema: str = DEFAULT_SCHEMA) -> DryRun:
    """Does a dry run; raises what a run would raise before it writes.

    That is ConfigurationError for a source that cannot be read again, TableRefused, LedgerRefused, SourceError; and WarehouseError.
    """
    if not source.can_reread:
        raise ConfigurationError(
            f"{collection.label!r} is read from {source.identity}, a queue, which gives each message once: what is read to look at it "
            "would be missing from the next run for a while"
        )
    ledger = Ledger(str(collection.table), collection.label, schema)
    try:
        with warehouse.connect() as connection:
            start = _look(connection, collection, ledger, source)
        with Spool() as spool:
            _read(source, collection, spool, after=start.cursor)
            with warehouse.connect() as connection, warehouse.connect() as before:
                return _apply(connection, before, collection, ledger, start=start, spool=spool)
    except psycopg.Error as error:
        raise explain(error, f"doing a dry run of {collection.label!r} (nothing of it remains)") from error


def _look(connection: Connection, collection: Collection, ledger: Ledger, source: Source) -> _Start:
    declared = collection_target(collection)
    target = replace(declared, history=None, history_table=None)
    check_server(connection.info.server_version)
    version = ledger_version(connection, ledger.schema)
    check_version(version, ledger.schema)
    record = ledger.find_table(connection) if version is not None else None
    changes = pending_changes(connection, target, record, source=source.identity)
    history = pending_history(connection, declared, ledger, has_ledger=version == VERSION)
    child_changes = pending_children(connection, target, ledger, source=source.identity, version=version)
    target = replace(target, children=existing_children(connection, target, child_changes))
    if record is None or changes is None:
        taken = target if changes is None else existing_columns(connection, target)
        remarks = tell_access(connection, target)
        return _Start(version is not None, record, None, changes, (), 0, taken, remarks, history, child_changes)
    known = known_fingerprints(connection, ledger)
    return _Start(
        has_ledger=True,
        record=record,
        cursor=ledger.lowest_cursor(connection),
        changes=changes,
        filled=() if target.is_unmanaged else _filled(collection, known, child_changes),
        remarks=tell_access(connection, target),
        history=history,
        swept=_marked(connection, target) if target.removes and record.on_delete != "remove" and not target.is_unmanaged else 0,
        target=replace(existing_columns(connection, target), has_removed_rows=ledger.has_removed_rows(connection)),
        child_changes=child_changes,
    )


def _filled(
    collection: Collection, known: Mapping[str, str], child_changes: Mapping[str, tuple[PendingChange, ...] | None]
) -> tuple[str, ...]:
    """Returns the columns that would be filled, and the child tables by name."""
    columns = [one.name for one in collection.columns if one.path.root == "data" and known.get(one.name) != one.fingerprint]
    children = [
        str(child.table)
        for child in collection.children
        if known.get(child.frame_name) != child.fingerprint or child_changes[str(child.table)] is None
    ]
    return (*columns, *children)


def _marked(connection: Connection, target: Target) -> int:
    row = connection.execute(
        sql.SQL("select count(*) from {} where {}").format(
            sql.Identifier(target.table.schema, target.table.name), sql.Identifier(target.tombstone or "")
        )
    ).fetchone()
    return int(str(row[0])) if row else 0


def _read(source: Source, collection: Collection, spool: Spool, *, after: str | None) -> None:
    run_config = RunConfig(collection, "live", None, (), ())
    one_page = Room(records=1, bytes=1, pages=1)
    for portion in RecordStream(run_config, source).portions(after, one_page, while_waiting=lambda: None):
        for page in portion.pages:
            spool.add(page)


def _apply(
    connection: Connection, before: Connection, collection: Collection, ledger: Ledger, *, start: _Start, spool: Spool
) -> DryRun:
    counts, rejects, differences = Counts(), list[Reject](), list[Difference]()
    children = dict[str, ChildCounts]()
    with connection.transaction(force_rollback=True):
        limit_lock_waits(connection, LOCK_TIMEOUT_SECONDS)
        if start.changes is None:
            create_table(connection, start.target)
        for child in start.target.children:
            if start.child_changes[str(child.target.table)] is None:
                create_table(connection, child.target)
        is_current = ledger_version(connection, ledger.schema) == VERSION
        versions = ledger.table("versions") if is_current else _stand_in(connection, ledger if start.has_ledger else None)
        forgotten = read_forgotten(connection, ledger.schema) if is_current else NOTHING_FORGOTTEN
        for read in _batches(collection, spool):
            group = without_forgotten(start.target, PageGroup(tuple(read)), forgotten)
            pages = [take_out_misfits(start.target, page) for page in group.pages]
            batch, refused, merged = _merge(connection, start.target, pages, versions)
            taken_out = [*(reject for page in pages for reject in page.rejects), *refused.values()]
            counts += _counts(batch, sum(merged.counts.values(), Counts()), rejected=len(taken_out), forgotten=group.forgotten)
            children = added(children, merged.children)
            rejects += taken_out[: SHOWN_DIFFERENCES - len(rejects)]
            differences += _differences(connection, before, start, batch, wanted=SHOWN_DIFFERENCES - len(differences))
    return DryRun(
        counts,
        pages=len(spool),
        bytes=spool.bytes,
        changes=start.changes,
        filled=start.filled,
        swept=start.swept,
        rejects=tuple(rejects),
        differences=tuple(differences),
        remarks=start.remarks,
        history=start.history,
        child_changes=start.child_changes,
        children=children,
    )


def _stand_in(connection: Connection, ledger: Ledger | None) -> sql.Identifier:
    """Returns a table that stands in for the versions of removed rows, where there is no ledger yet, or one of an older version."""
    connection.execute(
        "create temp table stand_in_versions (table_name text, id text, updated_idx bigint, deleted_at timestamptz default now(),"
        " sync_id text, internal_id text, primary key (table_name, id)) on commit drop"
    )
    if ledger is not None:
        connection.execute(
            sql.SQL(
                "insert into pg_temp.stand_in_versions select table_name, id, updated_idx, deleted_at from {} where table_name = %s"
            ).format(ledger.table("versions")),
            (ledger.table_name,),
        )
    return sql.Identifier("pg_temp", "stand_in_versions")


def _batches(collection: Collection, spool: Spool) -> Iterator[list[NormalizedPages]]:
    normalize = Normalizer(collection)
    gathered: list[NormalizedPages] = []
    for page in spool.pages():
        gathered.append(normalize(page.records))
        if sum(normalized.fetched for normalized in gathered) >= BATCH_RECORDS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _merge(
    connection: Connection, target: Target, pages: Sequence[NormalizedPages], versions: sql.Identifier
) -> tuple[Batch, dict[Place, Reject], Merged]:
    refused: dict[Place, Reject] = {}
    parts: Sequence[Sequence[int]] = ()
    while True:
        batch = build_batch(target, pages, window_starts=(), without=frozenset(refused))
        encoded = staging.encode(target, batch)
        try:
            with connection.transaction():
                if parts:
                    merged = merge_in_parts(connection, encoded, parts, window_starts=(), versions=versions)
                else:
                    merged = merge_rows(connection, encoded, window_starts=(), versions=versions)
        except RowsRefused as error:
            found = find_refused(
                connection,
                target=target,
                batch=batch,
                pages=pages,
                window_starts=(),
                versions=versions,
                lock_timeout_seconds=LOCK_TIMEOUT_SECONDS,
            )
            if parts and error.error is not None:
                raise error.error from error
            refused |= found.refused
            parts = () if found.refused else found.passed
            continue
        if len(batch):
            # Its commit, which would empty it, never comes.
            staging.empty(connection, encoded)
        return batch, refused, merged


def _counts(batch: Batch, merged: Counts, *, rejected: int, forgotten: int) -> Counts:
    counts = replace(merged, duplicate=int(batch.duplicates.sum()), rejected=rejected, forgotten=forgotten)
    return replace(counts, fetched=counts.accounted)


def _differences(connection: Connection, before: Connection, start: _Start, batch: Batch, *, wanted: int) -> Iterator[Difference]:
    """Yields differences of some rows of the batch: as they stand in the transaction, against what everybody else sees.

    There are none for an unmanaged table, whose rows do not tell when they were written.
    """
    target, ids = start.target, batch.column(start.target.key[0]).to_pylist()
    if wanted <= 0 or not ids or target.is_unmanaged or target.changed_at is None:
        return
    table = sql.Identifier(target.table.schema, target.table.name)
    changed = connection.execute(
        # Only this transaction writes its own time.
        sql.SQL("select id from {} where id = any(%s) and {} = now() order by id limit %s").format(
            table, sql.Identifier(target.changed_at)
        ),
        (ids, wanted),
    ).fetchall()
    gone: list[tuple[object, ...]] = []
    if target.removes:
        gone = connection.execute(
            sql.SQL("select id from unnest(%s::text[]) id where not exists (select from {} t where t.id = id.id)").format(table),
            (ids,),
        ).fetchall()
    chosen = [str(record_id) for (record_id,) in (*changed, *gone)]
    old = rows_as_text(before, target.table, chosen) if start.changes is not None else {}
    new = rows_as_text(connection, target.table, chosen)
    shown = [record_id for record_id in chosen if record_id in old or record_id in new]
    for record_id in shown[:wanted]:
        was, becomes = old.get(record_id), new.get(record_id)
        kind = "inserted" if was is None else "removed" if becomes is None else "updated"
        yield Difference(record_id, kind, tuple(_changes(was, becomes)) if kind == "updated" else ())


def _changes(was: RowText | None, becomes: RowText | None) -> Iterator[tuple[str, str | None, str | None]]:
    for name, new in (becomes or {}).items():
        old = (was or {}).get(name)
        if name in UNTOLD or old == new:
            continue
        old_keys, new_keys = _keys(old), _keys(new)
        if name != "data" or old_keys is None or new_keys is None:
            yield name, old, new
            continue
        for key in sorted(old_keys.keys() | new_keys.keys()):
            if old_keys.get(key) != new_keys.get(key):
                yield f"data.{key}", old_keys.get(key), new_keys.get(key)


def _keys(text: str | None) -> dict[str, str] | None:
    """Returns an object's values as text, by key, or None for anything else."""
    if text is None or not text.startswith("{"):
        return None
    return {key: bytes(value).decode() for key, value in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items()}
