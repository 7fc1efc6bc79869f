"""This module tells the checks of a run that fails at its source: what waits in the ledger now, and for the rest what earlier runs found.

Dagster shows a check that was planned and not evaluated as failed: an API that does not answer would turn each check of its tables red,
and hide those that had been red before.
"""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from sequin_pipeline.catalog import Collection
from sequin_pipeline.orchestration.run_checks import Waiting, check_keys, waiting_results

ReadWaiting = Callable[[Collection], Waiting | None]
"""This reads what waits for a collection's table; None: it cannot be read."""

TOLD_BY = "told_by_run"
"""Under this name a repeated result says whose it is."""

LOOKED_BACK = 20
"""This many evaluations are looked at for one that came to a result: those of runs that failed for other reasons have none."""


def results_of_failed_run(
    context: dg.AssetExecutionContext, collections: Mapping[dg.AssetKey, Collection], read_waiting: ReadWaiting
) -> Iterator[dg.AssetCheckResult]:
    """Yields the step's own checks, and reports those that other steps of the run would have evaluated, which are skipped.

    What waits in the ledger is told as it is, since the run may have added to it before it failed; the rest as it stood. Where the
    ledger cannot be read, all is told as it stood.
    """
    own = {check for key, collection in collections.items() for check in check_keys(key, collection)}
    told = set[dg.AssetCheckKey]()
    for key, collection in collections.items():
        waiting = read_waiting(collection)
        for result in waiting_results(key, collection, waiting) if waiting is not None else ():
            told.add(dg.AssetCheckKey(key, str(result.check_name)))
            yield result
    for check in sorted(own - told):
        found = _last_result(context.instance, check, context.run.run_id)
        yield dg.AssetCheckResult(
            check_name=check.name,
            asset_key=check.asset_key,
            passed=found.passed,
            severity=found.severity,
            description=found.description,
            metadata=found.metadata,
        )
    for check in sorted(_planned(context) - own):
        if check.asset_key in collections:
            context.instance.report_runless_asset_event(_last_result(context.instance, check, context.run.run_id))


def _planned(context: dg.AssetExecutionContext) -> set[dg.AssetCheckKey]:
    records = context.instance.get_records_for_run(
        context.run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    ).records
    planned = (record.event_log_entry.get_dagster_event().asset_check_planned_data for record in records)
    return {dg.AssetCheckKey(each.asset_key, each.check_name) for each in planned}


def _last_result(instance: dg.DagsterInstance, key: dg.AssetCheckKey, run_id: str) -> dg.AssetCheckEvaluation:
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=LOOKED_BACK):
        told = record.evaluation
        if not isinstance(told, dg.AssetCheckEvaluation) and record.run_id != run_id:
            break  # an earlier run left it red, without a result: what stood before that would make it green
        if isinstance(told, dg.AssetCheckEvaluation):
            is_repeated = TOLD_BY in told.metadata
            return dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=told.passed,
                severity=told.severity,
                description=told.description if is_repeated else f"{told.description} (before: a run failed at its source)",
                metadata=told.metadata if is_repeated else {**told.metadata, TOLD_BY: record.run_id},
            )
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description="not evaluated yet: the run failed at its source",
        metadata={TOLD_BY: "none"},
    )
