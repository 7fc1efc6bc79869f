"""A source that fails between batches: what it gave before is kept, and so is the place."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, Room
from sequin_pipeline.runs.collection_run import BATCH_PAGES, run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.waits import PATIENCE_SECONDS


class FailingSource(ListSource):
    """Ends every read with an outage instead of the end of its stream."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield from super().pages(request)
        raise SourceUnavailable("no answer")


def cursor(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute("select cursor from sequin_pipeline.cursors").fetchone()


def test_part_of_a_batch_that_was_read_before_an_outage_is_committed(warehouse_url: str) -> None:
    source = FailingSource([[record("a", 1)], [record("b", 2)]])

    with pytest.raises(SourceUnavailable, match="no answer"):
        run_sync(RecordStream(live_run_config(collection()), source), Warehouse(warehouse_url), run_id="run")

    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select id from demo.thing order by id").fetchall() == [("a",), ("b",)]
    assert cursor(warehouse_url) == ("2",)


def test_many_empty_pages_move_the_cursor(warehouse_url: str) -> None:
    source = FailingSource([[] for _ in range(BATCH_PAGES + 3)])

    with pytest.raises(SourceUnavailable):
        run_sync(RecordStream(live_run_config(collection()), source), Warehouse(warehouse_url), run_id="run")

    assert cursor(warehouse_url) == (str(BATCH_PAGES + 3),)
    assert source.commits == [str(BATCH_PAGES), str(BATCH_PAGES + 3)]


def test_full_refresh_forgets_positions_with_the_cursor(warehouse_url: str) -> None:
    run_sync(
        RecordStream(live_run_config(collection()), ListSource([[record("a", 1)]])), Warehouse(warehouse_url), run_id="first"
    )

    run_sync(
        RecordStream(live_run_config(collection(), full_refresh=True), ListSource([[]])), Warehouse(warehouse_url), run_id="again"
    )

    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select cursor from sequin_pipeline.positions").fetchall() == []


def test_full_refresh_that_is_tried_again_goes_on_where_it_came_to(warehouse_url: str) -> None:
    source = FailingSource([[record("a", 1)]])
    run_config = live_run_config(collection(), full_refresh=True)
    with pytest.raises(SourceUnavailable):
        run_sync(RecordStream(run_config, source), Warehouse(warehouse_url), run_id="run")

    with pytest.raises(SourceUnavailable):
        run_sync(RecordStream(run_config, source), Warehouse(warehouse_url), run_id="run")

    assert [request.after for request in source.requests] == [None, "1"]


class Held(ListSource):
    """Holds something open behind its pages, as a connection or a process; `is_held` says whether it still does."""

    is_held = False

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        # Somebody else may know the generator too: then nothing closes it by the way.
        self.generator = self._held(request)
        return self.generator

    def _held(self, request: ReadRequest) -> Iterator[Page]:
        self.is_held = True
        try:
            yield from super().pages(request)
        finally:
            self.is_held = False


@pytest.mark.parametrize("pages", [1, 40], ids=["at its end", "after the first of many pages"])
def test_source_is_closed_by_the_end_of_the_reading(pages: int) -> None:
    source = Held([[record("a", 1)]] * pages)
    room = Room(records=1, bytes=1, pages=1)
    portions = RecordStream(live_run_config(collection()), source).portions(None, room, while_waiting=lambda: None)

    next(portions)
    if pages == 1:
        next(portions, None)
    portions.close()

    assert not source.is_held


def test_read_that_leaves_a_part_to_the_next_run_has_not_reached_the_end() -> None:
    class Patient(ListSource):
        def pages(self, request: ReadRequest) -> Iterator[Page]:
            for page in super().pages(request):
                yield replace(page, ends_early=True)

    stream = RecordStream(live_run_config(collection()), Patient([[record("a", 1)]]))

    read = list(stream.portions(None, Room(records=10, bytes=10_000, pages=10), while_waiting=lambda: None))

    assert (len(read), stream.reached_end) == (1, False)


class WaitingSource(ListSource):
    """Gives one page, and then waits for what never comes, as long as it is wanted."""

    def __init__(self) -> None:
        super().__init__([[record("a", 1)]])
        self.has_let_go = threading.Event()

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        try:
            yield from super().pages(request)
            request.stop.wait()
        finally:
            self.has_let_go.set()


def test_source_that_waits_for_its_next_page_is_told_when_nobody_wants_it_any_longer() -> None:
    source = WaitingSource()
    portions = RecordStream(live_run_config(collection()), source).portions(
        None, Room(records=1, bytes=1, pages=1), while_waiting=lambda: None
    )
    next(portions)

    portions.close()

    assert source.has_let_go.wait(PATIENCE_SECONDS)
