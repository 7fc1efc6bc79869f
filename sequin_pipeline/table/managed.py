"""This module prepares the managed table.

It is created when missing, added to when the declaration grows, refused when it cannot hold what is declared. Nothing is ever
dropped or retyped here, nothing cascades. A table that the ledger does not know is somebody else's until told otherwise.
"""

from dataclasses import dataclass, replace

from psycopg import sql

from sequin_pipeline.errors import LedgerRefused, TableRefused
from sequin_pipeline.ledger.census import Others, begin_census
from sequin_pipeline.ledger.columns import forget_columns
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.ledger.schema import lock_ddl
from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.warehouse import Connection, lift_limits
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.ddl import add_statements, comment, comment_statements, create_table
from sequin_pipeline.table.found_table import FoundTable, check_found, find_table_in_catalog
from sequin_pipeline.table.row_security import security_statements
from sequin_pipeline.table.target import Target
from sequin_pipeline.table.unmanaged import look_up
from sequin_pipeline.table.write_access import check_ownership

FRAME_SOURCE = SourceIdentity("frame", "")
"""Tables that are filled from plain DataFrames have this source.

Those of an asset have its key in place of a URL (frame_owner.py).
"""


@dataclass(frozen=True)
class Preparation:
    """This value is what preparing found.

    That is the target as its table takes it, and the ledger's record, None for a table just created or adopted.
    """

    target: Target
    record: TableRecord | None
    is_adopted: bool = False


def prepare_table(
    connection: Connection,
    target: Target,
    ledger: Ledger,
    *,
    source: SourceIdentity,
    adopt: bool = False,
    full_refresh: bool = False,
    others: Others | None = None,
) -> Preparation:
    """Makes the table ready for rows from `source`; costs one read of the catalogs when it is ready already.

    `adopt` takes over a table that the ledger does not know, or knows from another source, and starts it from the beginning;
    `full_refresh` may create anew one that has vanished. `others` begins a census with a table that is taken over, which tells in the end
    which rows the source does not have; None: none is taken. Raises TableRefused, LedgerRefused, psycopg.Error; then nothing has changed.
    """
    if target.is_unmanaged:
        return _prepare_unmanaged(connection, look_up(connection, target), ledger, source=source, adopt=adopt, others=others)
    record, found = ledger.find_table(connection), find_table_in_catalog(connection, target)
    if (record is None) != (found is None):
        # Somebody may be creating it between the two looks: under their lock, what is there is there for good.
        with connection.transaction(), connection.cursor() as cursor:
            lock_ddl(cursor)
            record, found = ledger.find_table(connection), find_table_in_catalog(connection, target)
    _check_source(target, record, source, adopt=adopt)
    if found is None and not full_refresh and not adopt:
        _check_not_gone(target, record)
    if found is None:
        if _create(connection, target, ledger, source):
            return Preparation(target, None)
        return prepare_table(connection, target, ledger, source=source, adopt=adopt, full_refresh=full_refresh, others=others)
    if source.kind != FRAME_SOURCE.kind and not adopt:
        _check_ours(target, record)
    check_found(connection, target, found)
    missing, stamps = _missing(target, found)
    if record is None and source.kind == FRAME_SOURCE.kind and missing:
        raise TableRefused(
            f"table {str(target.table)!r} exists already, this pipeline did not create it, and it has no column {missing[0]!r}: "
            "add the column, or leave it out of the frame"
        )
    is_new_owner = record is None or (record.source != source)
    if changes := _changes(connection, target, found):
        check_ownership(target, found.access, [change.statement for change in changes])
        _add(connection, target, ledger, (*missing, *stamps), found=found)
    if is_new_owner:
        _register(connection, target, ledger, source, others=others, before=str(record.source) if record else "")
        return Preparation(target, None, is_adopted=True)
    return Preparation(target, record)


def _prepare_unmanaged(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, adopt: bool, others: Others | None
) -> Preparation:
    """Writes in the ledger only: the declaration has said whose the table is, so it needs no `--adopt` at first."""
    record = ledger.find_table(connection)
    if record is None:
        with connection.transaction(), connection.cursor() as cursor:
            lock_ddl(cursor)
            record = ledger.find_table(connection)
            if record is None:
                _register(connection, target, ledger, source)
                return Preparation(target, None)
    _check_source(target, record, source, adopt=adopt)
    if record.source == source:
        return Preparation(target, record)
    _register(connection, target, ledger, source, others=others, before=str(record.source))
    return Preparation(target, None, is_adopted=True)


@dataclass(frozen=True)
class PendingChange:
    """This value is a statement that the next run would begin with, and the lock that it takes on the table."""

    statement: str
    lock: str


