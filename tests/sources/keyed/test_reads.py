"""In which order a keyed collection is read: first everything, then what is new, and in time what is gone."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sequin_pipeline.errors import CursorRefused, SourceRefused, SourceUnavailable
from sequin_pipeline.sources import ReadRequest, TimeWindow
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.source import KeyedSource
from tests.sources.keyed.shelf import PLAIN, THING, VERSIONED, Shelf, open_shelf
from tests.support.reading import rejects, rows
from tests.support.syncing import sync

START = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def live(url: str) -> dict[str, int]:
    return dict(rows(url, "upstream_id", "amount", table="demo.thing where not deleted"))


def deleted(url: str) -> set[str]:
    return {name for (name,) in rows(url, "upstream_id", table="demo.thing where deleted")}


def filled(of: Shape = VERSIONED) -> Shelf:
    shelf = Shelf(of)
    for number in range(6):
        shelf.put(f"t{number}", number)
    return shelf


def test_first_run_reads_everything_and_the_next_one_only_what_is_new(warehouse_url: str) -> None:
    shelf = filled()

    first = sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    shelf.put("t0", 100, 2)
    shelf.put("t9", 101)
    second = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + HOUR))

    assert first.counts.inserted == 6
    assert (second.counts.inserted, second.counts.updated, second.counts.unchanged) == (1, 1, 1)
    assert [reading.state for reading in shelf.readings] == [None, b"5"]
    assert live(warehouse_url) == {"t0": 2, "t1": 1, "t2": 1, "t3": 1, "t4": 1, "t5": 1, "t9": 1}


def test_listing_finds_what_is_gone_once_it_is_due(warehouse_url: str) -> None:
    shelf = filled()
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    del shelf.things["t1"]

    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY - HOUR))
    before = deleted(warehouse_url)
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))
    after = deleted(warehouse_url)
    again = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY + HOUR))

    assert (before, after) == (set(), {"t1"})
    assert [reading.lists for reading in shelf.readings] == [False, False, False, True, False]
    assert again.counts.inserted + again.counts.updated + again.counts.deleted == 0


@pytest.mark.parametrize("of", [VERSIONED, PLAIN], ids=["with versions", "listed at each run"])
def test_listing_that_lacks_much_marks_nothing_until_that_is_accepted(warehouse_url: str, of: Shape) -> None:
    shelf = Shelf(of)
    for number in range(130):
        shelf.put(f"t{number:03}", number)
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    for number in range(120):
        del shelf.things[f"t{number:03}"]

    held = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))
    shelf.put("new", 200)
    later = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY + HOUR))
    before = deleted(warehouse_url)
    accepted = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY + 2 * HOUR), accept_deletes=120)

    assert [one.rows for one in (*held.held_deletes, *later.held_deletes)] == [120, 120]
    assert (later.counts.inserted, before) == (1, set())
    assert (accepted.counts.deleted, accepted.held_deletes) == (120, ())
    assert live(warehouse_url).keys() == {*shelf.things}


def test_listing_of_what_is_unchanged_writes_nothing(warehouse_url: str) -> None:
    shelf = filled()
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))

    listing = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))

    assert (listing.counts.fetched, listing.counts.inserted, listing.counts.updated, listing.counts.deleted) == (7, 0, 0, 0)


@pytest.mark.parametrize("full_refresh", [False, True], ids=["the next listing", "a full refresh"])
def test_rows_that_were_marked_by_mistake_come_back(warehouse_url: str, *, full_refresh: bool) -> None:
    shelf = filled()
    kept = dict(shelf.things)
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    shelf.things = {"t5": kept["t5"]}
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))
    wrongly_marked = deleted(warehouse_url)
    shelf.things = kept

    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + 2 * DAY), full_refresh=full_refresh)

    assert wrongly_marked == {"t0", "t1", "t2", "t3", "t4"}
    assert (live(warehouse_url), deleted(warehouse_url)) == (dict.fromkeys(kept, 1), set())


@pytest.mark.parametrize("breaks_at", [1, 2])
def test_listing_that_breaks_off_marks_nothing_and_the_next_run_completes_it(warehouse_url: str, breaks_at: int) -> None:
    shelf = filled()
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    del shelf.things["t1"]
    shelf.breaks_at = breaks_at

    # The news are one page, so that it is the listing which breaks off.
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))
    marked = deleted(warehouse_url)
    shelf.breaks_at = None
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY + HOUR))

    assert (marked, deleted(warehouse_url)) == (set(), {"t1"})


@pytest.mark.parametrize(("resumes", "state"), [(True, b"3"), (False, None)], ids=["gone on with", "begun again"])
def test_listing_that_broke_off_is_gone_on_with_where_the_feed_can(*, resumes: bool, state: bytes | None) -> None:
    shelf = filled(replace(VERSIONED, resumes_listings=resumes))
    first = last_cursor(open_shelf(shelf, START), None)
    shelf.breaks_at = 2
    reached: list[str] = []

    with pytest.raises(SourceUnavailable):
        last_cursor(open_shelf(shelf, START + DAY), first, reached)
    shelf.breaks_at = None
    last_cursor(open_shelf(shelf, START + DAY), reached[-1])

    assert shelf.readings[-1].state == state


def test_first_read_that_breaks_off_goes_on_where_it_was(warehouse_url: str) -> None:
    shelf = filled()
    shelf.breaks_at = 2
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    shelf.breaks_at = None

    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + HOUR))

    assert [reading.state for reading in shelf.readings] == [None, b"3"]
    assert live(warehouse_url) == dict.fromkeys(["t0", "t1", "t2", "t3", "t4", "t5"], 1)


def test_collection_without_versions_is_listed_at_each_run(warehouse_url: str) -> None:
    shelf = filled(PLAIN)

    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    del shelf.things["t1"]
    shelf.put("t2", 2, amount=7)
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START + timedelta(minutes=1)))
    shelf.put("t2", 2, amount=8)
    third = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + timedelta(minutes=2)))

    assert live(warehouse_url) == {"t0": 1, "t2": 8, "t3": 1, "t4": 1, "t5": 1}
    assert deleted(warehouse_url) == {"t1"}
    assert (third.counts.updated, third.counts.unchanged) == (1, 4)


def test_listing_with_something_unreadable_in_it_marks_nothing_and_says_why(warehouse_url: str) -> None:
    shelf = filled()
    sync(warehouse_url, of=THING, source=open_shelf(shelf, START))
    del shelf.things["t1"]
    shelf.odd = [b'{"name": "no key"}']

    outcome = sync(warehouse_url, of=THING, source=open_shelf(shelf, START + DAY))

    assert deleted(warehouse_url) == set()
    assert "not everything in the list could be told apart, so no object counts as deleted" in outcome.notes
    assert list(rejects(warehouse_url)) == [None]


def test_window_is_read_beside_the_runs_and_holds_what_was_created_in_it(warehouse_url: str) -> None:
    shelf = filled()
    window = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))

    pages = list(open_shelf(shelf, START).pages(ReadRequest(frozenset({"demo:thing"}), after="not read", window=window)))

    assert [page.cursor for page in pages] == [None, None, None]
    assert shelf.readings[0].window == window


def test_window_before_the_present_is_refused_where_objects_tell_no_time() -> None:
    shelf = filled(PLAIN)
    window = TimeWindow(None, datetime(2026, 1, 1, tzinfo=UTC))

    with pytest.raises(SourceRefused) as refused:
        list(open_shelf(shelf, START).pages(ReadRequest(frozenset({"demo:thing"}), window=window)))

    assert str(refused.value) == (
        "the objects of demo:thing tell no time, so that nobody can say which of them belong in a window that ended at 2026-01-01 00:00 "
        "UTC: sync it without windows, or ask for a window that reaches to the present, which holds all of them"
    )
    assert shelf.readings == []


@pytest.mark.parametrize("cursor", ["", "5", "{}", '{"main": {}}', '{"floor": 1, "listed": 2, "other": 3}', "null"])
def test_cursor_of_another_source_is_refused_in_words(cursor: str) -> None:
    with pytest.raises(CursorRefused, match=r"is not one of source 'shelf': run again with --full-refresh to read everything"):
        list(open_shelf(filled(), START).pages(ReadRequest(frozenset({"demo:thing"}), after=cursor)))


def test_feed_is_closed_as_soon_as_its_reader_leaves() -> None:
    shelf = filled()
    pages = open_shelf(shelf, START).pages(ReadRequest(frozenset({"demo:thing"})))

    next(pages)
    pages.close()  # type: ignore[attr-defined] # a generator

    assert shelf.closed == 1


def test_many_objects_at_once_are_handed_on_as_pages_of_which_the_last_has_the_cursor() -> None:
    shelf = Shelf(odd=[b'{"id": %d}' % number for number in range(2001)])

    pages = list(open_shelf(shelf, START).pages(ReadRequest(frozenset({"demo:thing"}))))

    assert [len(json.loads(page.records)) for page in pages] == [1000, 1000, 1]
    assert [page.cursor is None for page in pages] == [True, True, False]


def test_other_syncs_have_nothing() -> None:
    shelf = filled()

    pages = list(open_shelf(shelf, START).pages(ReadRequest(frozenset({"demo:thing"}), sync_ids=frozenset({"other"}))))

    assert (pages, shelf.readings) == ([], [])


def last_cursor(source: KeyedSource, after: str | None, reached: list[str] | None = None) -> str:
    """Reads to the end; the cursors go to `reached` as they come."""
    cursors = [] if reached is None else reached
    cursors.extend(
        page.cursor for page in source.pages(ReadRequest(frozenset({"demo:thing"}), after=after)) if page.cursor is not None
    )
    return cursors[-1]
