"""This module carries a request to forget somebody out, or undoes it.

The request is written down first, so that no run brings anything back; then entries go in bounded transactions. Whoever is killed
in between calls again: what is gone is gone, and the rest is found as it was.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.forgets import ForgetRequest, begin_forget, find_forget, note_removed, undo_forget
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.operate.forgetting.ledger_entries import PLACES, count_unknown
from sequin_pipeline.operate.forgetting.report import ForgetReport, LeftTable
from sequin_pipeline.operate.forgetting.rows import Part, count_rows, place_of, remove_rows
from sequin_pipeline.operate.forgetting.tables import ForgetTable, find_tables
from sequin_pipeline.operate.forgetting.traces import Traces, remove_traces
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import LOCK_TIMEOUT_SECONDS, Connection, Warehouse, limit_lock_waits, without_limits
from sequin_pipeline.records.forgotten import Subject

DOING = "forgetting"


def forget(
    warehouse: Warehouse,
    subject: Subject,
    collections: Iterable[Collection],
    *,
    schema: str = DEFAULT_SCHEMA,
    leaves_applications: bool = False,
    committed: Callable[[], None] = lambda: None,
) -> ForgetReport:
    """Removes everything of the subject, and has no run write it again; `committed` is called behind each transaction.

    Raises ConfigurationError, before anything has been done, for tables of applications whose rows may not be deleted, or of which
    nobody can tell whose they are, unless `leaves_applications`; WarehouseError, after which another call goes on.
    """
    declared = tuple(collections)
    with Session(warehouse) as session:
        tables, left = session.attempt(partial(_prepare, subject=subject, collections=declared, schema=schema), DOING)
        if left and not leaves_applications:
            raise _refusal(left)
        request = session.attempt(partial(begin_forget, subject=subject, schema=schema), DOING)
        committed()
        report = ForgetReport(subject, requested_at=request.requested_at, left=left)
        for table in tables:
            removing = partial(remove_rows, table=table, subject=subject, schema=schema)
            report.kept[str(table.table)] += _remove(session, report, request, removing, committed, schema=schema)
        for place in PLACES:
            _remove(session, report, request, partial(place.remove, subject=subject, schema=schema), committed, schema=schema)
        if subject.kind == "record":
            ledgers = [table.ledger(schema) for table in tables]
            ledgers += [Ledger(str(one.table), one.label, schema) for one in declared if one.label == subject.label]
            removing = partial(_remove_record, subject=subject, ledgers=set(ledgers))
            _remove(session, report, request, removing, committed, schema=schema)
        report.kept = +report.kept
        report.of_unknown_tenant = session.attempt(partial(count_unknown, subject=subject, schema=schema), DOING)
        if not report.kept:
            session.attempt(partial(note_removed, request=request, removed={}, is_complete=True, schema=schema), DOING)
            committed()
    return report


def dry_forget(
    warehouse: Warehouse, subject: Subject, collections: Iterable[Collection], *, schema: str = DEFAULT_SCHEMA
) -> ForgetReport:
    """Counts what `forget` would remove, and changes nothing; what only the ids of removed rows lead to is not counted."""
    with Session(warehouse) as session:
        tables, left = session.attempt(partial(_prepare, subject=subject, collections=tuple(collections), schema=schema), DOING)
        report = ForgetReport(subject, is_dry_run=True, left=left)
        for table in tables:
            counting = without_limits(partial(count_rows, table=table, subject=subject, schema=schema))
            report.removed[place_of(table)] = session.attempt(counting, DOING)
        for place in PLACES:
            report.removed[place.name] = session.attempt(partial(place.count, subject=subject, schema=schema), DOING)
        report.of_unknown_tenant = session.attempt(partial(count_unknown, subject=subject, schema=schema), DOING)
    return report


def undo(warehouse: Warehouse, subject: Subject, *, schema: str = DEFAULT_SCHEMA) -> bool:
    """Lets runs write the subject's records again; False where it is not forgotten. Nothing comes back by itself."""
    with Session(warehouse) as session:
        session.attempt(partial(migrate, schema=schema), DOING)
        return session.attempt(partial(undo_forget, subject=subject, schema=schema), DOING)


