"""Objects that a list shows in part are asked for one by one: what has changed, and no more of them in a run than is allowed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse

from sequin_pipeline.reads import FieldList, Read, Since
from tests.sources.rest.reading import CURSOR, LIST, Runs
from tests.support.rest_api import FIELDS, fake_rest
from tests.support.rest_api import LIST as LIST_PATH

DETAILED = replace(LIST, detail="things/{id}")
WAYS = {
    "ascending, since": DETAILED,
    "ascending": replace(DETAILED, params={}),
    "newest first": replace(DETAILED, params={}, is_ascending=False, is_descending=True),
    "unordered": replace(DETAILED, params={}, is_ascending=False, paginator=CURSOR),
}
ORDERS = {"ascending, since": 1, "ascending": 1, "newest first": -1, "unordered": 0}


@pytest.mark.parametrize("way", WAYS)
def test_object_lands_as_asked_for_by_itself_and_only_what_has_changed_is_asked_again(warehouse_url: str, way: str) -> None:
    with fake_rest(order=ORDERS[way]) as fake:
        fake.fill(5)
        fake.now += timedelta(hours=1)
        runs = Runs(fake, warehouse_url, WAYS[way])
        first = runs.sync()
        fake.put("t1", status="changed")
        fake.asked.clear()
        runs.sync()

        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}
        assert any(note.endswith("5 objects asked for one by one") for note in first.notes)
        # What was the newest is asked for again: it may have changed within the same second.
        assert {asked.path for asked in fake.asked} - {LIST_PATH} == {f"{LIST_PATH}/t1", f"{LIST_PATH}/t4"}


@pytest.mark.parametrize("way", WAYS)
def test_run_asks_for_so_many_and_the_next_ones_for_the_rest(warehouse_url: str, way: str) -> None:
    with fake_rest(order=ORDERS[way]) as fake:
        fake.fill(7)
        fake.now += timedelta(hours=1)
        runs = Runs(fake, warehouse_url, WAYS[way], details_a_run=3)
        landed, outcomes = [], []
        for _ in range(4):
            outcomes.append(runs.sync())
            landed.append(len(runs.live()))

        assert landed == [3, 5, 7, 7]
        assert "3 objects were asked for one by one, which is the most of one run: the next one goes on" in outcomes[0].notes
        assert outcomes[0].lag_seconds != 0
        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}


def test_more_objects_of_one_time_than_a_run_may_ask_for_hold_nothing_up(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(5, seconds=0)
        fake.now += timedelta(seconds=1)
        fake.put("later", status="active")
        runs = Runs(fake, warehouse_url, DETAILED, details_a_run=2)
        for _ in range(4):
            runs.sync()

        assert set(runs.live()) == set(fake.things)


@pytest.mark.parametrize("limit", [10, 2])
def test_listing_asks_for_as_many_objects_as_a_run_may_and_keeps_what_was_landed(warehouse_url: str, limit: int) -> None:
    with fake_rest() as fake:
        fake.fill(4)
        runs = Runs(fake, warehouse_url, DETAILED, details_a_run=limit)
        for _ in range(4):
            runs.sync()
        del fake.things["t1"]
        fake.now += timedelta(days=1)
        fake.asked.clear()
        outcome = runs.sync()

        assert runs.deleted() == {"t1"}
        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}
        assert len([asked for asked in fake.asked if asked.path != LIST_PATH]) == 1 + min(limit, 3)
        assert outcome.counts.updated == 0
        assert ("1 of 3 objects are asked for by later runs" in outcome.notes) == (limit == 2)


def test_object_that_is_gone_before_it_is_asked_for_is_passed_over(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(3)
        fake.instead[f"{LIST_PATH}/t1"] = lambda asked: JSONResponse({"message": "Not Found"}, 404)
        runs = Runs(fake, warehouse_url, DETAILED)
        runs.sync()

        assert set(runs.live()) == {"t0", "t2"}


@pytest.mark.parametrize("limit", [10, 2], ids=["all at each run", "in a circle"])
def test_objects_without_versions_are_asked_for_at_each_run(warehouse_url: str, limit: int) -> None:
    with fake_rest(order=0) as fake:
        fake.fill(4)
        read = replace(DETAILED, version=None, params={}, is_ascending=False, paginator=CURSOR)
        runs = Runs(fake, warehouse_url, read, details_a_run=limit)
        runs.sync()
        fake.now += timedelta(minutes=15)
        runs.sync()
        fake.things["t0"]["status"] = "changed"
        del fake.things["t3"]
        for _ in range(2):
            fake.now += timedelta(minutes=15)
            runs.sync()

        assert runs.deleted() == {"t3"}
        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}


def changes(**values: Any) -> Read:
    return replace(
        LIST,
        params={"org": "{org}"},
        each={"org": ("a", "b")},
        is_ascending=False,
        paginator=CURSOR,
        changes=Read(
            path="things",
            key=(),
            method="POST",
            select=("data",),
            json={"since": "{since}"},
            paginator={"type": "cursor", "cursor_path": "paging.next", "cursor_body_path": "after"},
            since=Since("epoch_milliseconds"),
            is_ascending=True,
            **values,
        ),
    )


def test_changes_come_by_a_list_of_their_own_once_the_whole_list_has_been_read(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(6)
        for number, thing in enumerate(fake.things.values()):
            thing["org"] = "ab"[number % 2]
        runs = Runs(fake, warehouse_url, changes(detail="things/{id}"))

        def change(number: int) -> None:
            if number == 4:
                fake.now += timedelta(seconds=1)
                fake.put("t0", status="changed while the list was read")

        fake.happens = change
        runs.sync()
        fake.asked.clear()
        runs.sync()

        assert {asked.method for asked in fake.lists()} == {"POST"}
        assert fake.lists()[0].content["since"] == "1767225005999"
        assert runs.live() == {name: {**thing, "detailed": True} for name, thing in fake.things.items()}


def test_fields_of_the_account_are_asked_for_once_and_named(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(5)
        read = replace(
            LIST,
            params={"since": "{since}", "fields": "{fields}"},
            fields=FieldList("fields", ("name",), ("fields",)),
            paginator=CURSOR,
        )
        Runs(fake, warehouse_url, read).sync()

        assert [asked.path for asked in fake.asked].count(FIELDS) == 1
        assert {asked.query["fields"] for asked in fake.lists()} == {"id,status,updated_at"}


def test_object_that_was_merged_into_another_is_passed_over(warehouse_url: str) -> None:
    """An API then answers with the one that is left, under either id."""
    with fake_rest() as fake:
        fake.fill(3)
        fake.instead[f"{LIST_PATH}/t1"] = lambda asked: JSONResponse({**fake.things["t2"], "detailed": True})
        runs = Runs(fake, warehouse_url, DETAILED)
        runs.sync()

        assert runs.live() == {name: {**fake.things[name], "detailed": True} for name in ("t0", "t2")}
