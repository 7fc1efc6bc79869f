#!/usr/bin/env bash
# What surprises: Definitions.merge refuses two resources of one key although they are equal (`==` is True): it compares by identity. So two
#   components, or two modules, that each make WarehouseResource(url=EnvVar("WAREHOUSE_URL")) cannot stand in one project: it does not load,
#   and the message calls the two different. With small integers it works, since Python keeps one of each.
# Who meets it: whoever writes a component or a factory that brings its own resource, with the second instance of it.
# Version: dagster 1.13.27.
# Source: https://github.com/dagster-io/dagster/pull/22945 (its example has the integer 4 on both sides; the comparison became `is` in review);
#   the documentation of merge speaks of "conflicting values for the same resource key".
# Instead: make the resource once, at the top of a module, and let every factory hand out that object.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"
DAGSTER_DISABLE_TELEMETRY=yes "$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import dagster as dg

warnings.simplefilter("ignore")


class Warehouse(dg.ConfigurableResource):
    url: str


def merged(first, second):
    try:
        dg.Definitions.merge(dg.Definitions(resources={"warehouse": first}), dg.Definitions(resources={"warehouse": second}))
    except dg.DagsterInvariantViolationError as error:
        return str(error)
    return "merged"


one, other = (Warehouse(url=dg.EnvVar("WAREHOUSE_URL")) for _ in range(2))
found = {"equal resources": merged(one, other), "one resource": merged(one, one), "the integer 4": merged(4, 4)}
print(f"dagster {dg.__version__}; the resources are equal: {one == other}")
for name, said in found.items():
    print(f"{name}: {said}")
refusal = "Definitions objects 0 and 1 have different resources with same key 'warehouse'"
as_described = one == other and found == {"equal resources": refusal, "one resource": "merged", "the integer 4": "merged"}
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
