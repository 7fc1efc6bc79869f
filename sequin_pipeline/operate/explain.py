"""This module collects everything that is known of one record; it only reads, and knows no Dagster.

That is its row, its version or tombstone, its rejects, its history, what last wrote it, and what the source holds now.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import msgspec
from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.forgets import ForgetRequest, find_forget
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.ledger.rejects import KeptReject, rejects_holding, rejects_of_record
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.operate.row_text import RowText, rows_as_text
from sequin_pipeline.operate.source_lookup import is_as_stored, subjects_of
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.records.forgotten import Subject
from sequin_pipeline.sources import ReadRequest, Source
from sequin_pipeline.table.target import PARENT_ID, TENANT_COLUMNS, Target, collection_target
from sequin_pipeline.windows import SLACK
from sequin_pipeline.write.history import HistoryEntry, history_of
from sequin_pipeline.write.history_table import KeptVersion, versions_of


@dataclass(frozen=True)
class Namesake:
    """This value is a record that has the id which was asked for at its provider, in one sync: such ids are unique there only."""

    id: str
    sync_id: str | None


@dataclass(frozen=True)
class StoredRow:
    """This value is a row as it stands, and what its columns tell, where the table has such columns."""

    values: RowText = field(repr=False)
    version: int | None
    is_deleted: bool
    sync_id: str | None
    stream_time: datetime | None
    changed_at: datetime | None


@dataclass(frozen=True)
class FoundMerge:
    """This value is a committed batch, by its row in the ledger."""

    batch_id: UUID
    run_id: str
    mode: str
    committed_at: datetime


@dataclass(frozen=True)
class LastWrite:
    """This value says what last wrote, or removed, the record.

    `exact` are the merges of that very moment: one, except for batches of two lanes that began in the same microsecond. Where there is
    none, `before` and `after` are the nearest: a bracket, no more.
    """

    at: datetime
    exact: tuple[FoundMerge, ...]
    before: FoundMerge | None = None
    after: FoundMerge | None = None


@dataclass(frozen=True)
class Explanation:
    """This value is what the warehouse knows.

    `tells_id`: the table has a column for the record's id, by which its row can be found. `removed` is the version that removed the
    row, or the last one of a table that has no column for versions, and when. `forgotten` is the request for which no run writes it.
    `versions` are the newest of the history table.
    `children`: how many rows the record has in each child table that is there.
    """

    table: TableRecord | None
    tells_id: bool
    row: StoredRow | None
    removed: tuple[int, datetime] | None
    last_write: LastWrite | None
    rejects: Sequence[tuple[KeptReject, str | None]]
    history: Sequence[HistoryEntry]
    versions: Sequence[KeptVersion]
    position: str | None
    forgotten: ForgetRequest | None = None
    children: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """This is true where the warehouse has anything of the record."""
        return bool(self.row or self.removed or self.rejects or self.history or self.versions or self.forgotten)


@dataclass(frozen=True)
class SourceAnswer:
    """This value is what the source was found to hold.

    `version` None with a `reason`: its record is one that is rejected; without: it was not found in the pages read, which
    `reached_end` says were all behind the place where reading began. `is_as_stored`, of a source whose versions are times of
    observation: whether the stored object is equal, whatever the version. `subjects` are what its record could be forgotten by.
    """

    pages: int
    reached_end: bool
    record_id: str | None = None
    version: int | None = None
    is_deleted: bool = False
    reason: str | None = None
    is_as_stored: bool | None = None
    subjects: tuple[Subject, ...] = field(default=(), repr=False)


def explain_record(
    connection: Connection, collection: Collection, ledger: Ledger, record_id: str, *, sync_id: str | None = None
) -> Explanation:
    """Returns what the warehouse knows of a record; raises psycopg.Error; a table that does not exist has no rows.

    `sync_id` is the sync that the record was said to be of, where it was: nothing else may tell that any more.
    """
    target = collection_target(collection)
    row = _row(connection, target, record_id) if target.is_stored("id") else None
    removed = _removed(connection, ledger, record_id)
    at = row.changed_at if row else removed[1] if removed else None
    start = row.stream_time if row else None
    position = ledger.position_before(connection, start - SLACK) if start else None
    return Explanation(
        table=ledger.find_table(connection),
        tells_id=target.is_stored("id"),
        row=row,
        removed=removed,
        last_write=None if at is None else _last_write(connection, ledger, at),
        rejects=rejects_of_record(connection, ledger, record_id),
        history=history_of(connection, ledger, record_id),
        versions=versions_of(connection, target, record_id),
        position=position[1] if position else None,
        forgotten=find_forgotten(connection, ledger, _subjects(collection, target, record_id, row, sync_id=sync_id)),
        children=_children(connection, target, record_id),
    )


def find_forgotten(connection: Connection, ledger: Ledger, subjects: Iterable[Subject]) -> ForgetRequest | None:
    """Returns the first request in force for one of these."""
    found = (find_forget(connection, subject, ledger.schema) for subject in subjects)
    return next((request for request in found if request is not None), None)


def _subjects(
    collection: Collection, target: Target, record_id: str, row: StoredRow | None, *, sync_id: str | None
) -> Iterator[Subject]:
    yield Subject("record", record_id, collection.label)
    if sync_id is not None:
        yield Subject("record", derived_id(sync_id, collection.id, record_id), collection.label)
        yield Subject("sync_id", sync_id)
    for kind in TENANT_COLUMNS:
        told = row.values.get(target.column(kind).table_name) if row and target.is_stored(kind) else None
        if told is not None:
            yield Subject("sync_id" if kind == "sync_id" else "internal_id", told)


def _children(connection: Connection, target: Target, record_id: str) -> dict[str, int]:
    """Counts by the index of each child table's key."""
    counts = {}
    for child in target.children:
        table = sql.Identifier(child.target.table.schema, child.target.table.name)
        if fetch_value(connection, "select to_regclass(%s) is not null", (table.as_string(connection),)):
            parent = sql.Identifier(child.target.column(PARENT_ID).table_name)
            counting = sql.SQL("select count(*) from {} where {}{} = %s").format(
                table, parent, sql.SQL("::text" if child.target.is_unmanaged else "")
            )
            counts[str(child.target.table)] = int(fetch_value(connection, counting, (record_id,)))
    return counts


