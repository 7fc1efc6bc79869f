"""Where a run stands in the stream: the cursor to go on from, and the positions worth recording on the way there. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sequin_pipeline.read.stream import StreamedPage

POSITION_SPACING = timedelta(minutes=1)
"""Of the stream's time: a year of them is half a million rows at most, and a backfill reads a minute too much at most."""


@dataclass(frozen=True)
class Position:
    """After which cursor to read on (None: from the earliest record), and the greatest `inserted_at` before it.

    `recorded_at` is the stream time of the last position that the ledger was told.
    """

    after: str | None = None
    stream_time: datetime | None = None
    recorded_at: datetime | None = None

    def behind(self, pages: Iterable[StreamedPage]) -> tuple["Position", tuple[tuple[datetime, str], ...]]:
        """Where the run stands behind these pages, and the positions passed, at most one a minute of the stream."""
        here, passed = self, []
        for streamed in pages:
            if streamed.inserted_at_max is not None:
                newest = max(here.stream_time or streamed.inserted_at_max, streamed.inserted_at_max)
                here = replace(here, stream_time=newest)
            if streamed.page.cursor is None:
                continue  # the source gave none: the last good cursor stays
            here = replace(here, after=streamed.page.cursor)
            if here.stream_time is None:
                continue
            if here.recorded_at is None or here.stream_time - here.recorded_at >= POSITION_SPACING:
                passed.append((here.stream_time, streamed.page.cursor))
                here = replace(here, recorded_at=here.stream_time)
        return here, tuple(passed)
