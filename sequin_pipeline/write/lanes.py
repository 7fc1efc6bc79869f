"""Writers of one table beside each other: each takes the ids of its own buckets from every delivery, and commits all of them in order.

Each has a thread, a connection and a cursor of its own, and the collection's cursor is the lowest of theirs. While one delivery is being
committed, the next is read and prepared: so Postgres, also with one writer, waits for nobody who is faster than it is.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sequin_pipeline.write.interpreter_priority import RightOfWay
from sequin_pipeline.write.prepare import Delivery, Prepared, prepare
from sequin_pipeline.write.writer import Committed, TableWriter


@dataclass(frozen=True)
class Finished:
    """A delivery that every lane has committed, and what each did."""

    delivery: Delivery = field(repr=False)
    parts: tuple[Committed, ...]


class Lanes:
    """Hands deliveries to the writers, in order. A context manager, which closes the writers too."""

    def __init__(self, writers: Sequence[TableWriter]) -> None:
        self.writers = tuple(writers)
        self._right_of_way = RightOfWay()
        for writer in self.writers:
            writer.right_of_way = self._right_of_way
        self._stack = ExitStack()
        self._threads: list[ThreadPoolExecutor] = []
        self._under_way: deque[tuple[Delivery, list[Future[Committed]]]] = deque()
        self._errors: dict[int, Exception] = {}

    def __enter__(self) -> Self:
        for writer in self.writers:
            self._stack.enter_context(writer)
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"sequin-lane-{writer.lane.index}") for writer in self.writers]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for thread in self._threads:
            thread.shutdown()
        self._stack.close()

    def give_way(self) -> None:
        """To be called by the thread that prepares, before it keeps the interpreter busy: returns when no lane needs it."""
        self._right_of_way.give_way()

    def commit(self, delivery: Delivery) -> Iterator[Finished]:
        """Hands the delivery over, and yields what all lanes have committed meanwhile, in order. Raises what a lane raised; then
        nothing more is committed by that lane, and the others end with what they were handed."""
        self.give_way()
        first = self.writers[0]
        sendings = [writer.sending for writer in self.writers]
        prepared = prepare(first.target, delivery, sendings, window_starts=first.window_starts)
        futures = [
            thread.submit(self._commit, writer, part)
            for thread, writer, part in zip(self._threads, self.writers, prepared, strict=True)
        ]
        self._under_way.append((delivery, futures))
        # One delivery lies ready behind that which is being committed; more only costs memory.
        while len(self._under_way) > 1:
            yield self._wait()

    def finish(self) -> Iterator[Finished]:
        """The rest, once every lane has come to its end."""
        while self._under_way:
            yield self._wait()

    def _wait(self) -> Finished:
        delivery, futures = self._under_way.popleft()
        return Finished(delivery, tuple(future.result() for future in futures))

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
