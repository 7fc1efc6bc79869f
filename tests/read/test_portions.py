"""Pages that wait together become one frame: as large as their batch allows, and no page is told by another's times or faults."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from sequin_pipeline.errors import SourceFault, SourceUnavailable
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.pages_ahead import PAGES_AHEAD
from sequin_pipeline.read.stream import Portion, RecordStream, Room, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Listed, Page, ReadRequest, TimeWindow
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, page_of, record
from tests.support.waits import PATIENCE_SECONDS

ROOMY = 1_000


class FetchedPages(ListSource):
    """Gives these pages; `have_come` once all of them wait to be taken, which are at most PAGES_AHEAD behind the first."""

    def __init__(self, pages: Sequence[Page], *, failure: Exception | None = None) -> None:
        super().__init__([])
        assert len(pages) <= PAGES_AHEAD + 1
        self._pages = pages
        self._failure = failure
        self._have_come = threading.Event()

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield from self._pages
        self._have_come.set()
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        assert self._have_come.wait(PATIENCE_SECONDS)


def room(*, records: int = ROOMY, bytes: int = 1_000_000, pages: int = ROOMY) -> Room:  # noqa: A002 - as Room's own
    return Room(records=records, bytes=bytes, pages=pages)


def portions(
    pages: Sequence[Page], *, within: Room | None = None, run_config: RunConfig | None = None, failure: Exception | None = None
) -> Iterator[Portion]:
    """Of pages that all wait before the first is read."""
    source = FetchedPages(pages, failure=failure)
    stream = RecordStream(run_config or live_run_config(collection()), source)
    return stream.portions(None, within or room(), while_waiting=lambda: None, give_way=source.wait)


def ids(portion: Portion) -> list[str]:
    return list(portion.normalized.frame["id"])


PAGES = [page_of([record("a", 1), record("b", 2)], "1"), page_of([], "2"), page_of([record("c", 3)], "3")]


def test_pages_that_wait_are_one_frame_and_each_keeps_its_cursor_and_its_times() -> None:
    untimed = page_of([record("d", 4, inserted_at=None), record("e", 5)], "4")

    (portion,) = portions([*PAGES, untimed])

    def minutes(count: int) -> datetime:
        return EPOCH + timedelta(minutes=count)

    assert ids(portion) == ["a", "b", "c", "d", "e"]
    assert [page.cursor for page in portion.pages] == ["1", "2", "3", "4"]
    assert portion.times == ((minutes(1), minutes(2)), (None, None), (minutes(3), minutes(3)), (None, minutes(5)))


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        pytest.param(room(records=2), [["a", "b"], ["c"]], id="records"),
        pytest.param(room(pages=2), [["a", "b"], ["c"]], id="pages"),
        pytest.param(room(bytes=1), [["a", "b"], [], ["c"]], id="bytes"),
    ],
)
def test_portion_ends_where_its_batch_is_full(within: Room, expected: list[list[str]]) -> None:
    found = []
    for portion in portions(PAGES, within=within):
        found.append(ids(portion))
        within.begin()

    assert found == expected


def test_portion_has_only_the_room_that_portions_before_it_left() -> None:
    within = room(records=3)
    reading = portions([*PAGES, page_of([record("d", 4)], "4"), page_of([record("e", 5)], "5")], within=within)
    within.records = 1

    assert ids(next(reading)) == ["a", "b"]
    within.begin()
    assert ids(next(reading)) == ["c", "d", "e"]


def test_records_outside_the_window_take_no_room() -> None:
    run_config = replace(live_run_config(collection()), mode="backfill", window=TimeWindow(EPOCH, EPOCH + timedelta(minutes=2)))
    within = room(records=10)

    (portion,) = portions(PAGES, within=within, run_config=run_config)

    assert (ids(portion), portion.outside, within.records) == (["a"], 2, 9)


def test_page_that_is_none_is_told_after_the_pages_before_it() -> None:
    torn = Page(b"[}", "3", datetime(2030, 1, 1, tzinfo=UTC))
    reading = portions([*PAGES[:2], torn, PAGES[2]])

    assert ids(next(reading)) == ["a", "b"]
    with pytest.raises(SourceFault, match="a page of collection 'demo/thing' should be a JSON array of records, but"):
        next(reading)


def test_pages_that_only_together_would_be_json_are_refused(warehouse_url: str) -> None:
    halves = [page_of([record("a", 1)], "1"), Page(b'[{"id": "b]', "2", EPOCH), Page(b'[c"}]', "3", EPOCH)]
    source = FetchedPages(halves)

    with pytest.raises(SourceFault, match="should be a JSON array of records"):
        run_sync(RecordStream(live_run_config(collection()), source), Warehouse(warehouse_url), run_id="run")

    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select id from demo.thing").fetchall() == [("a",)]
        assert connection.execute("select cursor from sequin_pipeline.cursors").fetchone() == ("1",)


def test_outage_is_told_after_the_pages_before_it() -> None:
    reading = portions(PAGES, failure=SourceUnavailable("no answer"))

    assert ids(next(reading)) == ["a", "b", "c"]
    with pytest.raises(SourceUnavailable, match="no answer"):
        next(reading)


def test_page_that_completes_a_listing_comes_alone() -> None:
    complete = replace(page_of([], "2"), listed=Listed("s1", 7, is_complete=True))

    found = [[page.cursor for page in portion.pages] for portion in portions([PAGES[0], complete, PAGES[2]])]

    assert found == [["1"], ["2"], ["3"]]


def answered(received_at: datetime, *versions: int) -> Iterator[Page]:
    """Pages of one record each, by the minute at which it entered the stream."""
    for version in versions:
        yield page_of([record(f"r{version}", version)], str(version), received_at=received_at)


@pytest.mark.parametrize(
    ("minute", "versions", "expected"),
    [
        pytest.param(2, [1, 2, 3, 4], [["r1", "r2", "r3"]], id="behind the first page of news"),
        pytest.param(2, [1, 3, 500], [["r1", "r3"]], id="whatever clock comes after it"),
        pytest.param(-90, [1, 2, 3], [["r1"], ["r2"], ["r3"]], id="not where the clocks contradict each other"),
    ],
)
def test_live_read_ends_however_many_pages_wait(minute: int, versions: list[int], expected: list[list[str]]) -> None:
    received_at = EPOCH + timedelta(minutes=minute)

    assert [ids(portion) for portion in portions(list(answered(received_at, *versions)))] == expected


def test_window_is_read_to_the_first_page_behind_it_however_many_wait() -> None:
    run_config = replace(live_run_config(collection()), mode="backfill", window=TimeWindow(EPOCH, EPOCH + timedelta(minutes=2)))
    pages = list(answered(EPOCH, 1, 70, 1, 2))

    (portion,) = portions(pages, run_config=run_config)

    assert [page.cursor for page in portion.pages] == ["1", "70"]
    assert (ids(portion), portion.outside) == (["r1"], 1)


@pytest.mark.parametrize(
    "unusual",
    [record("unzoned", 3, inserted_at="2024-01-01T00:03:00"), record("numbered", 3, upstream_id=7)],
    ids=lambda it: it["id"],
)
def test_first_record_that_does_not_tell_its_time_plainly_leaves_the_end_to_the_frame(unusual: dict[str, object]) -> None:
    news = [unusual, record("b", 4)]
    pages = [*answered(EPOCH + timedelta(minutes=2), 1), page_of(news, "2"), *answered(EPOCH, 5)]

    first, *_ = portions(pages)

    assert [page.cursor for page in first.pages] == ["1", "2"]


def test_portion_is_of_no_more_pages_than_wait() -> None:
    pages = list(answered(EPOCH + timedelta(days=1), *range(1, PAGES_AHEAD + 2)))

    assert [len(portion.pages) for portion in portions(pages)] == [PAGES_AHEAD, 1]


def test_way_is_given_before_every_page_and_before_their_frame() -> None:
    source = FetchedPages(PAGES)
    given: list[str] = []

    def give_way() -> None:
        source.wait()
        given.append("way")

    stream = RecordStream(live_run_config(collection()), source)
    list(stream.portions(None, room(), while_waiting=lambda: None, give_way=give_way))

    assert len(given) == len(PAGES) + 1
