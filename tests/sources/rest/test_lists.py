"""Lists of a REST API land whole, whatever way they are paged, and also while they change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sequin_pipeline.sources import ReadRequest, TimeWindow
from tests.sources.rest.reading import CURSOR, LIST, PAGINATORS, Runs
from tests.support.rest_api import fake_rest


@pytest.mark.parametrize("order", [1, -1, 0], ids=["ascending", "descending", "unordered"])
@pytest.mark.parametrize("paginator", [pytest.param(paginator, id=name) for name, paginator in PAGINATORS.items()])
def test_every_way_of_paging_brings_every_object_and_the_next_run_what_is_new(
    warehouse_url: str, paginator: dict[str, Any], order: int
) -> None:
    with fake_rest(order=order) as fake:
        fake.fill(7)
        runs = Runs(
            fake,
            warehouse_url,
            replace(LIST, paginator=paginator, is_ascending=order == 1, is_descending=order == -1),
        )
        first = runs.sync()
        fake.put("t3", status="changed")
        fake.put("new", status="active")
        runs.sync()

        assert first.counts.inserted == 7
        assert runs.live() == fake.things


def test_changes_within_one_second_all_arrive(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(5, seconds=0)
        runs = Runs(fake, warehouse_url)
        runs.sync()
        fake.put("t0", status="first")
        runs.sync(happens=lambda number: fake.put("t0", status="second"))
        fake.now -= timedelta(minutes=1)
        runs.sync()

        assert runs.live() == fake.things
        assert fake.things["t0"]["status"] == "second"


@pytest.mark.parametrize("is_exclusive", [False, True], ids=["from", "after"])
@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.0])
def test_objects_of_one_second_on_both_sides_of_a_page_all_arrive(
    warehouse_url: str, seconds: float, *, is_exclusive: bool
) -> None:
    with fake_rest(since_is_exclusive=is_exclusive) as fake:
        fake.fill(9, seconds=seconds)
        runs = Runs(fake, warehouse_url)
        runs.sync()

        assert runs.live() == fake.things


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(
    "paginator", [pytest.param(PAGINATORS[name], id=name) for name in ("page_number", "offset", "header_link")]
)
def test_object_that_moves_to_the_end_while_the_list_is_read_pushes_no_other_out_of_it(
    warehouse_url: str, paginator: dict[str, Any], at: int
) -> None:
    with fake_rest() as fake:
        fake.fill(7)

        def change(number: int) -> None:
            if number == at:
                fake.now += timedelta(seconds=1)
                fake.put("t0", status="moved")

        fake.happens = change
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=paginator))
        runs.sync()

        assert runs.live() == fake.things


@pytest.mark.parametrize("at", [1, 2, 3])
def test_listing_of_counted_pages_marks_nothing_that_only_moved_while_it_was_read(warehouse_url: str, at: int) -> None:
    with fake_rest(order=1) as fake:
        fake.fill(7)
        runs = Runs(fake, warehouse_url, replace(LIST, params={}, is_ascending=False))
        runs.sync()
        del fake.things["t5"]
        fake.now += timedelta(days=1)
        fake.answers = -4

        def change(number: int) -> None:
            if number == at:
                fake.put("t0", status="moved")

        fake.happens = change
        runs.sync()
        runs.sync()

        assert runs.deleted() == {"t5"}
        assert runs.live() == fake.things


def test_newest_first_list_is_read_no_further_than_to_what_is_known(warehouse_url: str) -> None:
    with fake_rest(order=-1) as fake:
        fake.fill(20)
        runs = Runs(fake, warehouse_url, replace(LIST, params={}, is_ascending=False, is_descending=True))
        runs.sync()
        fake.put("t3", status="changed")
        before = len(fake.lists())
        runs.sync()

        assert len(fake.lists()) - before == 2
        assert runs.live() == fake.things


def test_what_changes_while_an_unordered_list_is_read_comes_with_the_next_run(warehouse_url: str) -> None:
    with fake_rest(order=0) as fake:
        fake.fill(6)

        def change(number: int) -> None:
            fake.now += timedelta(seconds=1)
            if number == 1:
                fake.put("t0", status="behind us")
                fake.now += timedelta(seconds=1)
                fake.put("t5", status="before us, and later")

        fake.happens = change
        runs = Runs(fake, warehouse_url, replace(LIST, is_ascending=False, paginator=CURSOR))
        runs.sync()
        runs.sync()

        assert runs.live() == fake.things


def test_each_combination_of_values_is_a_partition_with_a_place_of_its_own(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        for number, name in enumerate(fake.things):
            fake.things[name]["org"] = "ab"[number % 2]
        runs = Runs(
            fake,
            warehouse_url,
            replace(LIST, params={"since": "{since}", "org": "{org}"}, each={"org": ("a", "b")}),
        )
        outcome = runs.sync()
        fake.now += timedelta(seconds=5)
        fake.put("t0", org="a")
        before = len(fake.lists())
        runs.sync()

        assert runs.live() == fake.things
        first_asked = {org: next(one for one in fake.lists()[before:] if one.query["org"] == org).query["since"] for org in "ab"}
        assert first_asked == {"a": "2026-01-01T00:00:02Z", "b": "2026-01-01T00:00:03Z"}
        assert [note for note in outcome.notes if note.startswith("changes: 2 partitions, ")]


def test_flagged_objects_are_marked_and_come_back(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(3)
        runs = Runs(fake, warehouse_url)
        runs.sync()
        fake.put("t1", gone=True)
        runs.sync()
        gone = runs.deleted()
        fake.put("t1", gone=False)
        runs.sync()

        assert (gone, runs.deleted()) == ({"t1"}, set())


@pytest.mark.parametrize(
    "version", [("updated_at",), ("nowhere",)], ids=["listed at a newer version", "without a version of its own"]
)
def test_equal_content_at_a_newer_time_writes_nothing(warehouse_url: str, version: tuple[str, ...]) -> None:
    with fake_rest() as fake:
        fake.fill(3)
        runs = Runs(fake, warehouse_url, replace(LIST, version=version, params={}, is_ascending=False))
        runs.sync()
        fake.now += timedelta(days=2)
        again = runs.sync()

        assert again.counts.fetched > 3
        assert (again.counts.inserted, again.counts.updated, again.counts.deleted) == (0, 0, 0)


def test_window_is_asked_for_from_its_start(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(5, seconds=86_400)
        runs = Runs(fake, warehouse_url, replace(LIST, params={"since": "{since}", "until": "{until}"}, created=None))
        window = TimeWindow(datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC))
        pages = list(runs.source().pages(ReadRequest(frozenset({"demo:thing"}), window=window)))

        assert fake.lists()[0].query["since"] == "2026-01-02T23:59:59Z"
        assert fake.lists()[0].query["until"] == "2026-01-05T00:00:01Z"
        assert b'"t1"' in pages[0].records
        assert all(page.cursor is None for page in pages)


def test_object_that_comes_late_between_two_pages_is_no_fault_of_the_order(warehouse_url: str) -> None:
    """It pushes the last object of the page before into the next one, where it comes again."""
    with fake_rest(page_records=3) as fake:
        fake.fill(8)

        def come_late(number: int) -> None:
            if number == 1:
                fake.put("late", updated_at="2026-01-01T00:00:01Z")

        fake.happens = come_late
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=CURSOR))
        runs.sync()

        assert set(runs.live()) == set(fake.things) - {"late"}
