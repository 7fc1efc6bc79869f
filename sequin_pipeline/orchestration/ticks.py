"""This module looks for news before a tick launches runs: in several collections at once, well within the minute that a tick may take.

What is news is decided in runs/news.py. Here is who is asked, how long anybody waits, and what is said of it. Whoever cannot be asked, or
has not answered in time, gets a run, which tells what is wrong.
"""

import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import wait
from dataclasses import dataclass

import dagster as dg

from sequin_pipeline import threads
from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import PipelineError, SourceError, SourceUnavailable
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.quiet import NothingNew, remember_nothing_new
from sequin_pipeline.orchestration.executor import pool_places
from sequin_pipeline.orchestration.resources import LiveState
from sequin_pipeline.orchestration.unmarked_windows import unfinished_in_dagster
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse, attempt
from sequin_pipeline.runs.news import Due, look_for_news
from sequin_pipeline.sources import Source, SourceIdentity
from sequin_pipeline.sources.patience import patience
from sequin_pipeline.sources.registry import source_kind

TICK_SECONDS = 30.0
"""A tick looks for news for this long at most: half of what Dagster waits for a tick."""

ANSWER_SECONDS = 5.0
"""A source has this long to answer for one collection, all repetitions included: what takes longer is left to a run, which has time."""

MOST_FAILURES = 2
"""A source that did not answer for this many collections is not asked for others in the same tick: each would wait as long."""

MOST_BESIDE = 8
"""This many are asked at once where no pool bounds it: each has a connection to the warehouse, too."""

Answer = NothingNew | Due


@dataclass(frozen=True)
class Found:
    """This value says what a tick found: in `due`, by label, why a run is needed, and what has nothing new.

    `moved` are collections that another run has read on in the meantime.
    """

    due: Mapping[str, str]
    nothing_new: Sequence[str]
    moved: Sequence[str]
    seconds: float

    @property
    def told(self) -> str:
        """This is said of the tick in Dagster's UI."""
        parts = []
        if self.due:
            parts.append(f"Runs for {_count(self.due)}")
        if self.nothing_new:
            parts.append(f"{'n' if parts else 'N'}othing new in {_count(self.nothing_new)}")
        if self.moved:
            parts.append(f"{'a' if parts else 'A'}nother run has just read on in {_count(self.moved)}")
        reasons = "".join(f"; {label}: {why}" for label, why in sorted(self.due.items()))
        return f"{', '.join(parts)} (asked in {self.seconds:.1f} s){reasons}"


def looks_first(collections: Sequence[Collection]) -> bool:
    """Says whether collections of one source are asked: a queue delivers what it is asked for, and a connector is a process."""
    kind = source_kind(collections[0].source.kind)
    return kind.can_reread and kind.is_cheap_to_ask


def find_due(
    instance: dg.DagsterInstance,
    job: str,
    collections: Sequence[Collection],
    state: LiveState,
    *,
    warehouse: Warehouse,
    open_source: Callable[[Collection], Source],
    seconds: float = TICK_SECONDS,
) -> Found:
    """Finds which of the collections need a run, and remembers in the ledger which do not. Raises WarehouseError."""
    started = time.monotonic()
    due = {one.label: "no live run has come to its end yet" for one in collections if one.label not in state.completed_runs}
    read = [collection for collection in collections if collection.label not in due]
    due |= dict.fromkeys(unfinished_in_dagster(instance, job, read, state), "the last run failed")
    asked = [collection for collection in read if collection.label not in due]
    answers: Mapping[str, Answer] = {}
    if asked:
        looks = _Looks(asked, warehouse, open_source, ends_at=started + seconds)
        answers = looks.ask(min(len(asked), pool_places(instance) or MOST_BESIDE))
    for collection in asked:
        answer = answers.get(collection.label, Due("it has not answered in time"))
        if isinstance(answer, Due):
            due[collection.label] = answer.why
    without_news = {label: answer for label, answer in answers.items() if isinstance(answer, NothingNew)}
    remembered = _remember(warehouse, [*without_news.values()])
    quiet = [label for label, answer in without_news.items() if answer.table_name in remembered]
    moved = [label for label in without_news if label not in quiet]
    return Found(due, quiet, moved, time.monotonic() - started)


class _Looks:
    """This class looks for news in several threads; each has a connection to the warehouse, and goes on until no collection is left."""

    def __init__(
        self,
        collections: Sequence[Collection],
        warehouse: Warehouse,
        open_source: Callable[[Collection], Source],
        *,
        ends_at: float,
    ) -> None:
        self._waiting: queue.SimpleQueue[Collection] = queue.SimpleQueue()
        for collection in collections:
            self._waiting.put(collection)
        self._warehouse = warehouse
        self._open_source = open_source
        self._ends_at = ends_at
        self._answers: dict[str, Answer] = {}
        self._failures: Counter[SourceIdentity] = Counter()

    def ask(self, beside: int) -> dict[str, Answer]:
        """Returns by label what has been answered by the end; a thread that is not done by then is left alone."""
        wait([threads.start(self._work, "sequin-news") for _ in range(beside)], timeout=self._seconds_left())
        return self._answers.copy()

    def _seconds_left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def _work(self) -> None:
        with Session(self._warehouse) as session:
            while self._seconds_left():
                try:
                    collection = self._waiting.get_nowait()
                except queue.Empty:
                    return
                with patience(min(ANSWER_SECONDS, self._seconds_left())):
                    self._answers[collection.label] = self._answer(session, collection)

    def _answer(self, session: Session, collection: Collection) -> Answer:
        opened: list[Source] = []

        def open_once(collection: Collection) -> Source:
            opened.append(self._open_source(collection))
            if self._failures[opened[0].identity] >= MOST_FAILURES:
                raise SourceUnavailable("it does not answer for other collections")
            return opened[0]

        try:
            return look_for_news(session, collection, Ledger(str(collection.table), collection.label), open_once)
        except PipelineError as error:
            if isinstance(error, SourceUnavailable):
                self._failures.update(source.identity for source in opened)
            return Due(f"its source could not be asked ({error})" if isinstance(error, SourceError) else str(error))


def _remember(warehouse: Warehouse, without_news: Sequence[NothingNew]) -> frozenset[str]:
    if not without_news:
        return frozenset()

    def remember() -> frozenset[str]:
        with warehouse.connect() as connection:
            return remember_nothing_new(connection, without_news)

    return attempt(remember, "remembering that nothing is new", sleep=warehouse.sleep)


def _count(collections: Sized) -> str:
    return "1 collection" if len(collections) == 1 else f"{len(collections)} collections"
