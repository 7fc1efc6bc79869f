#!/usr/bin/env bash
# What surprises: a job whose selection is `.without_checks()` runs no checks as a whole, but runs them as soon as a run asks for a part of it
#   (asset_selection of execute_in_process, or of a RunRequest that names no asset_check_keys): the part is resolved against all definitions
#   of the code location, not against the job. Even an asset that the job does not select is executed, under the job's name.
# Who meets it: whoever keeps costly checks (a count over a whole table) out of a job, and lets a schedule or a sensor ask for some of its
#   assets: each tick reads the whole table.
# Version: dagster 1.13.27.
# Source: the documentation of RunRequest calls asset_selection "a subselection of assets that should be launched with this run" of the job;
#   https://github.com/dagster-io/dagster/pull/30997 is about schedules that name check keys.
# Instead: name the checks too (RunRequest(asset_selection=..., asset_check_keys=[...]), an empty list for none), or keep the costly checks
#   out of the definitions that the process loads.
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


@dg.asset
def orders(): ...


@dg.asset
def customers(): ...


@dg.asset
def payroll(): ...


@dg.asset_check(asset=orders)
def counts_the_whole_table():
    return dg.AssetCheckResult(passed=True)


job = dg.define_asset_job("load", selection=dg.AssetSelection.assets(orders, customers).without_checks())
defs = dg.Definitions(assets=[orders, customers, payroll], asset_checks=[counts_the_whole_table], jobs=[job])


def executed(**asked):
    result = defs.resolve_job_def("load").execute_in_process(**asked)
    assets = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    return sorted(assets | {check.check_name for check in result.get_asset_check_evaluations()})


found = {
    "the whole job": executed(),
    "asset_selection=[orders]": executed(asset_selection=[orders.key]),
    "asset_selection=[payroll]": executed(asset_selection=[payroll.key]),
}
print(f"dagster {dg.__version__}")
for name, steps in found.items():
    print(f"{name}: {steps}")
as_described = found == {
    "the whole job": ["customers", "orders"],
    "asset_selection=[orders]": ["counts_the_whole_table", "orders"],
    "asset_selection=[payroll]": ["payroll"],
}
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
