"""A listing that begins at a time of its source's own says nothing about what last changed before it."""

from dataclasses import replace

import pytest

from sequin_pipeline.catalog import Collection
from tests.runs.test_delete_limit import APPLICATION, MANAGED, Record, listing, run
from tests.support.builders import record
from tests.support.reading import execute, query


def changed(name: str, day: int | None) -> Record:
    return record(name, 10, upstream_updated_at=None if day is None else f"2026-01-{day:02}T00:00:00Z")


DAYS = [changed(name, day) for day, name in enumerate("abcde", 1)]
UNDATED = [changed(name, None) for name in "abcde"]


@pytest.mark.parametrize(
    ("of", "sent", "shown", "gone"),
    [
        (replace(MANAGED, lists_from_a_start=True), DAYS, "ce", ["d"]),
        (replace(MANAGED, lists_from_a_start=True), DAYS, "", []),
        (replace(MANAGED, lists_from_a_start=True), UNDATED, "ce", ["a", "b", "d"]),
        (replace(APPLICATION, lists_from_a_start=True), DAYS, "ce", []),
        (MANAGED, DAYS, "ce", ["a", "b", "d"]),
    ],
    ids=["dated", "nothing is listed", "undated", "a table without the time", "a listing of everything"],
)
def test_what_is_older_than_all_that_a_listing_shows_is_not_gone_where_it_has_a_start(
    warehouse_url: str, of: Collection, sent: list[Record], shown: str, gone: list[str]
) -> None:
    if of.unmanaged:
        execute(
            warehouse_url,
            "create schema demo",
            "create table demo.thing (id text primary key, upstream_id text, sync_id text, updated_idx bigint, deleted boolean,"
            " status text, amount bigint)",
        )
    run(warehouse_url, *listing(sent, 10), of=of)

    run(warehouse_url, *listing([one for one in sent if str(one["id"]) in shown], 20), of=of)

    assert [name for (name,) in query(warehouse_url, "select id from demo.thing where deleted order by id")] == gone
