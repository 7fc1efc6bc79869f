"""This module repeats what earlier runs found, where a run fails at its source and cannot look at the table.

Dagster shows a check that was planned and not evaluated as failed: an API that does not answer would turn each check of its tables red,
and hide those that had been red before.
"""

from collections.abc import Iterator

import dagster as dg

TOLD_BY = "told_by_run"
"""Under this name a repeated result says whose it is."""

LOOKED_BACK = 20
"""So many evaluations are looked at for one that came to a result: those of runs that failed for other reasons have none."""


def repeat_results(context: dg.AssetExecutionContext, keys: list[dg.AssetCheckKey]) -> Iterator[dg.AssetCheckResult]:
    """Yields the step's own checks as they stood, and reports those that other steps of the run would have evaluated.

    Those steps are skipped, since the asset comes before them.
    """
    for key in keys:
        told = _last_result(context.instance, key, context.run.run_id)
        yield dg.AssetCheckResult(
            check_name=key.name,
            asset_key=key.asset_key,
            passed=told.passed,
            severity=told.severity,
            description=told.description,
            metadata=told.metadata,
        )
    for key in sorted(_planned(context) - set(keys)):
        if key.asset_key in {own.asset_key for own in keys}:
            context.instance.report_runless_asset_event(_last_result(context.instance, key, context.run.run_id))


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
