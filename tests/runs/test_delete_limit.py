"""What a listing does not have any more is marked unasked up to a limit; beyond it nothing is, until somebody accepts the deletes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import WarehouseError
from sequin_pipeline.ledger.held_deletes import HeldDeletes
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import Listed, Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, page_of, record
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.table.unmanaged.tables import unmanaged

Record = dict[str, object]

MANAGED = collection(observes_time=True)
REMOVING = collection(observes_time=True, on_delete="remove")
APPLICATION = replace(
    unmanaged(
        {"id": "id", "upstream_id": "upstream_id", "sync_id": "sync_id", "updated_idx": "updated_idx", "deleted": "deleted"}
    ),
    table=MANAGED.table,
    observes_time=True,
)


@dataclass
class Reads(ListSource):
    """Gives these pages as they are, and their places as cursors."""

    whole: Sequence[Page] = ()

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield from self.whole


def things(count: int, *, sync_id: str = "s1", version: int = 10) -> list[Record]:
    return [record(f"{sync_id}-{number:04}", version, sync={"id": sync_id}) for number in range(count)]


def listing(records: Sequence[Record], version: int, *, sync_id: str = "s1") -> list[Page]:
    """As a source reads all that there is: each record as it has seen it then."""
    seen = [{**one, "updated_idx": version} for one in records]
    ids = tuple(str(one["id"]) for one in records)
    return [
        replace(page_of(seen, f"{version}.{sync_id}.1"), listed=Listed(sync_id, version, ids)),
        replace(page_of([], f"{version}.{sync_id}.2"), listed=Listed(sync_id, version, is_complete=True)),
    ]


def run(url: str, *pages: Page, of: Collection = MANAGED, accept: int | None = None, lanes: int = 1) -> SyncOutcome:
    return sync(url, of=of, source=Reads([], whole=pages), accept_deletes=accept, lanes=lanes)


def live(url: str) -> list[str]:
    return [one for (one,) in query(url, "select id from demo.thing where deleted is not true order by id")]


def ids_kept(url: str) -> list[tuple[object, ...]]:
    return query(url, "select sync_id, version, sum(cardinality(ids)) from sequin_pipeline.listed group by 1, 2 order by 1, 2")


@pytest.fixture
def application_table(warehouse_url: str) -> str:
    execute(
        warehouse_url,
        "create schema demo",
        "create table demo.thing (id text primary key, upstream_id text not null, sync_id text not null, updated_idx bigint not null,"
        " deleted boolean not null, status text, amount bigint)",
    )
    return warehouse_url


@pytest.mark.parametrize(
    ("of", "lanes"),
    [
        pytest.param(MANAGED, 1, id="managed"),
        pytest.param(MANAGED, 3, id="managed, in three lanes"),
        pytest.param(REMOVING, 1, id="rows are removed"),
        pytest.param(APPLICATION, 1, id="an application's table"),
    ],
)
def test_deletes_beyond_the_limit_are_held_until_they_are_accepted_and_then_are_those_of_that_listing(
    warehouse_url: str, request: pytest.FixtureRequest, of: Collection, lanes: int
) -> None:
    if of is APPLICATION:
        request.getfixturevalue("application_table")
    all_of_them = things(300)
    run(warehouse_url, *listing(all_of_them, 10), of=of, lanes=lanes)

    held = run(warehouse_url, *listing(all_of_them[150:], 20), page_of(things(1, version=21), "21"), of=of, lanes=lanes)
    after_hold = live(warehouse_url)
    later = run(
        warehouse_url, page_of([record("s1-0001", 30, sync={"id": "s1"}, data={"status": "new"})], "30"), of=of, lanes=lanes
    )
    accepted = run(warehouse_url, of=of, lanes=lanes, accept=150)

    examples = tuple(f"up_s1-000{number}" for number in range(5))
    assert held.held_deletes == (HeldDeletes("s1", 20, rows=150, live_rows=300, examples=examples),)
    assert (held.counts.deleted, after_hold) == (0, [str(one["id"]) for one in all_of_them])
    assert later.held_deletes == held.held_deletes
    assert (later.counts.updated, later.counts.deleted) == (1, 0)
    assert (accepted.counts.deleted, accepted.held_deletes) == (148, ())
    assert live(warehouse_url) == ["s1-0000", "s1-0001", *(str(one["id"]) for one in all_of_them[150:])]
    assert ids_kept(warehouse_url) == []


@pytest.mark.parametrize(
    ("count", "gone", "held"),
    [
        pytest.param(60, 60, 0, id="all of a small table"),
        pytest.param(300, 100, 0, id="a hundred"),
        pytest.param(300, 101, 101, id="a hundred and one"),
        pytest.param(2_100, 105, 0, id="5 % of a larger table"),
        pytest.param(2_100, 106, 106, id="more than 5 %"),
    ],
)
def test_the_limit_is_a_hundred_rows_or_5_percent_of_those_that_are_not_deleted(
    warehouse_url: str, count: int, gone: int, held: int
) -> None:
    run(warehouse_url, *listing(things(count), 10))

    outcome = run(warehouse_url, *listing(things(count)[gone:], 20))

    assert [one.rows for one in outcome.held_deletes] == ([held] if held else [])
    assert outcome.counts.deleted == gone - held
    assert len(live(warehouse_url)) == count - gone + held


def test_the_limit_holds_for_each_sync_by_itself_and_so_does_what_is_accepted(warehouse_url: str) -> None:
    first, second, third = (things(150, sync_id=f"s{number}") for number in (1, 2, 3))
    run(warehouse_url, *listing(first, 10), *listing(second, 10, sync_id="s2"), *listing(third, 10, sync_id="s3"))

    held = run(warehouse_url, *listing([], 20), *listing(second[5:], 20, sync_id="s2"), *listing(third[120:], 20, sync_id="s3"))
    fewer = run(warehouse_url, accept=120)

    assert {one.sync_id: one.rows for one in held.held_deletes} == {"s1": 150, "s3": 120}
    assert held.counts.deleted == 5
    assert {one.sync_id: one.rows for one in fewer.held_deletes} == {"s1": 150}
    assert fewer.counts.deleted == 120
    assert "s1: 150 deletes are held, and only 120 are accepted: none is marked" in fewer.notes


def test_a_run_of_one_sync_accepts_the_deletes_of_that_sync_alone(warehouse_url: str) -> None:
    first, second = things(150), things(150, sync_id="s2")
    run(warehouse_url, *listing(first, 10), *listing(second, 10, sync_id="s2"))
    run(warehouse_url, *listing([], 20), *listing([], 20, sync_id="s2"))

    of_one = replace(live_run_config(MANAGED, accept_deletes=150), mode="backfill", sync_id="s2")
    outcome = run_sync(RecordStream(of_one, Reads([])), Warehouse(warehouse_url), run_id="of one sync")

    assert {one.sync_id: one.rows for one in outcome.held_deletes} == {"s1": 150}
    assert live(warehouse_url) == [str(one["id"]) for one in first]


@pytest.mark.parametrize(
    ("listed_next", "rows"),
    [
        pytest.param(0, (), id="all are there again"),
        pytest.param(50, (), id="most are there again"),
        pytest.param(200, (200,), id="still more are missing"),
    ],
)
def test_a_later_listing_decides_anew_in_the_place_of_what_is_held(
    warehouse_url: str, listed_next: int, rows: tuple[int, ...]
) -> None:
    all_of_them = things(300)
    run(warehouse_url, *listing(all_of_them, 10))
    run(warehouse_url, *listing(all_of_them[150:], 20))

    (page, complete) = listing(all_of_them[listed_next:], 30)
    meanwhile = run(warehouse_url, page)
    outcome = run(warehouse_url, complete)

    assert [one.version for one in meanwhile.held_deletes] == [20]
    assert [(one.version, one.rows) for one in outcome.held_deletes] == [(30, count) for count in rows]
    assert len(live(warehouse_url)) == 300 - (listed_next if not rows else 0)
    assert ids_kept(warehouse_url) == [("s1", 30, 100)] * len(rows)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([page_of([{**one, "updated_idx": 25} for one in things(40)], "25")], id="as they are stored"),
        pytest.param(listing(things(40), 25)[:1], id="on a page of the next listing, which is under way"),
        pytest.param(
            [page_of([*({**one, "data": "no object"} for one in things(40, version=25)), things(300)[299]], "25")],
            id="as rejects",
        ),
    ],
)
def test_what_has_come_since_is_not_marked_when_the_deletes_are_accepted(warehouse_url: str, pages: list[Page]) -> None:
    run(warehouse_url, *listing(things(300), 10))
    run(warehouse_url, *listing(things(300)[150:], 20))

    sync(warehouse_url, of=replace(MANAGED, reject_limit_records=1_000), source=Reads([], whole=pages))
    accepted = run(warehouse_url, accept=150)

    assert (accepted.counts.deleted, accepted.held_deletes) == (110, ())
    assert live(warehouse_url) == [str(one["id"]) for number, one in enumerate(things(300)) if number < 40 or number >= 150]


def test_rows_that_were_marked_come_back_with_the_next_listing_that_has_them(warehouse_url: str) -> None:
    run(warehouse_url, *listing(things(150), 10))
    run(warehouse_url, *listing([], 20))
    accepted = run(warehouse_url, accept=150)

    again = run(warehouse_url, *listing(things(150), 30))

    assert (accepted.counts.deleted, again.counts.updated, len(live(warehouse_url))) == (150, 150, 150)


def test_what_is_accepted_holds_for_a_listing_of_the_same_run_too(warehouse_url: str) -> None:
    run(warehouse_url, *listing(things(150), 10))

    fewer = run(warehouse_url, *listing([], 20), accept=149)
    enough = run(warehouse_url, *listing([], 30), accept=150)

    assert (fewer.counts.deleted, [one.rows for one in fewer.held_deletes]) == (0, [150])
    assert (enough.counts.deleted, enough.held_deletes, ids_kept(warehouse_url)) == (150, (), [])
    assert "no deletes are held: what is accepted holds for a listing of this run" in fewer.notes


def test_a_run_that_ends_before_it_has_held_the_deletes_leaves_that_to_the_next_one(warehouse_url: str) -> None:
    run(warehouse_url, *listing(things(150), 10))
    (page, complete) = listing([], 20)
    fail_on(warehouse_url, "insert", "sequin_pipeline.held_deletes")

    with pytest.raises(WarehouseError, match="no space"):
        run(warehouse_url, page, complete)
    (cursor,) = query(warehouse_url, "select cursor from sequin_pipeline.cursors")
    execute(warehouse_url, "drop trigger fails on sequin_pipeline.held_deletes")
    outcome = run(warehouse_url, complete)

    assert cursor == ("20.s1.1",)
    assert ([one.rows for one in outcome.held_deletes], len(live(warehouse_url))) == ([150], 150)


@pytest.mark.parametrize("found_by", ["a run before", "the same run"])
def test_a_run_that_ends_while_it_marks_accepted_deletes_leaves_the_rest_to_the_next_one(
    warehouse_url: str, found_by: str
) -> None:
    run(warehouse_url, *listing(things(150), 10))
    (page, complete) = listing([], 20)
    is_held_before = found_by == "a run before"
    if is_held_before:
        run(warehouse_url, page, complete)
    fail_on(warehouse_url, "update", "demo.thing")

    with pytest.raises(WarehouseError, match="no space"):
        run(warehouse_url, page, complete, accept=150)
    execute(warehouse_url, "drop trigger fails on demo.thing")
    outcome = run(warehouse_url, *([] if is_held_before else [complete]))

    assert (outcome.counts.deleted, outcome.held_deletes) == (150, ())
    assert (live(warehouse_url), ids_kept(warehouse_url)) == ([], [])


def test_what_is_held_says_what_happened_where_and_what_to_do(warehouse_url: str) -> None:
    run(warehouse_url, *listing(things(1_000), 10))

    outcome = run(warehouse_url, *listing(things(1_000)[250:], 20))

    told = (
        "sync 's1': a complete listing did not have 250 of 1,000 rows of demo/thing that are not deleted (25%), more than the limit of "
        "100. None of them is marked as deleted. Look for some of them at the source: up_s1-0000, up_s1-0001, up_s1-0002, up_s1-0003, "
        "up_s1-0004. If they are there, the key has lost a right or is another account's, or the source has answered with less than "
        "everything: put that right, and the next listing decides anew. If they are gone: "
        "`sequin-pipeline sync --collection demo/thing --accept-deletes 250`"
    )
    assert outcome.notes == (told,)
    assert [one.told("demo/thing") for one in outcome.held_deletes] == [told]


BEFORE_HELD_DELETES = """
set search_path = sequin_pipeline;
drop table held_deletes, processes, shards, forgets, syncs, history_tables;
alter table tables drop column parent_table;
alter table runs drop column host, drop column asked_at;
alter table cursors drop column shard, add constraint cursors_pkey primary key (table_name, lane);
alter table merges drop column forgotten;
alter table merges add constraint conserved check (fetched = inserted + updated + deleted + unchanged + stale + duplicate + rejected);
alter table versions drop column sync_id, drop column internal_id;
alter table history drop column sync_id, drop column internal_id;
alter table rejects drop column sync_id;
alter table borrowed drop column sync_id, drop column internal_id;
update ledger set version = 6;
"""
"""This makes of today's ledger the one that there was before deletes were held: whoever adds a migration undoes it here."""


def test_a_ledger_from_before_deletes_were_held_is_brought_up_and_its_listing_goes_on(warehouse_url: str) -> None:
    run(warehouse_url, *listing(things(150), 10))
    (page, complete) = listing(things(150)[:20], 20)
    run(warehouse_url, page)
    execute(warehouse_url, BEFORE_HELD_DELETES)

    outcome = run(warehouse_url, complete)

    assert [one.rows for one in outcome.held_deletes] == [130]
    assert ids_kept(warehouse_url) == [("s1", 20, 20)]


def fail_on(url: str, event: str, table: str) -> None:
    execute(
        url,
        "create function public.fails() returns trigger language plpgsql as"
        " $$ begin raise exception 'no space' using errcode = '53100'; end $$",
        f"create trigger fails before {event} on {table} for each row execute function public.fails()",
    )
