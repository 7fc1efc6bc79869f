"""This module makes child tables ready beside their parent's table."""

from collections.abc import Mapping
from dataclasses import replace

from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.columns import claim_child
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.ledger.schema import VERSION
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.foreign_keys import follow_foreign_keys, pending_drops, pending_keys
from sequin_pipeline.table.managed import PendingChange, existing_columns, pending_changes, prepare_table
from sequin_pipeline.table.target import ChildTarget, Target
from sequin_pipeline.table.unmanaged import look_up
from sequin_pipeline.table.write_access import find_access, grant


def prepare_children(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, adopt: bool = False
) -> Target:
    """Makes the child tables of a parent ready, which must be ready itself; returns the parent with children as their tables take them.

    One that is created here, or was somebody else's or another table's, is filled from the objects of the parents that are there
    (refill.py). Raises TableRefused, LedgerRefused, psycopg.Error.
    """
    ready: list[ChildTarget] = []
    for child in target.children:
        own = child_ledger(ledger, child)
        # What it held is in its parents' objects, so one that has vanished is made again.
        prepared = prepare_table(connection, child.target, own, source=source, adopt=adopt, full_refresh=True)
        _check_access(connection, child.target)
        if not child.target.is_unmanaged:
            # An application's table has rows, and foreign keys, that are none of ours.
            claim_child(connection, ledger, own, child.declared.frame_name)
        ready.append(replace(child, target=prepared.target))
    follow_foreign_keys(connection, target, ledger)
    return replace(target, children=tuple(ready))


def fit_children(connection: Connection, target: Target) -> Target:
    """Returns the parent with children as the tables of applications take them. Raises TableRefused, psycopg.Error."""
    return replace(target, children=tuple(replace(child, target=look_up(connection, child.target)) for child in target.children))


def pending_children(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, version: int | None
) -> dict[str, tuple[PendingChange, ...] | None]:
    """Returns by table what `prepare_children` would do, None where it would create it; changes nothing. Raises as that would.

    Of children that are declared no longer, only what would change. `version` is the ledger's, None where there is none.
    """
    pending: dict[str, tuple[PendingChange, ...] | None] = {}
    for child in target.children:
        record = child_ledger(ledger, child).find_table(connection) if version is not None else None
        pending[str(child.target.table)] = _pending_child(connection, target, child, record, source)
    return {**pending, **(pending_drops(connection, target, ledger) if version == VERSION else {})}


def _pending_child(
    connection: Connection, target: Target, child: ChildTarget, record: TableRecord | None, source: SourceIdentity
) -> tuple[PendingChange, ...] | None:
    if child.target.is_unmanaged:
        look_up(connection, child.target)
        _check_access(connection, child.target)
        return ()
    if find_access(connection, child.target.table) is None:
        return None
    changes = pending_changes(connection, child.target, record, source=source)
    _check_access(connection, child.target)
    return (*(changes or ()), *pending_keys(connection, target, child))


def existing_children(
    connection: Connection, target: Target, pending: Mapping[str, tuple[PendingChange, ...] | None]
) -> tuple[ChildTarget, ...]:
    """Returns the child tables as they are, without the columns that are not there yet; those that are missing as they would be."""
    return tuple(
        child if pending[str(child.target.table)] is None else replace(child, target=existing_columns(connection, child.target))
        for child in fit_children(connection, target).children
    )


def child_ledger(ledger: Ledger, child: ChildTarget) -> Ledger:
    """Returns the ledger of a child table."""
    return Ledger(str(child.target.table), child.target.label, ledger.schema)


def rows_of_children(connection: Connection, target: Target, ledger: Ledger) -> dict[str, int]:
    """Returns by table how many rows each child table has, by the ledger's running totals."""
    records = {str(child.target.table): child_ledger(ledger, child).find_table(connection) for child in target.children}
    return {table: record.row_count for table, record in records.items() if record is not None}


def _check_access(connection: Connection, target: Target) -> None:
    access = find_access(connection, target.table)
    if access is not None and "DELETE" in access.lacking:
        raise TableRefused(
            f"role {access.role!r} lacks the right to delete on table {str(target.table)!r} of {target.label!r}, from which elements go "
            f"that are no longer in their list: run `{grant(access.role, target.table, 'DELETE')}`"
        )
