#!/usr/bin/env bash
# What surprises: a run over a range of partitions (one step, backfill policy single_run) materializes each partition, and what the IO manager says
#   by context.add_output_metadata in that one handle_output is written on each of them in full: 30 rows written for three days read as 30 rows
#   on every day, and as 90 by whoever adds up dagster/partition_row_count.
# Who meets it: whoever backfills ranges in one run and reports row counts, bytes or costs as metadata; the plots of the UI and Dagster+'s
#   consumption figures add them up again.
# Version: dagster 1.13.29.
# Source: https://docs.dagster.io on partitions and on metadata describes a value per materialization; nothing says what one call means for a range.
# Instead: let the asset yield one dg.AssetMaterialization a partition (or context.add_asset_metadata(..., partition_key=...)) with that
#   partition's own figure, and keep sums of the whole run out of the metadata, or under a name that says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.29
cd "$folder"
DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-04")


class Rows(dg.IOManager):
    def handle_output(self, context, rows):
        context.add_output_metadata({"dagster/partition_row_count": len(rows)})

    def load_input(self, context):
        raise NotImplementedError


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def orders(context):
    return [day for day in context.partition_keys for _ in range(10)]


with dg.DagsterInstance.ephemeral() as instance:
    tags = {"dagster/asset_partition_range_start": "2026-01-01", "dagster/asset_partition_range_end": "2026-01-03"}
    dg.materialize([orders], instance=instance, resources={"io_manager": Rows()}, tags=tags)
    records = instance.fetch_materializations(dg.AssetKey("orders"), limit=10).records
    found = {
        record.partition_key: record.asset_materialization.metadata["dagster/partition_row_count"].value for record in records
    }
print("dagster", dg.__version__)
for day, rows in sorted(found.items()):
    print(f"{day}: {rows} rows")
expected = {"2026-01-01": 30, "2026-01-02": 30, "2026-01-03": 30}
print("as described" if found == expected else f"behaves otherwise now: {found}")
sys.exit(0 if found == expected else 1)
PYTHON
