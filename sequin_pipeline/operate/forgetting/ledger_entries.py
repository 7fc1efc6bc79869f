"""This module removes entries of the ledger that say themselves whose they are, whether or not there is a row any more."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import storable
from sequin_pipeline.operate.forgetting.rows import Part
from sequin_pipeline.operate.forgetting.traces import Traces, remove_traces
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.forgotten import Subject, read_origin

ENTRIES = 2_000
"""A transaction removes this many entries at most."""
REJECTS = 500
"""A transaction reads this many rejects at most: each is a whole record."""


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
    """This value is a table of which one statement tells the entries of a subject.

    `id_column` is the column that names a record, by whose ids other tables of the ledger may be found: of its row nothing may be left.
    """

    name: str
    table: str
    is_of: dict[str, LiteralString]
    id_column: str | None = None

    def count(self, connection: Connection, subject: Subject, schema: str) -> int:
        condition = self.is_of.get(subject.kind)
        if condition is None:
            return 0
        statement = sql.SQL("select count(*) from {} where {}").format(sql.Identifier(schema, self.table), sql.SQL(condition))
        return int(fetch_value(connection, statement, {"value": storable(subject.value, connection)}))

    def remove(self, connection: Connection, subject: Subject, schema: str, after: tuple[object, ...] | None) -> Part:
        condition = self.is_of.get(subject.kind)
        if condition is None:
            return Part()
        gone = fetch_rows(
            connection,
            lambda *columns: columns,
            sql.SQL(
                "delete from {table} where ctid = any(array(select ctid from {table} where {is_of} limit {limit}))"
                " returning table_name, sync_id, {id}"
            ).format(
                table=sql.Identifier(schema, self.table),
                is_of=sql.SQL(condition),
                limit=sql.Literal(ENTRIES),
                id=sql.Identifier(self.id_column) if self.id_column else sql.SQL("null::text"),
            ),
            {"value": storable(subject.value, connection)},
        )
        removed = Counter({f"ledger: {self.name}": len(gone)})
        for table_name in sorted({one[0] for one in gone}):
            mine = [one[1:] for one in gone if one[0] == table_name]
            traces = Traces(
                ids=frozenset(record_id for _, record_id in mine if record_id is not None),
                sync_ids=frozenset(sync_id for sync_id, _ in mine if sync_id is not None),
                say_whose=True,
            )
            # The label stands for rejects only.
            removed += remove_traces(connection, Ledger(table_name, "", schema), traces)
        return Part(removed, after=("more",) if len(gone) == ENTRIES else None)

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

        def held(texts: Iterable[str | None]) -> frozenset[str]:
            # As the ledger holds them: a record is a reject also where a text of its envelope cannot be stored.
            return frozenset(text for one in texts if (text := storable(one, connection)) is not None)

        traces = Traces(
            ids=held(one.record_id for one in mine),
            upstream_ids=held(one.upstream_id for one in mine),
            sync_ids=held(one.sync_id for one in mine if subject.kind != "record"),
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
    """Returns those of the next REJECTS that are the subject's, and where to go on. Leans on the primary key.

    Those of undeclared collections come first: a run may hand them to their table meanwhile, where they are then still to be met.
    """
    waits, *last = after or (True, None, None)
    read = fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL(
            "select table_name, content_hash::text, label, record_id, raw from {}"
            " where (table_name = label) = %(waits)s and (%(table)s::text is null"
            " or (table_name, content_hash) > (%(table)s, %(content)s::uuid)) order by table_name, content_hash limit {}"
        ).format(sql.Identifier(schema, "rejects"), sql.Literal(REJECTS)),
        {"waits": waits, "table": last[0], "content": last[1]},
    )
    found = []
    for table_name, content, label, record_id, raw in read:
        origin = read_origin(label, bytes(raw))
        is_record = subject.kind == "record" and (label, record_id) == (subject.label, subject.value)
        if origin.is_of(subject) or is_record:
            known_id = record_id or origin.record_id
            found.append(_FoundReject(table_name, content, label, known_id, origin.upstream_id, origin.sync_id))
    if len(read) == REJECTS:
        return found, (waits, read[-1][0], read[-1][1])
    return found, (False, None, None) if waits else None


REJECTS_PLACE = "ledger: rejects"
_OF_TENANT: dict[str, LiteralString] = {"sync_id": "sync_id = %(value)s", "internal_id": "internal_id = %(value)s"}
_OF_SYNC: dict[str, LiteralString] = {"sync_id": "sync_id = %(value)s"}

PLACES: tuple[LedgerPlace, ...] = (
    LedgerPlace(REJECTS_PLACE, _remove_rejects, _count_rejects),
    _Entries("remembered versions", "versions", _OF_TENANT, id_column="id").place(),
    _Entries("history entries", "history", _OF_TENANT, id_column="record_id").place(),
    _Entries("borrowed values", "borrowed", _OF_TENANT, id_column="id").place(),
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
