"""This module removes rows of tables, in batches: each with what the ledger says of its rows, in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg import sql

from sequin_pipeline.ledger.rejects import storable
from sequin_pipeline.operate.forgetting.tables import ForgetTable, exists
from sequin_pipeline.operate.forgetting.traces import Traces, remove_traces
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.forgotten import Subject

FORGET_ROWS = 2_000
"""A transaction removes this many rows at most, and what the ledger says of them."""


@dataclass(frozen=True)
class Part:
    """This value is what one transaction has done: entries removed by place, rows that are kept, and where the next one goes on.

    `after` None: there is nothing behind it.
    """

    removed: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    after: tuple[object, ...] | None = None


def place_of(table: ForgetTable) -> str:
    """Returns what reports call the table."""
    return f"rows of table {table.table}"


def count_rows(connection: Connection, table: ForgetTable, subject: Subject, schema: str) -> int:
    """Counts the rows of the subject that the pipeline has written."""
    if not _can_hold(connection, table, subject):
        return 0
    statement = sql.SQL("select count(*) from {} t where {}").format(table.identifier, _is_due(table, subject, schema))
    return int(fetch_value(connection, statement, _values(table, subject)))


def remove_rows(
    connection: Connection, table: ForgetTable, subject: Subject, schema: str, *, after: tuple[object, ...] | None
) -> Part:
    """Removes the next rows of the subject in the order of their ids; runs in the caller's transaction.

    Leans on the index of the table's id, and walks along it once, however many rows there are.
    """
    if not _can_hold(connection, table, subject):
        return Part()
    due = fetch_rows(connection, _Row, _select(table, subject, schema), {**_values(table, subject), **_behind(after)})
    if not due:
        return Part()
    gone = connection.execute(
        sql.SQL(
            # Places are found quickly; in a partitioned table each part has them anew.
            "delete from {} t where t.ctid = any(%(places)s::tid[])"
            " and (t.tableoid, t.ctid) in (select * from unnest(%(parts)s::oid[], %(places)s::tid[]))"
        ).format(table.identifier),
        {"parts": [row.part for row in due], "places": [row.place for row in due]},
    ).rowcount
    ledger = table.ledger(schema)
    ledger.add_rows(connection, -gone)
    removed = Counter({place_of(table): gone}) + remove_traces(connection, ledger, _traces(due, subject))
    # Of versions, the last record may have more: where all are kept, nothing would ever be behind them.
    has_more = len(due) == FORGET_ROWS and (gone > 0 or not table.repeats_ids)
    return Part(removed, len(due) - gone, (due[-1].order, due[-1].place) if has_more else None)


def _can_hold(connection: Connection, table: ForgetTable, subject: Subject) -> bool:
    """Tells whether the table is still there, and its database can hold the name: where it cannot, its records are rejects."""
    return storable(subject.value, connection) == subject.value and exists(connection, table)


@dataclass(frozen=True)
class _Row:
    part: int
    place: str
    order: str
    id: str | None
    upstream_id: str | None
    sync_id: str | None
    row_id: str | None


def _behind(after: tuple[object, ...] | None) -> dict[str, object]:
    order, place = after or (None, None)
    return {"after": order, "place": place}


def _traces(rows: Sequence[_Row], subject: Subject) -> Traces:
    return Traces(
        ids=frozenset(row.id for row in rows if row.id is not None),
        row_ids=frozenset(row.row_id for row in rows if row.row_id is not None),
        upstream_ids=frozenset(row.upstream_id for row in rows if row.upstream_id is not None),
        # A sync is one tenant's, and leaves with it.
        sync_ids=frozenset(row.sync_id for row in rows if row.sync_id is not None and subject.kind != "record"),
    )


def _select(table: ForgetTable, subject: Subject, schema: str) -> sql.Composed:
    def stored(name: str) -> sql.Composable:
        column = table.columns.get(name)
        return sql.SQL("t.{}::text").format(sql.Identifier(column)) if column else sql.SQL("null::text")

    order = stored("id") if "id" in table.columns else sql.SQL("t.ctid::text")
    return sql.SQL(
        "select t.tableoid::bigint, t.ctid::text, {order}, {id}, {upstream_id}, {sync_id}, {row_id} from {table} t"
        " where {is_due} and (%(after)s::text is null or {is_behind}) order by {order}{then} limit {limit}"
        # A row that is being changed by its application is waited for.
        " for update"
    ).format(
        order=order,
        id=stored("id"),
        upstream_id=stored("upstream_id"),
        sync_id=stored("sync_id"),
        row_id=_row_id(table),
        table=table.identifier,
        is_due=_is_due(table, subject, schema),
        # Of one record there may be more rows than a part has.
        is_behind=sql.SQL(
            "({order} >= %(after)s and ({order}, t.ctid::text) > (%(after)s, %(place)s))"
            if table.is_child
            else "{order} {behind} %(after)s"
        ).format(order=order, behind=sql.SQL(">=" if table.repeats_ids else ">")),
        then=sql.SQL(", t.ctid::text" if table.is_child else ""),
        limit=sql.Literal(FORGET_ROWS),
    )


def _row_id(table: ForgetTable) -> sql.Composable:
    """Composes what the ledger calls a row, as `row_id` does for the merge."""
    parts = [sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.key]
    if not parts:
        return sql.SQL("null::text")
    return parts[0] if len(parts) == 1 else sql.SQL("array[{}]::text").format(sql.SQL(", ").join(parts))


def _is_due(table: ForgetTable, subject: Subject, schema: str) -> sql.Composed:
    column = table.column_of(subject)
    assert column is not None  # noqa: S101 - the caller has asked
    is_of = sql.SQL("t.{}::text = %(value)s").format(sql.Identifier(column))
    if table.keeps_versions:
        return sql.SQL("{} and exists (select from {} k where k.table_name = %(table)s and k.id = {})").format(
            is_of, sql.Identifier(schema, "versions"), _row_id(table)
        )
    if table.version is None:
        return is_of
    # An application's own row has none: nobody but us writes versions.
    return sql.SQL("{} and t.{} is not null").format(is_of, sql.Identifier(table.version))


def _values(table: ForgetTable, subject: Subject) -> dict[str, object]:
    return {"value": subject.value, "table": str(table.table)}
