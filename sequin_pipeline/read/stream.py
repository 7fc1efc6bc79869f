"""This module holds what a run reads: pages fetched ahead while the last ones are being normalized and written.

A `RecordStream` is what an asset hands to the IO manager. It is lazy: nothing is requested before it is pulled from, at most
`PAGES_AHEAD` pages wait in memory, whatever the length of the stream, and so many at most are normalized together. Where reading starts is
decided by who pulls (the run, which sees the ledger); where it ends is decided here.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceFault
from sequin_pipeline.normalize.normalizer import NormalizedPages, Normalizer
from sequin_pipeline.normalize.page_reader import ROW_NUMBER, ParsedPage
from sequin_pipeline.read.pages_ahead import PAGES_AHEAD, PagesAhead
from sequin_pipeline.sources import Page, ReadRequest, Source, TimeWindow
from sequin_pipeline.windows import MOST_LIVE_WINDOWS, SLACK


@dataclass(frozen=True)
class RunConfig:
    """This value says what one run of one collection was asked for.

    `live` resumes at the live cursor and never looks at times; `backfill` reads `window` again, beside whoever else is at work.
    `others`: what becomes of rows that the source turns out not to have, where the run takes a table over or is a full refresh.
    `accept_deletes`: up to so many rows of each sync may be marked as deleted because a listing did not see them (None: the limit).
    `partition_keys` are the windows that the run materializes, oldest first, and `window_starts` their lower bounds. `only_shard`: of
    a first load that is divided, the run reads this shard; None: all that are left. `shard` is the one that is being read, 0 for none.
    """

    collection: Collection
    mode: Literal["live", "backfill"]
    window: TimeWindow | None
    partition_keys: tuple[str, ...]
    window_starts: tuple[datetime, ...]
    sync_id: str | None = None
    full_refresh: bool = False
    adopt: bool = False
    others: Literal["keep", "mark"] = "keep"
    accept_deletes: int | None = None
    only_shard: int | None = None
    shard: int = 0

    @property
    def ledger_mode(self) -> str:
        """This is what the ledger calls the run: that of a shard is not live, since it does not come to the end of the stream."""
        return "load" if self.shard else self.mode

    @property
    def is_restricted(self) -> bool:
        """This is true where a run reads one sync only.

        It says nothing about the others: it moves no cursor and completes no window.
        """
        return self.sync_id is not None

    @property
    def has_many_windows(self) -> bool:
        """This is true where a run covers more windows than a live run asks for.

        Telling Dagster of each would take longer than the run.
        """
        return len(self.partition_keys) > MOST_LIVE_WINDOWS


@dataclass(frozen=True)
class Portion:
    """A portion is pages that were there together, and one frame of them.

    The frame is without the rows outside the run's window (`outside` of them).

    `times` are, for each page, the least and the greatest time at which a version that it holds entered the stream: both None where no
    record tells, the least also where one of them does not. Then how long the pages were waited for, and what normalizing took.
    """

    pages: tuple[Page, ...] = field(repr=False)
    times: tuple[tuple[datetime | None, datetime | None], ...]
    normalized: NormalizedPages = field(repr=False)
    outside: int = 0
    normalize_seconds: float = 0.0
    wait_seconds: float = 0.0

    @property
    def is_ahead_of_its_answer(self) -> bool:
        """This is true where some version entered the stream after the answer that holds it.

        Then the source's clocks contradict each other, and a run that compared them would end after every page, however long the
        stream.
        """
        return any(
            newest_at is not None and newest_at > page.received_at + SLACK
            for page, (_, newest_at) in zip(self.pages, self.times, strict=True)
        )

    def ends_after(self, moment: datetime) -> bool:
        """Tells whether the last page holds records, and every one of them entered the stream after that."""
        return _is_after(self.times[-1], moment)

    def is_news(self, began_at: datetime) -> bool:
        """Tells whether every record entered the stream after a run began, as far as the source's clocks can be believed."""
        return not self.is_ahead_of_its_answer and all(_is_after(times, began_at) for times in self.times)


def _is_after(times: tuple[datetime | None, datetime | None], moment: datetime) -> bool:
    return times[0] is not None and times[0] > moment


class Room:
    """The room is what the page group under way still takes.

    The stream takes from it page by page, and whoever gathers the group begins the next. One that is full makes portions of one
    page.
    """

    def __init__(self, *, records: int, bytes: int, pages: int) -> None:  # noqa: A002 - the unit
        self._most = (records, bytes, pages)
        self.begin()

    def begin(self) -> None:
        """Makes room for the next page group."""
        self.records, self.bytes, self.pages = self._most

    def take(self, parsed: ParsedPage) -> None:
        """Takes the room of one page."""
        self.records -= len(parsed)
        self.bytes -= len(parsed.records)
        self.pages -= 1

    @property
    def is_full(self) -> bool:
        """This is true where nothing is left: a page group is larger than that by a part of its last page."""
        return self.records <= 0 or self.bytes <= 0 or self.pages <= 0


