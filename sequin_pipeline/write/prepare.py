"""This module prepares what one commit brings, and what each lane will send of it, before anybody talks with Postgres. Pure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.held_deletes import HeldDeletes
from sequin_pipeline.ledger.syncs import SyncCount
from sequin_pipeline.normalize.normalizer import NormalizedPages, Reject
from sequin_pipeline.read.cursor_position import BEGINNING, CursorPosition
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch, Place, build_batches
from sequin_pipeline.write.buckets import Lane, buckets_of
from sequin_pipeline.write.known_rows import Asking, Question, build_question
from sequin_pipeline.write.misfits import take_out_misfits
from sequin_pipeline.write.sync_counts import count_by_sync
from sequin_pipeline.write.ways import Encoded, encode_ahead

NOTHING_REFUSED: Mapping[Place, Reject] = {}
NOTHING_KNOWN: Mapping[int, Counts] = {}


@dataclass(frozen=True)
class PageGroup:
    """This value holds the pages of one commit, in the order of their arrival, and what is committed with them.

    `position` is where the stream stands behind the pages, and `moves_cursor` whether the live cursor goes there. `passed` are the
    positions on the way that the ledger keeps, already thinned out. `listed` is what the pages say of listings, and `held` what such
    a listing did not see, if that is too much to be deleted unasked. `forgotten_keys` are those of the rows that were taken out of the
    pages because they are forgotten, `forgotten_rejects` how many rejects were. `read_as`, of pages that were read from the table itself,
    tells by id who had written each row when it was read.
    """

    pages: tuple[NormalizedPages, ...]
    position: CursorPosition = BEGINNING
    moves_cursor: bool = False
    passed: tuple[tuple[datetime, str], ...] = ()
    listed: tuple[Listed, ...] = ()
    held: HeldDeletes | None = None
    forgotten_keys: tuple[str, ...] = field(default=(), repr=False)
    forgotten_rejects: int = 0
    read_as: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def forgotten(self) -> int:
        """This is how many records of the pages are forgotten."""
        return len(self.forgotten_keys) + self.forgotten_rejects


@dataclass(frozen=True)
class Prepared:
    """This value is a page group as one writer will send it.

    `batch`: the rows of its lane. `encoded`: their bytes; None where the table is asked first, unless all are expected to be new to it.
    `question`: what it is asked then. `known`: once it has answered, counts of the rows that it knows, by index of the window.
    `rejects`: what the writer commits as such. `seconds`: what preparing took. `syncs`: rows and rejects by sync.
    `forgotten`: how many of the lane's records are left out, as was known at `generation` of what is forgotten.
    """

    group: PageGroup
    batch: Batch = field(repr=False)
    encoded: Encoded | None = field(repr=False)
    question: Question | None = field(repr=False)
    rejects: tuple[Reject, ...] = field(repr=False)
    seconds: float
    known: Mapping[int, Counts] = field(default_factory=lambda: NOTHING_KNOWN)
    forgotten: int = 0
    generation: int = 0
    syncs: tuple[SyncCount, ...] = field(default=(), repr=False)

    @property
    def is_lazy(self) -> bool:
        """This is true where the batch is without the columns declared of `data`."""
        return any(pages.is_lazy for pages in self.group.pages)


def prepare(
    target: Target,
    group: PageGroup,
    lanes: Sequence[tuple[Lane, Asking]],
    *,
    window_starts: Sequence[datetime],
    without: Mapping[Place, Reject] = NOTHING_REFUSED,
    generation: int = 0,
) -> list[Prepared]:
    """Makes what each of these lanes will send of a page group. Rejects and positions go with the first lane.

    What is forgotten has been taken out of the pages, as of this `generation`.

    `without` are rows that Postgres refused, or that turned out not to fit: asked for by the one writer that had them, whose rejects
    they become.
    """
    started = time.perf_counter()
    group = replace(group, pages=tuple(take_out_misfits(target, pages) for pages in group.pages))
    batches = build_batches(
        target, group.pages, window_starts=window_starts, without=frozenset(without), lanes=[lane for lane, _ in lanes]
    )
    built_seconds = (time.perf_counter() - started) / len(lanes)
    prepared = []
    for (lane, asking), batch in zip(lanes, batches, strict=True):
        started = time.perf_counter()
        is_first = lane.index == 0
        came_as_rejects = [reject for pages in group.pages for reject in pages.rejects] if is_first else []
        asks, is_lazy = asking.is_worthwhile(batch), any(pages.is_lazy for pages in group.pages)
        earlier = earlier_hashes(group.pages, batch) if asks and not is_lazy and asking.meets_earlier_hashes else None
        prepared.append(
            Prepared(
                group if is_first else replace(group, passed=()),
                batch,
                encoded=None if is_lazy else encode_ahead(target, batch, asking),
                question=build_question(target, batch, earlier) if asks else None,
                rejects=(*came_as_rejects, *without.values()),
                seconds=built_seconds + time.perf_counter() - started,
                forgotten=_share(group.forgotten_keys, lane) + (group.forgotten_rejects if is_first else 0),
                generation=generation,
                syncs=count_by_sync(target, batch, (*came_as_rejects, *without.values())),
            )
        )
    return prepared


def earlier_hashes(pages: Sequence[NormalizedPages], batch: Batch) -> pa.Array | None:
    """Returns what builds before the present framing would have stored as the hashes of a batch with all columns; None for a frame's."""
    normalizer = next((each.normalizer for each in pages), None)
    return None if normalizer is None or len(batch) == 0 else normalizer.earlier_hashes(batch.select(normalizer.earlier_names))


def _share(keys: Sequence[str], lane: Lane) -> int:
    return len(keys) if lane.count == 1 or not keys else int(lane.owns(buckets_of(keys)).sum())
