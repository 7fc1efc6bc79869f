"""This module builds checks over whole tables, and the daily job that runs them; operate/audit.py finds what they report.

They are apart from the checks that a collection's own step yields, since a run that found nothing new must not read a table. A
materialization that somebody launches by hand from an asset's page runs them as well, as Dagster does with every check of an asset.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.operate.audit import SHOWN, ChildAudit, TableAudit, audit_child, audit_table
from sequin_pipeline.orchestration.assets import asset_key
from sequin_pipeline.orchestration.child_assets import child_key
from sequin_pipeline.orchestration.chosen_executor import chosen_executor
from sequin_pipeline.orchestration.resources import WAREHOUSE
from sequin_pipeline.postgres.warehouse import Connection, attempt

Audit = TypeVar("Audit", TableAudit, ChildAudit)

JOB = "full_table_checks"
DAILY = "0 5 * * *"

DESCRIPTIONS = {
    "table_row_count": "The table has as many rows as the ledger counted: nobody else added or removed any.",
    "table_required_columns": "Every row that is not deleted and carries an object has the values that the declaration requires.",
}


CHILD_DESCRIPTIONS = {
    "table_row_count": DESCRIPTIONS["table_row_count"],
    "table_parents": "Every row has its parent.",
}


def check_keys(collection: Collection) -> list[dg.AssetCheckKey]:
    """Returns the keys of the collection's checks over its whole table, and over its child tables."""
    children = [child_key(collection, child) for child in collection.children]
    return [
        *(dg.AssetCheckKey(asset_key(collection), name) for name in DESCRIPTIONS),
        *(dg.AssetCheckKey(key, name) for key in children for name in CHILD_DESCRIPTIONS),
    ]


def build_table_checks(collections: Sequence[Collection]) -> dg.Definitions:
    """Builds one step per table."""
    return dg.Definitions(asset_checks=[checks for collection in collections for checks in _checks_of(collection)])


def _checks_of(collection: Collection) -> Iterator[dg.AssetChecksDefinition]:
    """Yields the checks of the collection's table, and those of each child table."""
    yield _build_checks(
        asset_key(collection),
        DESCRIPTIONS,
        partial(audit_table, collection=collection),
        table_results,
        doing=f"looking at table {str(collection.table)!r} of {collection.label!r}",
    )
    for child in collection.children:
        yield _build_checks(
            child_key(collection, child),
            CHILD_DESCRIPTIONS,
            partial(audit_child, collection=collection, child=child),
            child_results,
            doing=f"looking at table {str(child.table)!r} of {collection.label!r}",
        )


def build_table_check_job(collections: Sequence[Collection]) -> dg.Definitions:
    """Builds one job over the checks of all collections, and its daily schedule, stopped until somebody switches it on."""
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.checks(*(key for collection in collections for key in check_keys(collection))),
        description="Compares every table with the ledger and the declaration. Reads whole tables.",
        executor_def=chosen_executor(os.environ),
    )
    schedule = dg.ScheduleDefinition(
        name=f"{JOB}_schedule",
        job_name=JOB,
        cron_schedule=DAILY,
        execution_timezone="UTC",
        description="Compares every table with the ledger and the declaration, once a day, and reads whole tables to do so.",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])


def table_results(key: dg.AssetKey, audit: TableAudit) -> Iterator[dg.AssetCheckResult]:
    """Yields one result for each description, in their order."""
    yield _row_count(key, audit)
    yield _required_columns(key, audit)


def _build_checks(
    key: dg.AssetKey,
    descriptions: Mapping[str, str],
    audit: Callable[[Connection], Audit],
    results: Callable[[dg.AssetKey, Audit], Iterator[dg.AssetCheckResult]],
    *,
    doing: str,
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_table_checks",
        specs=[dg.AssetCheckSpec(name, asset=key, description=description) for name, description in descriptions.items()],
        required_resource_keys={WAREHOUSE},
    )
    def table_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        warehouse = getattr(context.resources, WAREHOUSE).open()

        def look() -> Audit:
            with warehouse.connect() as connection:
                return audit(connection)

        yield from results(key, attempt(look, doing))

    return table_checks


def child_results(key: dg.AssetKey, audit: ChildAudit) -> Iterator[dg.AssetCheckResult]:
    """Yields one result for each description of a child table, in their order."""
    yield _row_count(key, audit.table)
    yield dg.AssetCheckResult(
        check_name="table_parents",
        asset_key=key,
        passed=not audit.orphaned,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_parents(audit),
        metadata={"orphaned": dg.MetadataValue.json(list(audit.orphaned))},
    )


def _parents(audit: ChildAudit) -> str:
    if audit.table.is_unmanaged:
        return "not looked for in a table that may hold an application's own rows"
    if not audit.orphaned:
        return "every row has its parent"
    told = ", ".join(map(repr, audit.orphaned))
    return f"rows of parents that are not there: {told}. Somebody else removed these, and not their children"


def _row_count(key: dg.AssetKey, audit: TableAudit) -> dg.AssetCheckResult:
    if audit.expected_rows is None:
        description = "the table has not been synced yet"
    elif audit.rows is None:
        description = f"the table is gone, and should have {audit.expected_rows} rows: restore it, or run `sync --full-refresh`"
    elif audit.rows == audit.expected_rows:
        description = f"{audit.rows} rows"
    elif audit.is_unmanaged:
        description = f"{audit.rows} rows; the application that owns the table has added or removed some of them"
    else:
        description = (
            f"{audit.rows} rows, where the ledger counted {audit.expected_rows}: somebody else wrote to the table. "
            "`sync --full-refresh` brings back rows that are missing; docs/operations.md says how to correct the ledger"
        )
    return dg.AssetCheckResult(
        check_name="table_row_count",
        asset_key=key,
        passed=audit.rows == audit.expected_rows or (audit.is_unmanaged and audit.rows is not None),
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={
            name: value for name, value in (("rows", audit.rows), ("expected_rows", audit.expected_rows)) if value is not None
        },
    )


def _required_columns(key: dg.AssetKey, audit: TableAudit) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="table_required_columns",
        asset_key=key,
        passed=not audit.missing,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_required(audit),
        metadata={"missing": dg.MetadataValue.json({row_id: list(names) for row_id, names in audit.missing.items()})},
    )


def _required(audit: TableAudit) -> str:
    if audit.is_unmanaged:
        return "not looked for in a table that may hold an application's own rows; records without a required value are rejected"
    some = f"{len(audit.missing)} or more" if len(audit.missing) == SHOWN else str(len(audit.missing))
    return f"{some} rows lack a required value" if audit.missing else "no required value is missing"
