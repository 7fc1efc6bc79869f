"""What a batch brings, and what each lane will send of it: made before Postgres is talked with. Pure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sequin_pipeline.normalize.normalizer import NormalizedPages, Reject
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import Batch, Place, build_batches
from sequin_pipeline.write.buckets import Lane
from sequin_pipeline.write.known_rows import Question, can_ask, question
from sequin_pipeline.write.misfits import fit

NOTHING_REFUSED: Mapping[Place, Reject] = {}


@dataclass(frozen=True)
class CursorMove:
    """Where the batch brings the live cursor."""

    cursor: str | None
    stream_time: datetime | None


@dataclass(frozen=True)
class Delivery:
    """What one batch brings: pages in the order of their arrival, and what is to be committed with them.

    `move` is None for whoever does not own the live cursor; `positions` are already thinned. `cursor` is the place behind the pages,
    whoever owns it. `listed` is what the pages say of listings.
    """

    pages: tuple[NormalizedPages, ...]
    move: CursorMove | None = None
    positions: tuple[tuple[datetime, str], ...] = ()
    cursor: str | None = None
    listed: tuple[Listed, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A delivery as one writer will send it: its share of the rows, as a batch and as bytes, and the rejects that it commits.

    Where the table is asked first which of the rows it knows, there is a `question` instead of `encoded`; `seconds` is what preparing
    took.
    """

    delivery: Delivery
    batch: Batch = field(repr=False)
    encoded: staging.EncodedBatch | None = field(repr=False)
    question: Question | None = field(repr=False)
    rejects: tuple[Reject, ...] = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class Sending:
    """What a writer takes of every delivery, the rows of its lane; `asks_first` where the table most likely knows them already."""

    lane: Lane
    asks_first: bool


def prepare(
    target: Target,
    delivery: Delivery,
    sendings: Sequence[Sending],
    *,
    window_starts: Sequence[datetime],
    without: Mapping[Place, Reject] = NOTHING_REFUSED,
) -> list[Prepared]:
    """What each of the writers of one table will send of a delivery. Rejects and positions go with the first lane.

    `without` are rows that Postgres refused: asked for by the one writer that had them, whose rejects they become.
    """
    started = time.perf_counter()
    if target.is_unmanaged:
        delivery = replace(delivery, pages=tuple(fit(target, pages) for pages in delivery.pages))
    batches = build_batches(
        target,
        delivery.pages,
        window_starts=window_starts,
        without=frozenset(without),
        lanes=[sending.lane for sending in sendings],
    )
    built_seconds = (time.perf_counter() - started) / len(sendings)
    prepared = []
    for sending, batch in zip(sendings, batches, strict=True):
        started = time.perf_counter()
        is_first = sending.lane.index == 0
        came_as_rejects = [reject for pages in delivery.pages for reject in pages.rejects] if is_first else []
        asks = sending.asks_first and can_ask(target, batch)
        prepared.append(
            Prepared(
                delivery if is_first else replace(delivery, positions=()),
                batch,
                encoded=None if asks else staging.encode(target, batch),
                question=question(target, batch) if asks else None,
                rejects=(*came_as_rejects, *without.values()),
                seconds=built_seconds + time.perf_counter() - started,
            )
        )
    return prepared
