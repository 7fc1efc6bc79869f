"""This module reads the records of some syncs of a collection as one stream, one sync after the other.

That is a shard of a first load. Its cursor says which sync is being read and how far, so that it means nothing to the source, and the
source's own cursor is in it.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.read.stream import Portion, RecordStream, Room, RunConfig
from sequin_pipeline.sources import Page, ReadRequest, Source
from sequin_pipeline.windows import SLACK


class ShardStream(RecordStream):
    """This stream holds the records of these syncs, as they were when the reading of each began, and perhaps newer ones."""

    def __init__(self, run_config: RunConfig, source: Source, syncs: Sequence[str]) -> None:
        super().__init__(run_config, source)
        self._syncs = syncs

    def portions(
        self,
        after: str | None,
        room: Room,
        *,
        while_waiting: Callable[[], None],
        give_way: Callable[[], None] = lambda: None,
        reads_lazily: Callable[[], bool] = lambda: False,
    ) -> Generator[Portion, None, None]:
        """Yields pages as `RecordStream.portions` does, sync by sync from the one that `after` is in."""
        under_way, start = split_cursor(after) if after is not None else (self._syncs[0], None)
        for sync_id in self._syncs[self._syncs.index(under_way) :]:
            request = ReadRequest(
                frozenset({self.run_config.collection.id}),
                after=start if sync_id == under_way else None,
                sync_ids=frozenset({sync_id}),
            )
            for portion in self._read(request, room, while_waiting, give_way, reads_lazily):
                self._check(portion, sync_id)
                yield replace(portion, pages=tuple(_within(sync_id, page) for page in portion.pages))
        self.reached_end = True

    def _check(self, portion: Portion, sync_id: str) -> None:
        others = set(portion.normalized.frame["sync_id"].dropna().unique()) - {sync_id}
        if others:
            label = self.run_config.collection.label
            raise SourceFault(
                f"reading sync {sync_id!r} of {label!r} by itself, the source gave records of sync {min(others)!r}: it cannot be asked "
                "for single syncs, so that a first load cannot be divided; remove `shards`, and run with --full-refresh"
            )


def _within(sync_id: str, page: Page) -> Page:
    return page if page.cursor is None else replace(page, cursor=shard_cursor(sync_id, page.cursor))


def split_cursor(cursor: str) -> tuple[str, str]:
    """Returns the sync that a shard's cursor is in, and the source's own cursor."""
    sync_id, inner = msgspec.json.decode(cursor, type=tuple[str, str])
    return sync_id, inner


def shard_cursor(sync_id: str, cursor: str) -> str:
    """Returns the cursor of a shard that stands there in that sync."""
    return msgspec.json.encode((sync_id, cursor)).decode()


def shard_positions(passed: Iterable[tuple[datetime, str]]) -> tuple[tuple[datetime, str], ...]:
    """Returns positions that a shard passed as positions of the whole stream: records of other syncs may be later there, by SLACK."""
    return tuple((stream_time + SLACK, split_cursor(cursor)[1]) for stream_time, cursor in passed)
