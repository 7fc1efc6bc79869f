"""A source that fails between batches: what it gave before is kept, and so is the place."""

from collections.abc import Iterator

import psycopg
import pytest

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import BATCH_PAGES, run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, record


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
