"""This module turns windows into Dagster partitions and back: the only place that knows both."""

import dagster as dg

from sequin_pipeline.catalog import Windows
from sequin_pipeline.windows import KEY_FORMATS

_CRON = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}


def build_partitions(windows: Windows) -> dg.TimeWindowPartitionsDefinition:
    """Builds one partition per window, the present one included (`end_offset`): it is the one that live runs fill."""
    return dg.TimeWindowPartitionsDefinition(
        start=windows.start, fmt=KEY_FORMATS[windows.every], cron_schedule=_CRON[windows.every], timezone="UTC", end_offset=1
    )