def find_by_upstream_id(
    connection: Connection, collection: Collection, ledger: Ledger, upstream_id: str, *, sync_id: str | None
) -> list[Namesake]:
    """Returns the records that have this id at their provider, of every sync or of one, in the order of the syncs; raises psycopg.Error.

    Rows of the table, and open rejects of records that have none. Leans on an index of (sync_id, upstream_id) where one is declared.
    """
    target = collection_target(collection)
    found = {one.id: one for one in _rejected_namesakes(connection, ledger, upstream_id)}
    found |= {one.id: one for one in _stored_namesakes(connection, target, upstream_id)}
    wanted = [one for one in found.values() if sync_id in (None, one.sync_id)]
    return sorted(wanted, key=lambda one: (one.sync_id or "", one.id))


def _stored_namesakes(connection: Connection, target: Target, upstream_id: str) -> list[Namesake]:
    table = sql.Identifier(target.table.schema, target.table.name)
    if not (target.is_stored("id") and target.is_stored("upstream_id")):
        return []
    if connection.execute("select to_regclass(%s)", (table.as_string(connection),)).fetchone() == (None,):
        return []
    sync_id = sql.Identifier(target.column("sync_id").table_name) if target.is_stored("sync_id") else sql.SQL("null")
    return fetch_rows(
        connection,
        Namesake,
        sql.SQL("select {id}::text, {sync_id}::text from {table} where {upstream_id} = %s").format(
            id=sql.Identifier(target.column("id").table_name),
            sync_id=sync_id,
            table=table,
            upstream_id=sql.Identifier(target.column("upstream_id").table_name),
        ),
        (upstream_id,),
    )


def _rejected_namesakes(connection: Connection, ledger: Ledger, upstream_id: str) -> list[Namesake]:
    found = []
    for reject in rejects_holding(connection, ledger, upstream_id):
        members = _members(reject.raw)
        if reject.record_id is not None and _text(members.get("upstream_id")) == upstream_id:
            found.append(Namesake(reject.record_id, _text(_members(members.get("sync", b"")).get("id"))))
    return found


def _members(text: bytes) -> dict[str, bytes]:
    try:
        return json_text.members(text)
    except ValueError:
        return {}


