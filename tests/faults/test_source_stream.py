"""Streams that break or strain what the API promises of them: repeated, out of order, in motion, with clocks that cannot be relied on."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.sandbox.feeds import RecordedFeed, append_lines
from sequin_pipeline.sandbox.stream import cursor_at
from sequin_pipeline.sources.sequin import SequinSource
from tests.faults.faulty_api import cursor_after, faulty_api, things
from tests.faults.landing import Landing, assert_says, lines
from tests.sources.reading import TOKEN, StandingTime, source
from tests.sources.scripted import page, scripted_server
from tests.support.builders import record
from tests.support.fold import Record
from tests.support.reading import query


class LivelyFeed(RecordedFeed):
    """A stream to which something happens before each answer, for as long as `events` last."""

    def __init__(self, records: Sequence[Record], events: Iterator[Sequence[Record]]) -> None:
        super().__init__(lines(*records))
        self.events = events
        self.appended: list[Record] = []

    def catch_up(self) -> None:
        happened = next(self.events, ())
        append_lines(self.stream, lines(*happened))
        self.appended += happened


@pytest.mark.parametrize(
    ("fault", "cursor"),
    [
        pytest.param("cursor-loop", cursor_after(4), id="cursor loop"),
        pytest.param("cursor-back", cursor_after(2), id="cursor that leads back"),
    ],
)
def test_circle_of_cursors_ends_the_run_before_it_repeats_itself(landing: Landing, fault: str, cursor: str) -> None:
    records = things(1, 6)

    with faulty_api(records) as api:
        api.set_faults(f"{fault},from=3")
        with pytest.raises(SourceFault) as caught:
            landing.sync(source(api.url))
        landing.deliver(*records[:4])
        landing.check(cursor=cursor_after(4))
        api.set_faults(f"{fault},at=2")
        outcome = landing.sync(source(api.url))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '{cursor_after(4)}' from {api.url}: cursor '{cursor}', which was used before in the same "
        r"read: the source goes round in a circle, and the same again when the request was repeated once",
    )
    landing.deliver(*records[4:])
    landing.check(cursor=cursor_after(6))
    assert outcome.pages == 2


def test_stream_without_end_is_given_up_behind_its_last_empty_page(landing: Landing) -> None:
    """With a batch a page, so that the empty ones are a batch of their own."""
    records = things(1, 4)

    with faulty_api(records) as api:
        api.set_faults("empty-page,from=2")
        with pytest.raises(SourceFault) as caught:
            landing.sync(SequinSource(api.url, TOKEN, max_empty_pages=3, options=StandingTime().options()), batch_records=1)
        landing.deliver(*records[:2])
        landing.check(cursor=cursor_at(2, mark=5))
        api.set_faults()
        landing.sync(source(api.url))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '{cursor_at(2, mark=4)}' from {api.url}: 4 empty pages in a row, each with a new cursor, "
        r"where records or the end of the stream were expected: ask whoever runs the source; the next run continues from the last of "
        r"these cursors",
    )
    landing.deliver(*records[2:])
    landing.check(cursor=cursor_after(4))


def test_end_of_the_stream_that_is_told_too_early_is_no_end_for_the_next_run(landing: Landing) -> None:
    records = things(1, 6)
    script = [page(*records[:2], cursor="1"), page(*records[2:4]), page(*records[2:4], cursor="2"), page(*records[4:])]

    with scripted_server(*script) as server:
        landing.sync(source(server.url))
        landing.deliver(*records[:4])
        landing.check(cursor="1")
        landing.sync(source(server.url))

    landing.deliver(*records[2:])
    landing.check(cursor="2")
    assert server.cursors_asked == [None, "1", "1", "2"]


def test_repeated_page_changes_nothing_and_is_counted(landing: Landing) -> None:
    records = things(1, 6)

    with faulty_api(records) as api:
        api.set_faults("duplicate-page,at=2")
        outcome = landing.sync(source(api.url))

    landing.deliver(*records, *records[:2])
    landing.check(cursor=cursor_after(6))
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.duplicate) == (8, 6, 2)


def test_pages_out_of_order_end_in_the_newest_version_of_each_record(landing: Landing) -> None:
    """Batches of one page: also across them the order does not matter."""
    newest = [record("a", 9, data={"status": "new"}), record("b", 7, deleted=True, data=None)]
    older = [record("a", 3), record("b", 8)]
    oldest = [record("b", 2), record("a", 1)]

    with scripted_server(page(*newest, cursor="1"), page(*older, cursor="2"), page(*oldest, cursor="3"), page()) as server:
        outcome = landing.sync(source(server.url), batch_records=1)

    landing.deliver(*newest, *older, *oldest)
    landing.check(cursor="3")
    assert (outcome.counts.stale, outcome.counts.updated) == (3, 1)


def test_records_of_another_collection_are_rejected_one_by_one(landing: Landing) -> None:
    good = things(1, 2)
    foreign = record("f", 3, collection_id="demo:other")

    with scripted_server(page(good[0], foreign, cursor="1"), page(good[1], cursor="2"), page(), page()) as server:
        landing.sync(source(server.url))
        landing.sync(source(server.url))

    landing.deliver(*good, rejected=[foreign])
    landing.check(cursor="2")
    assert query(landing.url, "select record_id, class, reason from sequin_pipeline.rejects") == [
        (
            "f",
            "envelope",
            "collection_id is the string 'demo:other', but records of 'demo:thing' were asked for: fix the source or the request",
        )
    ]


def test_stream_that_never_stops_growing_ends_the_run_at_what_stood_there_when_it_began(landing: Landing) -> None:
    """And the next runs get the rest: at least a page each, since the source's `Date` leaves out fractions of a second."""
    before = things(1, 4)
    feed = LivelyFeed(before, ([record(f"{name}{n}", n, inserted_at=_soon()) for name in "ab"] for n in itertools.count(5)))

    with faulty_api(feed) as api:
        first = landing.sync(source(api.url))
        landing.deliver(*before, *feed.appended[:2])
        landing.check(cursor=cursor_after(6))
        feed.events = iter(())
        for _ in feed.appended[2::2]:
            landing.sync(source(api.url))

    landing.deliver(*feed.appended[2:])
    landing.check(cursor=cursor_after(len(before) + len(feed.appended)))
    assert first.pages == 3
    assert len(feed.appended) >= 6


