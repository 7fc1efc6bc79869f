"""This module sums up what a run of a collection comes to: while it goes on, and what is told about it in the end."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce

from sequin_pipeline.ledger.counts import ChildCounts, Counts
from sequin_pipeline.ledger.drift import Drift, Sample
from sequin_pipeline.ledger.held_deletes import HeldDeletes
from sequin_pipeline.ledger.rejects import PARENT, WAITING, OpenRejects, content_hash
from sequin_pipeline.ledger.syncs import SyncCount, add_up
from sequin_pipeline.read.stream import Portion
from sequin_pipeline.runs.bottleneck import bottleneck
from sequin_pipeline.write.child_rows import added
from sequin_pipeline.write.job import Committed

NO_ROWS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Progress:
    """This value says how far a run has come; `stream_time` is the greatest `inserted_at` handed over to be written."""

    label: str
    pages: int
    records: int
    seconds: float
    stream_time: datetime | None = None


@dataclass(frozen=True)
class SyncOutcome:
    """This value says what a run did, for the materialization's metadata and the checks.

    `counts_by_window` is keyed by partition. `outside` were records outside the asked windows, passed over. `swept` are rows that were
    only marked as deleted before the collection was told to remove them. `lag_seconds`: 0 at the end of the stream, else the age of the
    last record read; None of a backfill, which has no end of the stream to be behind of. `rows` is the table's size by the ledger's
    running total. Of the rejected records, `missing_parents` still wait for a row which a foreign key points to, `discarded` had been given
    up before, and `settled` waited for another row or version, and were stored when the run ended; of what an earlier attempt at the
    run rejected, nothing is counted. `held_deletes` are those of the table that wait to be accepted, of all runs. `seconds` are by stage,
    and with lanes add up to more than `total`; `lanes` is None where collections of a queue share them. `notes` are what the source had
    to say. `is_partial`: shards of a first load are left, so that no window is complete. `syncs`: what came of each sync, `children` of the
    rows of each child table, which then had so many `child_rows`.
    """

    counts: Counts
    counts_by_window: Mapping[str, Counts]
    rows: int
    cursor: str | None
    lag_seconds: float | None
    pages: int
    requests: int
    bytes: int
    retries: int
    rate_limit_seconds: float
    wal_bytes: int
    outside: int
    swept: int
    refilled: int
    seconds: Mapping[str, float]
    open_rejects: int
    missing_parents: int
    discarded: int
    settled: int
    reject_examples: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    required_missing: Mapping[str, int] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)
    held_deletes: tuple[HeldDeletes, ...] = ()
    lanes: int | None = 1
    is_partial: bool = False
    syncs: tuple[SyncCount, ...] = ()
    children: Mapping[str, ChildCounts] = field(default_factory=dict)
    child_rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def bottleneck(self) -> str | None:
        """This says which stage set the pace; None of a run that was too short, or shared its deliveries with others."""
        return None if self.lanes is None else bottleneck(self.seconds, lanes=self.lanes)


def nothing_read(note: str) -> SyncOutcome:
    """Returns what a run has come to that found nothing to do for it, and says why."""
    totals = Totals()
    totals.notes[note] = None
    outcome = totals.outcome(rows=0, cursor=None, lag_seconds=None, rejects=OpenRejects(0, 0, ()), drift=Drift(), held_deletes=())
    return replace(outcome, is_partial=True)


def summed(outcomes: Sequence[SyncOutcome]) -> SyncOutcome:
    """Returns what reads of one run after each other have come to; what holds for the table is as the last one found it."""
    return reduce(_sum, outcomes)


def _sum(one: SyncOutcome, then: SyncOutcome) -> SyncOutcome:
    windows = sorted({*one.counts_by_window, *then.counts_by_window})
    return replace(
        then,
        counts=one.counts + then.counts,
        counts_by_window={
            key: one.counts_by_window.get(key, Counts()) + then.counts_by_window.get(key, Counts()) for key in windows
        },
        pages=one.pages + then.pages,
        requests=one.requests + then.requests,
        bytes=one.bytes + then.bytes,
        retries=one.retries + then.retries,
        wal_bytes=one.wal_bytes + then.wal_bytes,
        outside=one.outside + then.outside,
        swept=one.swept + then.swept,
        refilled=one.refilled + then.refilled,
        missing_parents=one.missing_parents + then.missing_parents,
        discarded=one.discarded + then.discarded,
        settled=one.settled + then.settled,
        rate_limit_seconds=one.rate_limit_seconds + then.rate_limit_seconds,
        syncs=tuple(add_up((*one.syncs, *then.syncs)).values()),
        children=added(one.children, then.children),
        seconds={stage: one.seconds.get(stage, 0.0) + then.seconds.get(stage, 0.0) for stage in {**one.seconds, **then.seconds}},
        notes=tuple(dict.fromkeys([*one.notes, *then.notes])),
        required_missing=dict(Counter(one.required_missing) + Counter(then.required_missing)),
        drift=then.drift if then.counts.fetched else one.drift,
    )


class Totals:
    """This class keeps the sums of one run under way."""

    def __init__(self) -> None:
        self.swept = 0
        self.refilled = 0
        self.settled = Counter[str]()
        """This counts by class how many of those that were rejected have been stored when the run ended."""
        self.met: set[bytes] = set()
        """These are the hashes of records that were rejected and wait for another row or version."""
        self.sample = Sample()
        self.notes: dict[str, None] = {}
        self._started = time.perf_counter()
        self._counts: dict[str, Counts] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._sums: Counter[str] = Counter()
        self._required_missing: Counter[str] = Counter()
        self._rate_limit_seconds = 0.0
        self._syncs: dict[str, SyncCount] = {}
        self._children: dict[str, ChildCounts] = {}

    @property
    def seconds(self) -> float:
        """This is the time since the run began."""
        return time.perf_counter() - self._started

    @property
    def pages(self) -> int:
        """This is the number of pages read so far."""
        return self._sums["pages"]

    @property
    def records(self) -> int:
        """This is the number of records read so far."""
        return self._sums["records"]

    @property
    def has_changed_rows(self) -> bool:
        """This is true where anything has been written for which a reject may have waited."""
        counts = sum(self._counts.values(), Counts())
        return bool(self.swept or self.refilled or counts.inserted or counts.updated or counts.deleted)

    def add_portion(self, portion: Portion) -> None:
        """Adds pages that were read."""
        for page in portion.pages:
            cost = page.cost
            self.notes |= dict.fromkeys(page.notes)
            self._sums.update(pages=1, requests=cost.requests, bytes=cost.bytes, retries=cost.retries)
            self._rate_limit_seconds += cost.rate_limit_seconds
            self._seconds["fetch"] += cost.seconds
        self._sums.update(outside=portion.outside, records=portion.normalized.fetched)
        self._seconds["wait"] += portion.wait_seconds
        self._seconds["normalize"] += portion.normalize_seconds
        self.sample.add(portion.normalized)

    def add_committed(self, committed: Committed) -> None:
        """Adds a batch that was written."""
        for key, counts in committed.counts.items():
            self._counts[key] = self._counts.get(key, Counts()) + counts
        for stage, seconds in committed.seconds.items():
            self._seconds[stage] += seconds
        self._syncs = add_up((*self._syncs.values(), *committed.syncs))
        self._children = added(self._children, committed.children)
        self._sums["wal_bytes"] += committed.wal_bytes
        self._sums["discarded"] += committed.discarded
        self._sums["missing_parents"] += sum(reject.reject_class == PARENT for reject in committed.rejects)
        self.met.update(content_hash(reject.raw) for reject in committed.rejects if reject.reject_class in WAITING)
        self._required_missing.update(column for reject in committed.rejects for column in reject.missing)

    def outcome(
        self,
        *,
        rows: int,
        cursor: str | None,
        lag_seconds: float | None,
        rejects: OpenRejects,
        drift: Drift,
        held_deletes: tuple[HeldDeletes, ...],
        lanes: int = 1,
        child_rows: Mapping[str, int] = NO_ROWS,
    ) -> SyncOutcome:
        """Returns what the run has come to."""
        return SyncOutcome(
            counts=sum(self._counts.values(), Counts()),
            counts_by_window=dict(self._counts),
            rows=rows,
            cursor=cursor,
            lag_seconds=lag_seconds,
            pages=self.pages,
            requests=self._sums["requests"],
            bytes=self._sums["bytes"],
            retries=self._sums["retries"],
            rate_limit_seconds=self._rate_limit_seconds,
            wal_bytes=self._sums["wal_bytes"],
            outside=self._sums["outside"],
            swept=self.swept,
            refilled=self.refilled,
            seconds={**self._seconds, "total": self.seconds},
            open_rejects=rejects.count,
            missing_parents=self._sums["missing_parents"] - self.settled[PARENT],
            discarded=self._sums["discarded"],
            settled=self.settled.total(),
            reject_examples=rejects.examples,
            notes=tuple(self.notes),
            required_missing=dict(self._required_missing),
            drift=drift,
            held_deletes=held_deletes,
            lanes=lanes,
            syncs=tuple(self._syncs.values()),
            children=self._children,
            child_rows=child_rows,
        )