def _text(literal: bytes | None) -> str | None:
    """Returns a string of JSON, or a number as it is written."""
    if literal is None or literal == b"null":
        return None
    try:
        return str(msgspec.json.decode(literal)) if literal.startswith(b'"') else literal.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def ask_source(
    source: Source, collection: Collection, record_id: str, *, explanation: Explanation, max_pages: int
) -> SourceAnswer:
    """Looks for the record in the source, reading at most `max_pages`; raises SourceError.

    A record that nobody has stored is looked for by its id at the provider too.

    It begins where the stored version entered the stream, else at the beginning: in a compacted stream the record stands there, or
    further on if it has changed since. Sources with a lookup are asked in source_lookup.py.
    """
    row = explanation.row
    request = ReadRequest(
        collections=frozenset({collection.id}),
        after=explanation.position,
        sync_ids=frozenset({row.sync_id}) if row and row.sync_id else None,
    )
    normalize = Normalizer(collection)
    pages, found = 0, SourceAnswer(0, reached_end=False)
    reading = source.pages(request)
    for page in islice(reading, max_pages):
        pages += 1
        normalized = normalize(page.records)
        frame = normalized.frame
        is_meant = frame["id"] == record_id
        if row is None and explanation.removed is None:
            is_meant |= (frame["upstream_id"] == record_id).fillna(value=False)
        rows = frame.loc[is_meant.to_numpy(dtype=bool), ["id", "updated_idx", "deleted", "data", "sync_id", "internal_id"]]
        for found_id, version, is_deleted, data, *tenant in rows.itertuples(index=False):
            if found.version is None or int(version) >= found.version:
                is_same = row is not None and row.is_deleted == bool(is_deleted) and collection.observes_time
                equal = is_as_stored(collection, data, row.values) if row is not None and is_same else None
                subjects = subjects_of(collection, str(found_id), *tenant)
                found = SourceAnswer(
                    pages, False, str(found_id), int(version), is_deleted=bool(is_deleted), is_as_stored=equal, subjects=subjects
                )
        reasons = [reject.reason for reject in normalized.rejects if reject.record_id == record_id]
        if reasons:
            return SourceAnswer(pages, reached_end=False, reason=reasons[-1])
        if found.version is not None and (row is None or row.version is None or found.version >= row.version):
            return found
    return replace(found, pages=pages, reached_end=pages < max_pages)


def _row(connection: Connection, target: Target, record_id: str) -> StoredRow | None:
    table = sql.Identifier(target.table.schema, target.table.name)
    if connection.execute("select to_regclass(%s)", (table.as_string(connection),)).fetchone() == (None,):
        return None
    values = rows_as_text(connection, target.table, [record_id], key=target.column("id").table_name).get(record_id)
    if values is None:
        return None

    def told(name: str | None) -> str | None:
        return values.get(target.column(name).table_name) if name and target.is_stored(name) else None

    version = told(target.version)
    return StoredRow(
        values,
        version=None if version is None else int(version),
        is_deleted=told(target.tombstone) == "true",
        sync_id=told("sync_id"),
        stream_time=_moment(told(target.stream_time)),
        changed_at=_moment(values.get(target.changed_at) if target.changed_at else None),
    )


def _moment(text: str | None) -> datetime | None:
    """Reads a time; times without zone are UTC, as the pipeline writes them."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _removed(connection: Connection, ledger: Ledger, record_id: str) -> tuple[int, datetime] | None:
    row = connection.execute(
        sql.SQL("select updated_idx, deleted_at from {} where table_name = %s and id = %s").format(ledger.table("versions")),
        (ledger.table_name, record_id),
    ).fetchone()
    return None if row is None else (int(str(row[0])), row[1])  # type: ignore[return-value]  # a timestamptz


def _last_write(connection: Connection, ledger: Ledger, at: datetime) -> LastWrite:
    """Finds the merge with the row's time: both have that of their transaction.

    It leans on merges (table_name, committed_at).
    """

    def merges(condition: sql.SQL) -> tuple[FoundMerge, ...]:
        rows = connection.execute(
            sql.SQL(
                "select distinct batch_id, run_id, mode, committed_at from {} where table_name = %s and committed_at {} limit 2"
            ).format(ledger.table("merges"), condition),
            (ledger.table_name, at),
        ).fetchall()
        return tuple(FoundMerge(*row) for row in rows)  # type: ignore[arg-type]  # by the table's definition

    exact = merges(sql.SQL("= %s order by batch_id"))
    if exact:
        return LastWrite(at, exact)
    before, after = merges(sql.SQL("< %s order by committed_at desc")), merges(sql.SQL("> %s order by committed_at"))
    return LastWrite(at, (), next(iter(before), None), next(iter(after), None))