def _soon() -> str:
    """After the second that the `Date` of an answer names."""
    return (datetime.now(UTC) + timedelta(seconds=1)).isoformat()


def test_records_that_move_while_they_are_read_are_read_where_they_come_to_stand(landing: Landing) -> None:
    records = things(1, 6)
    moved = [record("r1", 11), record("r5", 12), record("r3", 13, deleted=True, data=None)]
    """One that was read already, one that was about to be, and one that is deleted before it was ever read."""

    with faulty_api(LivelyFeed(records, iter([(), moved]))) as api:
        landing.sync(source(api.url))

    landing.deliver(records[0], records[1], records[3], records[5], *moved)
    landing.check(cursor=cursor_after(9))


def test_clock_of_the_source_that_goes_back_ends_no_run_early(landing: Landing) -> None:
    """As behind a load balancer, where the clock of one server is a year late: its `Date` lies before all that it serves."""
    records = things(1, 6)
    late, right = "Sun, 01 Jan 2023 00:00:00 GMT", "Mon, 01 Jul 2024 00:00:00 GMT"
    script = [
        page(*records[:2], cursor="1", Date=late),
        page(*records[2:4], cursor="2", Date=right),
        page(*records[4:], cursor="3", Date=late),
        page(Date=late),
    ]

    with scripted_server(*script) as server:
        landing.sync(source(server.url))

    landing.deliver(*records)
    landing.check(cursor="3")


def test_time_of_the_stream_that_goes_back_is_read_to_the_end(landing: Landing) -> None:
    """`inserted_at` falls within pages and from page to page, is missing, and lies in the future; versions still grow."""
    times = ["2024-06-01", "2024-03-01", "2024-03-02", "2024-01-01", None, "2399-12-31", "2024-02-01", "2023-02-01"]
    records = [
        record(f"r{number}", number, inserted_at=time and f"{time}T00:00:00+00:00") for number, time in enumerate(times, start=1)
    ]

    with faulty_api(records) as api:
        landing.sync(source(api.url), batch_records=1)

    landing.deliver(*records)
    landing.check(cursor=cursor_after(8))
