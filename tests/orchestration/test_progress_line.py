"""What a run says in Dagster's log while it is at work."""

from datetime import UTC, datetime

import pytest

from sequin_pipeline.orchestration.io_manager import progress_line
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.runs.outcome import Progress
from sequin_pipeline.sources import TimeWindow
from tests.support.builders import collection

MARCH, MAY, JUNE = (datetime(2024, month, 1, tzinfo=UTC) for month in (3, 5, 6))
NOW = datetime(2024, 5, 11, tzinfo=UTC)


def run_config(end: datetime) -> RunConfig:
    return RunConfig(collection(), "backfill", TimeWindow(MARCH, end), partition_keys=("2024-03",), window_starts=(MARCH,))


@pytest.mark.parametrize(
    ("end", "stream_time", "place"),
    [
        pytest.param(MAY, None, "", id="nothing committed yet"),
        pytest.param(
            MAY,
            datetime(2024, 2, 28, tzinfo=UTC),
            ", at 2024-02-28 00:00:00 of the stream, 0% of the way from 2024-03-01 00:00 to 2024-05-01 00:00",
            id="before the window",
        ),
        pytest.param(
            JUNE,
            datetime(2024, 4, 5, 12, tzinfo=UTC),
            ", at 2024-04-05 12:00:00 of the stream, 50% of the way from 2024-03-01 00:00 to 2024-05-11 00:00",
            id="half of the time up to the present",
        ),
    ],
)
def test_the_line_tells_the_place_between_the_windows_ends(end: datetime, stream_time: datetime | None, place: str) -> None:
    progress = Progress("demo/thing", pages=2, records=3_000, seconds=2.0, stream_time=stream_time)

    line = progress_line(progress, run_config(end), now=NOW)

    assert line == f"demo/thing: 2 pages, 3000 records, 1,500 records/s{place}"
