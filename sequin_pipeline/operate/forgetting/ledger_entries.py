"""This module removes entries of the ledger that say themselves whose they are, whether or not there is a row any more."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.forgetting.rows import Part
from sequin_pipeline.operate.forgetting.traces import Traces, remove_traces
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.forgotten import Subject, read_origin

ENTRIES = 10_000
"""A transaction removes so many entries at most."""
REJECTS = 500
"""A transaction reads so many rejects at most: each is a whole record."""


@dataclass(frozen=True)
class LedgerPlace:
    """This value is a table of the ledger whose entries name a tenant or a sync.

    `remove` does the next part of the work in the caller's transaction, `count` says how much there is.
    """

    name: str
    remove: Callable[..., Part]
    count: Callable[..., int]


@dataclass(frozen=True)
class _Entries:
    """This value is a table of which one statement tells the entries of a subject; `{}` is its name."""

    name: str
    table: str
    is_of: dict[str, LiteralString]

    def count(self, connection: Connection, subject: Subject, schema: str) -> int:
        condition = self.is_of.get(subject.kind)
        if condition is None:
            return 0
        statement = sql.SQL("select count(*) from {} where {}").format(sql.Identifier(schema, self.table), sql.SQL(condition))
        return int(fetch_value(connection, statement, {"value": subject.value}))

    def remove(self, connection: Connection, subject: Subject, schema: str, after: tuple[object, ...] | None) -> Part:
        condition = self.is_of.get(subject.kind)
        if condition is None:
            return Part()
        statement = sql.SQL(
            "delete from {table} where ctid = any(array(select ctid from {table} where {is_of} limit {limit}))"
        ).format(table=sql.Identifier(schema, self.table), is_of=sql.SQL(condition), limit=sql.Literal(ENTRIES))
        gone = connection.execute(statement, {"value": subject.value}).rowcount
        return Part(Counter({f"ledger: {self.name}": gone}), after=("more",) if gone == ENTRIES else None)

    def place(self) -> LedgerPlace:
        return LedgerPlace(f"ledger: {self.name}", self.remove, self.count)


def _count_rejects(connection: Connection, subject: Subject, schema: str) -> int:
    count, after = 0, None
    while True:
        found, after = _next_rejects(connection, subject, schema, after)
        count += len(found)
        if after is None:
            return count


def _remove_rejects(connection: Connection, subject: Subject, schema: str, after: tuple[object, ...] | None) -> Part:
    """Removes rejects by what their own bytes say, since nothing else of them can be relied on."""
    found, last = _next_rejects(connection, subject, schema, after)
    removed: Counter[str] = Counter()
    if found:
        gone = connection.execute(
            sql.SQL("delete from {} where (table_name, content_hash) in (select * from unnest(%s::text[], %s::uuid[]))").format(
                sql.Identifier(schema, "rejects")
            ),
            ([one.table_name for one in found], [one.content_hash for one in found]),
        ).rowcount
        removed[REJECTS_PLACE] += gone
    for table_name, label in sorted({(one.table_name, one.label) for one in found}):
        mine = [one for one in found if one.table_name == table_name]
        traces = Traces(
            ids=frozenset(one.record_id for one in mine if one.record_id is not None),
            upstream_ids=frozenset(one.upstream_id for one in mine if one.upstream_id is not None),
            sync_ids=frozenset(one.sync_id for one in mine if one.sync_id is not None and subject.kind != "record"),
        )
        removed += remove_traces(connection, Ledger(table_name, label, schema), traces)
    return Part(removed, after=last)


@dataclass(frozen=True)
class _FoundReject:
    table_name: str
    content_hash: str
    label: str
    record_id: str | None
    upstream_id: str | None
    sync_id: str | None


def _next_rejects(
    connection: Connection, subject: Subject, schema: str, after: tuple[object, ...] | None
) -> tuple[list[_FoundReject], tuple[object, ...] | None]:
    """Returns those of the next REJECTS that are the subject's, and where to go on. Leans on the primary key."""
    read = fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL(
            "select table_name, content_hash::text, label, record_id, raw from {}"
            " where %(table)s::text is null or (table_name, content_hash) > (%(table)s, %(content)s::uuid)"
            " order by table_name, content_hash limit {}"
        ).format(sql.Identifier(schema, "rejects"), sql.Literal(REJECTS)),
        {"table": after and after[0], "content": after and after[1]},
    )
    found = []
    for table_name, content, label, record_id, raw in read:
        origin = read_origin(label, bytes(raw))
        is_record = subject.kind == "record" and (label, record_id) == (subject.label, subject.value)
        if origin.is_of(subject) or is_record:
            known_id = record_id or origin.record_id
            found.append(_FoundReject(table_name, content, label, known_id, origin.upstream_id, origin.sync_id))
    return found, (read[-1][0], read[-1][1]) if len(read) == REJECTS else None


REJECTS_PLACE = "ledger: rejects"
_OF_TENANT: dict[str, LiteralString] = {"sync_id": "sync_id = %(value)s", "internal_id": "internal_id = %(value)s"}
_OF_SYNC: dict[str, LiteralString] = {"sync_id": "sync_id = %(value)s"}

PLACES: tuple[LedgerPlace, ...] = (
    LedgerPlace(REJECTS_PLACE, _remove_rejects, _count_rejects),
    _Entries("remembered versions", "versions", _OF_TENANT).place(),
    _Entries("history entries", "history", _OF_TENANT).place(),
    _Entries("ids of listings", "listed", _OF_SYNC).place(),
    _Entries("counts of syncs", "syncs", _OF_TENANT).place(),
    _Entries("held deletes", "held_deletes", _OF_SYNC).place(),
)
"""A table of the ledger whose entries name a tenant or a sync is one line here."""


def count_unknown(connection: Connection, subject: Subject, schema: str) -> int:
    """Counts entries of tables that tell whose they are, and do not: of records, where a tenant or a sync is to be forgotten."""
    if subject.kind == "record":
        return 0
    column = sql.Identifier(subject.kind)
    statement = sql.SQL(
        "select (select count(*) from {} where sync_id is null and {column} is null)"
        " + (select count(*) from {} where sync_id is null and {column} is null and fate <> 'rejected')"
    ).format(sql.Identifier(schema, "versions"), sql.Identifier(schema, "history"), column=column)
    return int(fetch_value(connection, statement))
