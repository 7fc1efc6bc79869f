"""This module runs writers of one table beside each other.

Each takes the ids of its own buckets from every page group, and commits all of them in order. Each has a thread, a session and a
cursor of its own, and the collection's cursor is the lowest of theirs. While one page group is being committed, the next is read
and prepared: so Postgres, also with one writer, waits for nobody who is faster than it is.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

from sequin_pipeline.ledger.ledger import LiveCursor
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.write.buckets import Lane
from sequin_pipeline.write.forgotten_rows import without_forgotten
from sequin_pipeline.write.interpreter_priority import RightOfWay
from sequin_pipeline.write.job import Committed, WriteJob
from sequin_pipeline.write.prepare import PageGroup, Prepared, prepare
from sequin_pipeline.write.writer import TableWriter

Finished = tuple[PageGroup, tuple[Committed, ...]]
"""This is a page group that every lane has committed, and what each did."""


class Lanes:
    """This class hands page groups to the writers, in order.

    It is a context manager, whose end waits for the threads. There is a lane for each of the `sessions`, which moves the live
    cursor at the same place of `cursors`.
    """

    def __init__(self, job: WriteJob, sessions: Sequence[Session], cursors: Sequence[LiveCursor | None]) -> None:
        self._job = job
        self._right_of_way = RightOfWay()
        self._writers = tuple(
            TableWriter(session, job, lane=Lane(index, len(sessions)), cursor=cursor, right_of_way=self._right_of_way)
            for index, (session, cursor) in enumerate(zip(sessions, cursors, strict=True))
        )
        self._threads: list[ThreadPoolExecutor] = []
        self._under_way: deque[tuple[PageGroup, list[Future[Committed]]]] = deque()
        self._errors: dict[int, Exception] = {}

    def __enter__(self) -> Self:
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"sequin-lane-{index}") for index in range(len(self._writers))]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for thread in self._threads:
            thread.shutdown()

    def give_way(self) -> None:
        """Returns when no lane needs the interpreter, for the thread that prepares, before it keeps the interpreter busy."""
        self._right_of_way.give_way()

    @property
    def reads_lazily(self) -> bool:
        """This is true where every lane expects to know most of what comes, so that pages had best be lazy."""
        target = self._job.target
        # A history table takes what is passed over as a duplicate, too; and what an application's table would change in silence is looked
        # for in whole pages.
        is_possible = target.history_table is None and not any(child.target.is_unmanaged for child in target.children)
        return is_possible and all(writer.asking.reads_lazily for writer in self._writers)

    def commit(self, group: PageGroup) -> Iterator[Finished]:
        """Hands the page group over, and yields what all lanes have committed meanwhile, in order.

        It is a generator: nothing is handed over before the first value is asked for. Raises what a lane raised; then nothing more is
        committed by that lane, and the others end with what they were handed.
        """
        self.give_way()
        if not (self.reads_lazily and all(pages.is_lazy for pages in group.pages)):
            # Here, where it is done once for all lanes: the rejects that are found are the first one's.
            group = replace(group, pages=tuple(pages.completed for pages in group.pages))
        lanes = [(writer.lane, writer.asking) for writer in self._writers]
        forgotten = max((writer.forgotten for writer in self._writers), key=lambda known: known.generation)
        prepared = prepare(
            self._job.target,
            without_forgotten(self._job.target, group, forgotten),
            lanes,
            window_starts=self._job.window_starts,
            generation=forgotten.generation,
        )
        futures = [
            thread.submit(self._commit, writer, part)
            for thread, writer, part in zip(self._threads, self._writers, prepared, strict=True)
        ]
        self._under_way.append((group, futures))
        # One group lies ready behind that which is being committed; more only costs memory.
        while len(self._under_way) > 1:
            yield self._wait()

    def finish(self) -> Iterator[Finished]:
        """Yields the rest, once every lane has come to its end."""
        while self._under_way:
            yield self._wait()

    def _wait(self) -> Finished:
        group, futures = self._under_way.popleft()
        return group, tuple(future.result() for future in futures)

    def _commit(self, writer: TableWriter, prepared: Prepared) -> Committed:
        lane = writer.lane.index
        if lane in self._errors:
            # To go on behind a batch that was not committed would lose its records.
            raise self._errors[lane]
        try:
            return writer.commit(prepared)
        except Exception as error:
            self._errors[lane] = error
            raise