def pending_changes(
    connection: Connection, target: Target, record: TableRecord | None, *, source: SourceIdentity
) -> tuple[PendingChange, ...] | None:
    """Returns what `prepare_table` would do to a table that exists, None where it would create it; changes nothing.

    Raises TableRefused and LedgerRefused as that would.
    """
    if target.is_unmanaged:
        look_up(connection, target)
        _check_source(target, record, source, adopt=False)
        return ()
    found = find_table_in_catalog(connection, target)
    _check_source(target, record, source, adopt=False)
    if found is None:
        _check_not_gone(target, record)
        return None
    _check_ours(target, record)
    check_found(connection, target, found)
    changes = _changes(connection, target, found)
    check_ownership(target, found.access, [change.statement for change in changes])
    return changes


def _changes(connection: Connection, target: Target, found: FoundTable) -> tuple[PendingChange, ...]:
    missing, stamps = _missing(target, found)
    added = add_statements(target, (*missing, *stamps))
    secured = _securing(connection, target)
    commented = comment_statements(connection, target, found.comments)
    return (
        *(PendingChange(statement.as_string(connection), "access exclusive") for statement in (*added, *secured)),
        *(PendingChange(statement.as_string(connection), "share update exclusive") for statement in commented),
    )


def _securing(connection: Connection, target: Target) -> list[sql.Composed]:
    return security_statements(connection, target.table) if target.row_security else []


def existing_columns(connection: Connection, target: Target) -> Target:
    """Returns the target as its table takes it, without the columns that are not there yet."""
    if target.is_unmanaged:
        return look_up(connection, target)
    found = find_table_in_catalog(connection, target)
    has = found.types if found else {}
    return replace(
        target,
        columns=tuple(column for column in target.columns if column.name in has),
        created_at=target.created_at if target.created_at in has else None,
        changed_at=target.changed_at if target.changed_at in has else None,
    )


def _missing(target: Target, found: FoundTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the columns to add: those of records, and the stamps."""
    missing = tuple(column.name for column in target.columns if column.name not in found.types)
    stamps = tuple(name for name in (target.created_at, target.changed_at) if name and name not in found.types)
    return missing, stamps


def _check_not_gone(target: Target, record: TableRecord | None) -> None:
    if record is not None:
        raise LedgerRefused(
            f"table {str(target.table)!r} of {target.label!r} is gone, while the ledger says that it has {record.row_count} rows and that "
            "the stream has been read up to its cursor: restore the table, or fill it again from the beginning with --full-refresh"
        )


def _check_ours(target: Target, record: TableRecord | None) -> None:
    if record is None:
        raise TableRefused(
            f"table {str(target.table)!r} of {target.label!r} exists already, and this pipeline did not create it: name another table "
            "in the YAML with `table: {name: schema.table}`, or let the pipeline take it over with --adopt"
        )


def _check_source(target: Target, record: TableRecord | None, source: SourceIdentity, *, adopt: bool) -> None:
    if record is not None and record.source != source and not adopt:
        raise LedgerRefused(
            f"table {str(target.table)!r} of {target.label!r} has been filled from {record.source}, and this run would read "
            f"{source}, whose cursors and ids are others: point the run at the first one, name another table, or take the table over "
            f"with --adopt, which reads the new one from its beginning. Of its {record.row_count:,} rows, those that the new one does not "
            "have then stay; --adopt --others mark marks them as deleted"
        )


def _create(connection: Connection, target: Target, ledger: Ledger, source: SourceIdentity) -> bool:
    """Returns False when somebody else has just created the table, and may have read into it: then nothing has changed."""
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        if find_table_in_catalog(connection, target) is not None:
            return False
        create_table(connection, target)
        ledger.register_table(connection, source, on_delete=target.on_delete, row_count=0)
    return True


def _add(connection: Connection, target: Target, ledger: Ledger, names: tuple[str, ...], *, found: FoundTable) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        # An ALTER that waits makes every reader queue behind it: give up soon, the caller tries again.
        cursor.execute("set local lock_timeout = '5s'")
        for statement in (*add_statements(target, names), *_securing(connection, target)):
            cursor.execute(statement)
        # One that stood there before, and that somebody dropped, has to be filled again.
        forget_columns(connection, ledger, names)
        comment(connection, target, found.comments)


def _register(
    connection: Connection,
    target: Target,
    ledger: Ledger,
    source: SourceIdentity,
    *,
    others: Others | None = None,
    before: str = "",
) -> None:
    with connection.transaction():
        lift_limits(connection)
        counting = sql.SQL("select count(*) from {}").format(sql.Identifier(target.table.schema, target.table.name))
        rows: int = fetch_value(connection, counting)
        ledger.register_table(connection, source, on_delete=target.on_delete, row_count=rows)
        if others is not None and rows:
            begin_census(connection, ledger, others=others, before=before)