def is_forgotten(warehouse: Warehouse, subject: Subject, *, schema: str = DEFAULT_SCHEMA) -> bool:
    """Tells whether a request for just this subject is in force."""
    with Session(warehouse) as session:
        return session.attempt(partial(find_forget, subject=subject, schema=schema), DOING) is not None


def _prepare(
    connection: Connection, *, subject: Subject, collections: tuple[Collection, ...], schema: str
) -> tuple[list[ForgetTable], list[LeftTable]]:
    """Returns the tables whose rows can be removed, and those that are to be left."""
    migrate(connection, schema)
    found = [table for table in find_tables(connection, collections, schema) if table.may_hold(subject)]
    counting = partial(count_rows, subject=subject, schema=schema)
    left = {table.table: told for table in found if (told := _told_left(connection, table, subject, counting))}
    labels = {table.record_label for table in found if table.table in left and not table.is_child}
    for child in (table for table in found if table.is_child and table.record_label in labels and table.table not in left):
        # A version that is there already brings none of them back.
        rows = without_limits(partial(counting, table=child))(connection)
        left[child.table] = LeftTable(
            str(child.table), rows, "its rows stay as long as those of the application's table that they belong to"
        )
    tables = [table for table in found if table.table not in left and table.may_delete and table.column_of(subject) is not None]
    return tables, [told for told in left.values() if told.rows != 0]


def _told_left(connection: Connection, table: ForgetTable, subject: Subject, counting: Callable[..., int]) -> LeftTable | None:
    """Returns what is told of an application's table that is to be left; None for every other table."""
    if not table.is_application:
        return None
    if table.column_of(subject) is None:
        return LeftTable(str(table.table), None, _untold(table, subject))
    rows = 0 if table.may_delete else without_limits(partial(counting, table=table))(connection)
    reason = "it belongs to an application, and its declaration lets no row be deleted (on_delete: remove would)"
    return LeftTable(str(table.table), rows, reason) if rows else None


def _untold(table: ForgetTable, subject: Subject) -> str:
    column = "id" if subject.kind == "record" else subject.kind
    return f"it belongs to an application, and no column of it is declared for {column}, so that nobody can tell which rows these are"


def _refusal(left: list[LeftTable]) -> ConfigurationError:
    told = "; ".join(f"table {one.table}{'' if one.rows is None else f' ({one.rows:,} rows)'}: {one.reason}" for one in left)
    return ConfigurationError(
        f"nothing has been forgotten, since not everything can be: {told}. Change the declaration, or leave these tables as they are with "
        "--leave-applications, and delete the rows there yourself"
    )


def _remove(
    session: Session,
    report: ForgetReport,
    request: ForgetRequest,
    removing: Callable[..., Part],
    committed: Callable[[], None],
    *,
    schema: str,
) -> int:
    """Removes part after part, each in a transaction that notes what it has removed; returns how many rows are kept."""
    after: tuple[object, ...] | None = None
    kept = 0
    while True:

        def work(connection: Connection, after: tuple[object, ...] | None = after) -> Part:
            with connection.transaction():
                limit_lock_waits(connection, LOCK_TIMEOUT_SECONDS)
                part = removing(connection, after=after)
                if part.removed:
                    note_removed(connection, request, part.removed, is_complete=False, schema=schema)
                return part

        part = session.attempt(work, DOING)
        report.removed.update(part.removed)
        kept += part.kept
        committed()
        if part.after is None:
            return kept
        after = part.after


def _remove_record(
    connection: Connection, *, subject: Subject, ledgers: Iterable[Ledger], after: tuple[object, ...] | None
) -> Part:
    """Removes what the ledger says of a single record, whether or not it had a row."""
    traces = Traces(ids=frozenset({subject.value}))
    return Part(sum((remove_traces(connection, ledger, traces) for ledger in ledgers), start=Counter()))