class RecordStream:
    """A stream holds the records of one collection that a run asks for.

    Once they have been read, `reached_end` tells whether the stream ended there.
    """

    def __init__(self, run_config: RunConfig, source: Source) -> None:
        self.run_config = run_config
        self.source = source
        self.reached_end = False

    def portions(
        self,
        after: str | None,
        room: Room,
        *,
        while_waiting: Callable[[], None],
        give_way: Callable[[], None] = lambda: None,
        reads_lazily: Callable[[], bool] = lambda: False,
    ) -> Generator[Portion, None, None]:
        """Yields pages from cursor `after` to where the run ends; `reached_end` tells whether that is the end of the stream.

        A portion ends with the page that fills `room`, which whoever pulls must begin anew for each page group. `while_waiting` is called
        about once a second while no page is there, `give_way` before anything that keeps the interpreter busy. `reads_lazily` tells whether
        the next pages had best be lazy. Raises SourceError; closing stops the thread, soon.
        """
        request = ReadRequest(
            collections=frozenset({self.run_config.collection.id}),
            after=after,
            window=self.run_config.window if self.run_config.mode == "backfill" else None,
            sync_ids=frozenset({self.run_config.sync_id}) if self.run_config.sync_id else None,
        )
        yield from self._read(request, room, while_waiting, give_way, reads_lazily)

    def _read(
        self,
        request: ReadRequest,
        room: Room,
        while_waiting: Callable[[], None],
        give_way: Callable[[], None],
        reads_lazily: Callable[[], bool],
    ) -> Generator[Portion, None, None]:
        with closing(PagesAhead(self.source.pages(request), stop=request.stop, while_waiting=while_waiting)) as fetched:
            ends_early = False
            for portion in self._until_end(fetched, room, give_way, reads_lazily):
                ends_early = portion.pages[-1].ends_early
                yield portion
            self.reached_end = fetched.has_ended and not ends_early

    def _until_end(
        self, fetched: PagesAhead, room: Room, give_way: Callable[[], None], reads_lazily: Callable[[], bool]
    ) -> Iterator[Portion]:
        """Ends behind the first page of records that all entered the stream too late for the run, or where the stream does."""
        window = self.run_config.window if self.run_config.mode == "backfill" and not self.run_config.full_refresh else None
        end = None if window is None else window.end + SLACK
        normalizer = Normalizer(self.run_config.collection)
        clocks_agree = True
        while True:
            started = time.perf_counter()
            page = fetched.take()
            wait_seconds = time.perf_counter() - started
            if page is None:
                return
            # Everything that stood in the stream when the run began is read: what comes after its first answer is the next run's.
            end = end or page.received_at
            parse = partial(normalizer.parse, lazily=reads_lazily())
            portion, fault = _portion_from(page, fetched, room, normalizer, parse, end=end, give_way=give_way)
            if portion is not None:
                if window is not None:
                    portion = _restrict(portion, window)
                    room.records += portion.outside
                else:
                    clocks_agree = clocks_agree and not portion.is_ahead_of_its_answer
                yield replace(portion, wait_seconds=wait_seconds)
                # No page but the last can lie behind the end.
                if clocks_agree and portion.ends_after(end):
                    return
            if fault is not None:
                # Not before the pages that came before it.
                raise fault


def _portion_from(
    page: Page,
    fetched: PagesAhead,
    room: Room,
    normalizer: Normalizer,
    parse: Callable[[bytes], ParsedPage],
    *,
    end: datetime,
    give_way: Callable[[], None],
) -> tuple[Portion | None, SourceFault | None]:
    """Returns the page and those that wait behind it, and what is wrong with the next one where that is no page.

    It takes as many as there is room for, up to one where the read may end.
    """
    parts: list[tuple[Page, ParsedPage]] = []
    seconds = 0.0
    following: Page | None = page
    fault: SourceFault | None = None
    while following is not None:
        give_way()
        started = time.perf_counter()
        try:
            parsed = parse(following.records)
        except SourceFault as error:
            fault = error
            break
        parts.append((following, parsed))
        room.take(parsed)
        seconds += time.perf_counter() - started
        is_last = room.is_full or len(parts) >= PAGES_AHEAD or following.completes_a_listing or parsed.may_be_after(end)
        following = None if is_last else fetched.take_waiting()
    if not parts:
        return None, fault
    give_way()
    started = time.perf_counter()
    portion = _portion(parts, normalizer)
    return replace(portion, normalize_seconds=seconds + time.perf_counter() - started), fault


def normalized_portion(page: Page, normalizer: Normalizer) -> Portion:
    """Normalizes a page by itself, whole. Raises SourceFault where it is none."""
    started = time.perf_counter()
    portion = _portion([(page, normalizer.parse(page.records))], normalizer)
    return replace(portion, normalize_seconds=time.perf_counter() - started)


def _portion(parts: Sequence[tuple[Page, ParsedPage]], normalizer: Normalizer) -> Portion:
    pages, parsed = zip(*parts, strict=True)
    normalized = normalizer.normalize(parsed)
    return Portion(pages, tuple(_times(normalized)), normalized)


def _times(normalized: NormalizedPages) -> Iterator[tuple[datetime | None, datetime | None]]:
    times = pa.Array.from_pandas(normalized.frame["record_inserted_at"])
    bounds = [*np.searchsorted(normalized.frame[ROW_NUMBER].to_numpy(), normalized.starts), len(times)]
    for start, end in pairwise(bounds):
        of_page = times[start:end]
        extremes = pc.min_max(of_page)
        yield None if of_page.null_count else extremes["min"].as_py(), extremes["max"].as_py()


def _restrict(portion: Portion, window: TimeWindow) -> Portion:
    normalized = portion.normalized
    frame = normalized.frame
    inserted_at = frame["record_inserted_at"]
    is_outside = inserted_at >= window.end
    if window.start is not None:
        is_outside |= inserted_at < window.start
    # A record without the time of its version cannot be placed: it is written rather than passed over.
    is_outside = is_outside.fillna(value=False).astype(bool)
    outside = int(is_outside.sum())
    if not outside:
        return portion
    kept = frame[~is_outside].reset_index(drop=True)
    # Of what does not fit nobody knows the time: it is a reject wherever it stands.
    unfit = normalized.read_declared(is_outside.to_numpy()).unfit if normalized.is_lazy else {}
    rejects = (*normalized.rejects, *unfit.values())
    return replace(portion, normalized=replace(normalized, frame=kept, rejects=rejects), outside=outside - len(unfit))
