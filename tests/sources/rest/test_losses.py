"""Nothing is lost of a list that changes while it is read, pages otherwise than declared, or holds times that cannot be true."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse

from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.reads import Read, Since, SinceFormat
from tests.sources.rest.reading import LIST, PAGE_NUMBER, PAGINATORS, Runs
from tests.support.rest_api import LIST as LIST_PATH
from tests.support.rest_api import Asked, FakeRest, fake_rest

COUNTED = {
    "link in the answer": PAGINATORS["json_link"],
    "cursor that is an offset": {"type": "cursor", "cursor_path": "paging.offset", "cursor_param": "after"},
    "cursor that is the number of a page": {"type": "cursor", "cursor_path": "paging.page", "cursor_param": "page"},
}


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("way", COUNTED)
def test_object_that_moves_pushes_no_other_out_of_a_list_whose_links_count_pages(warehouse_url: str, way: str, at: int) -> None:
    with fake_rest() as fake:
        fake.fill(7)

        def change(number: int) -> None:
            if number == at:
                fake.now += timedelta(seconds=1)
                fake.put("t0", status="moved")

        fake.happens = change
        Runs(fake, warehouse_url, replace(LIST, paginator=COUNTED[way])).sync()
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=COUNTED[way]))
        runs.sync()

        assert runs.live() == fake.things


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("way", COUNTED)
def test_listing_whose_links_count_pages_marks_nothing_that_only_moved(warehouse_url: str, way: str, at: int) -> None:
    with fake_rest(order=1) as fake:
        fake.fill(7)
        runs = Runs(fake, warehouse_url, replace(LIST, params={}, is_ascending=False, paginator=COUNTED[way]))
        runs.sync()
        fake.now += timedelta(days=1)
        before = fake.answers

        def change(number: int) -> None:
            if number == before + 4 + at:
                fake.put("t0", status="moved")

        fake.happens = change
        runs.sync()

        assert runs.deleted() == set()


UNORDERED = replace(LIST, is_ascending=False)


@pytest.mark.parametrize(
    ("read", "order"),
    [
        pytest.param(replace(UNORDERED, paginator=PAGE_NUMBER), 0, id="counted pages"),
        pytest.param(replace(UNORDERED, paginator=PAGINATORS["header_link"]), 0, id="links in a header"),
        pytest.param(replace(UNORDERED, paginator=PAGINATORS["json_link"]), 0, id="links in the answer"),
        pytest.param(replace(UNORDERED, is_descending=True, params={}), -1, id="newest first"),
    ],
)
def test_object_that_is_deleted_pushes_no_other_out_of_what_is_read(warehouse_url: str, read: Read, order: int) -> None:
    with fake_rest(order=order) as fake:
        fake.fill(7)
        first = "t0" if order == 0 else "t6"

        def change(number: int) -> None:
            if number == 1:
                del fake.things[first]

        fake.happens = change
        fake.now += timedelta(hours=1)
        runs = Runs(fake, warehouse_url, read)
        runs.sync()
        fake.put("t1", status="changed")
        fake.now += timedelta(hours=1)
        runs.sync()

        assert set(runs.live()) >= set(fake.things)


FUTURES = {
    "in order": (LIST, 1),
    "newest first": (replace(UNORDERED, is_descending=True, params={}), -1),
    "unordered": (UNORDERED, 0),
    "in order, one by one": (replace(LIST, detail="things/{id}"), 1),
    "newest first, one by one": (replace(UNORDERED, is_descending=True, params={}, detail="things/{id}"), -1),
}


@pytest.mark.parametrize("way", FUTURES)
def test_object_of_a_time_to_come_hides_no_change_of_others(warehouse_url: str, way: str) -> None:
    read, order = FUTURES[way]
    with fake_rest(order=order) as fake:
        fake.fill(5)
        fake.put("wrong", updated_at="2099-01-01T00:00:00Z")
        runs = Runs(fake, warehouse_url, read)
        runs.sync()
        fake.put("t1", status="changed")
        runs.sync()

        assert runs.live()["t1"]["status"] == "changed"
        assert set(runs.live()) == set(fake.things)


@pytest.mark.parametrize("way", ["in order", "newest first"])
def test_object_asked_for_by_itself_that_was_marked_by_mistake_comes_back(warehouse_url: str, way: str) -> None:
    read, order = FUTURES[f"{way}, one by one"]
    with fake_rest(order=order) as fake:
        fake.fill(5)
        runs = Runs(fake, warehouse_url, read)
        runs.sync()
        hidden = fake.things.pop("t1")
        fake.now += timedelta(days=1)
        runs.sync()
        marked = runs.deleted()
        fake.things["t1"] = hidden
        fake.now += timedelta(days=1)
        runs.sync()

        assert (marked, runs.deleted()) == ({"t1"}, set())
        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}


@pytest.mark.parametrize("total", [{}, {"total_path": "paging.total"}], ids=["no total", "total"])
@pytest.mark.parametrize("limit", [3, 5, 100])
def test_list_that_gives_fewer_objects_than_its_limit_asks_for_lands_whole(
    warehouse_url: str, limit: int, total: dict[str, Any]
) -> None:
    with fake_rest(order=0, page_records=2) as fake:
        fake.fill(7)
        runs = Runs(fake, warehouse_url, replace(UNORDERED, params={}, paginator={"type": "offset", "limit": limit, **total}))
        runs.sync()

        assert runs.live() == fake.things


@pytest.mark.parametrize("value", ["a?b", "a#b", "50%", "50%25", "a b", "ä", "a/b"])
@pytest.mark.parametrize("detail", [None, "of/{org}/{id}"], ids=["list", "one by one"])
def test_value_of_each_stands_in_the_path_as_it_is(warehouse_url: str, value: str, detail: str | None) -> None:
    with fake_rest() as fake:
        thing = {"id": "t0", "updated_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z"}
        fake.instead[f"/api/of/{value}/all"] = lambda asked: JSONResponse({"data": [thing]})
        fake.instead[f"/api/of/{value}/t0"] = lambda asked: JSONResponse(thing)
        read = replace(LIST, path="of/{org}/all", paginator={"type": "single_page"}, each={"org": (value,)}, detail=detail)
        runs = Runs(fake, warehouse_url, read)
        runs.sync()

        assert runs.live() == {"t0": thing}


@pytest.mark.parametrize(
    "paginator",
    [
        pytest.param({"type": "cursor", "cursor_path": "[-1].id", "cursor_param": "after_id"}, id="last object's id"),
        pytest.param({"type": "cursor", "cursor_path": "$[-1].id", "cursor_param": "after_id"}, id="from the root"),
        pytest.param({"type": "json_link", "next_url_path": "[-1].next"}, id="last object's link"),
    ],
)
def test_list_without_anything_around_it_is_read_on_from_its_own_objects(warehouse_url: str, paginator: dict[str, Any]) -> None:
    def page(fake: FakeRest) -> Callable[[Asked], JSONResponse]:
        def answer(asked: Asked) -> JSONResponse:
            after = asked.query.get("after_id", "")
            rows = [{**one, "next": f"{LIST_PATH}?after_id={one['id']}"} for one in fake.things.values() if one["id"] > after]
            return JSONResponse(rows[:2])

        return answer

    with fake_rest() as fake:
        fake.fill(5)
        fake.instead[LIST_PATH] = page(fake)
        runs = Runs(fake, warehouse_url, replace(UNORDERED, params={}, select=(), paginator=paginator))
        runs.sync()

        assert set(runs.live()) == set(fake.things)


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("detail", [None, "things/{id}"], ids=["list", "one by one"])
def test_partition_that_is_refused_keeps_nobody_from_the_others_and_is_told_by_its_place(
    warehouse_url: str, status: int, detail: str | None
) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        fake.instead["/api/gone/things"] = lambda asked: JSONResponse({"message": "no"}, status)
        fake.instead["/api/there/things"] = lambda asked: JSONResponse({"data": list(fake.things.values())})
        read = replace(LIST, path="{of}/things", each={"of": ("gone", "there")}, paginator={"type": "single_page"}, detail=detail)
        runs = Runs(fake, warehouse_url, read)
        said = (
            rf"status {status} .*\(for 1 of the 2 partitions, counted in the order of `each`: 1; what the others have is stored\)"
        )
        for _ in range(2):
            with pytest.raises(SourceRefused, match=said):
                runs.sync()
            fake.put("new", status="active")
        fake.put("last")
        with pytest.raises(SourceRefused, match=said):
            runs.sync()

        assert set(runs.live()) == set(fake.things)
        assert runs.deleted() == set()


@pytest.mark.parametrize("way", ["epoch_seconds", "epoch_milliseconds", "iso"])
@pytest.mark.parametrize("lookback_seconds", [0, 86_400])
def test_nothing_is_asked_for_before_1970_however_old_the_newest_object_is(way: SinceFormat, lookback_seconds: int) -> None:
    with fake_rest() as fake:
        fake.put("t0", updated_at="1970-01-01T00:00:00Z")
        runs = Runs(fake, read=replace(LIST, since=Since(way, lookback_seconds)))
        runs.pages(after=runs.pages()[-1].cursor)

        assert {asked.query["since"] for asked in fake.lists()} == {"1970-01-01T00:00:00Z" if way == "iso" else "0"}


@pytest.mark.parametrize("paginator", [pytest.param(PAGE_NUMBER, id="page number"), *map(pytest.param, COUNTED.values())])
def test_list_that_does_not_heed_the_time_it_is_asked_for_is_read_twice_and_no_more(
    warehouse_url: str, paginator: dict[str, Any]
) -> None:
    with fake_rest() as fake:
        fake.fill(20)
        runs = Runs(fake, warehouse_url, replace(LIST, params={"misspelt": "{since}"}, paginator=paginator))
        runs.sync()

        assert runs.live() == fake.things
        assert len(fake.lists()) <= 3 * 10
