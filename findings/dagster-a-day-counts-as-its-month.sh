#!/usr/bin/env bash
# What surprises: when an asset's partitions change from daily to monthly, Dagster counts one materialized day as a whole month. Its storage keeps only
#   the key as text, and the key of February is "2024-02-01", the same text as that day's. The month has the status MATERIALIZED, and
#   AutomationCondition.missing() does not ask for it, so that its other 28 days are never read. A day that no month begins with counts
#   for nothing, although its rows are there.
# Who meets it: whoever makes windows larger because a table got quiet, before every day was loaded. The other way, from months to days, the
#   first day of each loaded month looks done and its other days missing.
# Version: dagster 1.13.27.
# Source: the documentation of TimeWindowPartitionsDefinition (fmt) gives both the same form by default and says nothing of a change;
#   https://github.com/dagster-io/dagster/issues/21812 (closed) met stored keys of earlier windows from another side.
# Instead: give the new windows another fmt ("%Y-%m"), or the asset another key, or load all windows again after the change.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"
DAGSTER_DISABLE_TELEMETRY=yes "$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
import warnings

import dagster as dg

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def orders(partitions):
    @dg.asset(name="orders", partitions_def=partitions, automation_condition=dg.AutomationCondition.missing())
    def loaded(context: dg.AssetExecutionContext) -> None:
        loads.append(context.partition_key)

    return loaded


loads = []
daily = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-04-01")
monthly = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-04-01")
renamed = dg.MonthlyPartitionsDefinition("2024-01", end_date="2024-04", fmt="%Y-%m")
with dg.DagsterInstance.ephemeral() as instance:
    for day in ("2024-01-15", "2024-02-01"):
        dg.materialize([orders(daily)], instance=instance, partition_key=day)
    instance_status = instance.get_status_by_partition(dg.AssetKey("orders"), monthly.get_partition_keys(), monthly)
    statuses = {key: status.value if status else None for key, status in instance_status.items()}
    found = {}
    for name, partitions in {"monthly": monthly, "monthly, other format": renamed}.items():
        result = dg.evaluate_automation_conditions(defs=dg.Definitions([orders(partitions)]), instance=instance)
        found[name] = sorted(result.get_requested_partitions(dg.AssetKey("orders")))
print(f"dagster {dg.__version__}; loaded so far, by days: {loads}")
print(f"status by month: {statuses}")
for name, missing in found.items():
    print(f"{name}: missing {missing}")
expected = {"monthly": ["2024-01-01", "2024-03-01"], "monthly, other format": ["2024-01", "2024-02", "2024-03"]}
as_described = found == expected and statuses == {"2024-01-01": None, "2024-02-01": "MATERIALIZED", "2024-03-01": None}
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
