"""This module says where a run stands in the stream.

That is the cursor to go on from, and the cursor positions worth recording on the way there. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sequin_pipeline.read.stream import Portion

POSITION_SPACING = timedelta(minutes=1)
"""Positions are so far apart in the stream's time.

A year of them is half a million rows at most, and a backfill reads a minute too much at most.
"""


@dataclass(frozen=True)
class CursorPosition:
    """This value says after which cursor to read on (None: from the earliest record), and the greatest `inserted_at` before it.

    `recorded_at` is the stream time of the last position that the ledger was told.
    """

    after: str | None = None
    stream_time: datetime | None = None
    recorded_at: datetime | None = None

    def behind(self, portions: Iterable[Portion]) -> tuple["CursorPosition", tuple[tuple[datetime, str], ...]]:
        """Returns where the run stands behind these pages, and the positions passed, at most one a minute of the stream."""
        here, passed = self, []
        for page, (_, newest_at) in (timed for portion in portions for timed in zip(portion.pages, portion.times, strict=True)):
            if newest_at is not None:
                here = replace(here, stream_time=max(here.stream_time or newest_at, newest_at))
            if page.cursor is None:
                continue  # the source gave none: the last good cursor stays
            here = replace(here, after=page.cursor)
            if here.stream_time is None:
                continue
            if here.recorded_at is None or here.stream_time - here.recorded_at >= POSITION_SPACING:
                passed.append((here.stream_time, page.cursor))
                here = replace(here, recorded_at=here.stream_time)
        return here, tuple(passed)


BEGINNING = CursorPosition()
"""This position is before the earliest record."""
