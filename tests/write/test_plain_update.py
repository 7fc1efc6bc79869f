"""Behind a batch of changed rows the next one is updated without a look beforehand, and merged where that is not enough."""

import json
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import build_batch
from sequin_pipeline.write.merge import ShortWayRefused
from sequin_pipeline.write.plain_update import can_update, update_rows
from tests.support.builders import collection, record
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, ids_and_versions, query, rejects, row_count
from tests.support.syncing import sync

STORED = [record("a", 5), record("b", 5), record("c", 5, deleted=True)]
OTHER = {"status": "other", "amount": 0}
LOOKED_AT = (
    "create table demo.looked_at (merges int)",
    "create function demo.note() returns trigger language plpgsql as"
    " $$ begin insert into demo.looked_at values (1); return null; end $$",
    "create trigger note after insert on demo.thing for each statement execute function demo.note()",
)
"""An upsert says that it inserts, also where it inserts nothing; a plain update does not."""


@pytest.fixture
def way() -> str:
    """Here it matters."""
    return "as the product chooses"


def update(connection: psycopg.Connection[tuple[object, ...]], *records: dict[str, object]) -> Counts | None:
    """Updates these records in the open transaction; None where that is refused."""
    target = collection_target(collection())
    page = Normalizer(collection())(json.dumps(records).encode())
    encoded = staging.encode(target, build_batch(target, [page], window_starts=()))
    versions = sql.Identifier("sequin_pipeline", "versions")
    try:
        return update_rows(connection, encoded, window_starts=(), versions=versions).counts[0]
    except ShortWayRefused:
        return None


def tuples(url: str) -> list[tuple[object, ...]]:
    """Where each row stands, and who wrote or locked it last."""
    return query(url, "select id, ctid::text, xmin::text, xmax::text from demo.thing order by id")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param([record("a", 6), record("b", 9)], Counts(updated=2), id="older"),
        pytest.param([record("a", 6, deleted=True), record("c", 6, deleted=True)], Counts(deleted=2), id="tombstones"),
        pytest.param([record("a", 6), record("c", 6)], Counts(updated=2), id="deleted, and back"),
        pytest.param([record("a", 6), record("b", 5)], Counts(updated=1, unchanged=1), id="one known"),
        pytest.param([record("a", 6), record("b", 4)], Counts(updated=1, stale=1), id="one newer"),
        pytest.param(
            [record("a", 5), record("b", 4), record("c", 5, deleted=True)], Counts(unchanged=2, stale=1), id="none older"
        ),
        pytest.param([record("a", 6), record("n", 6)], None, id="one new"),
        pytest.param([record("a", 6), record("b", 5, data=OTHER)], None, id="one of other content at its version"),
    ],
)
def test_older_rows_are_updated_and_every_other_one_is_known_or_refuses_the_update(
    warehouse_url: str, records: list[dict[str, object]], expected: Counts | None
) -> None:
    sync(warehouse_url, STORED, run_id="before")

    with Warehouse(warehouse_url).connect() as connection, connection.transaction(force_rollback=True):
        assert update(connection, *records) == expected


def test_rows_that_are_known_or_outranked_are_neither_written_nor_locked(warehouse_url: str) -> None:
    sync(warehouse_url, STORED, run_id="before")
    before = tuples(warehouse_url)

    with Warehouse(warehouse_url).connect() as connection, connection.transaction():
        assert update(connection, record("a", 5), record("b", 4)) == Counts(unchanged=1, stale=1)

    assert tuples(warehouse_url) == before


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(record("a", 8), record("a", 7), Counts(stale=1), id="older behind newer"),
        pytest.param(record("a", 8), record("a", 8), Counts(unchanged=1), id="the same twice"),
        pytest.param(record("a", 8), record("a", 8, data=OTHER), None, id="other content at one version"),
        pytest.param(record("a", 8), record("a", 9), Counts(updated=1), id="newer behind older"),
        pytest.param(record("a", 8), record("a", 9, deleted=True), Counts(deleted=1), id="tombstone behind object"),
    ],
)
def test_an_update_behind_an_open_merge_counts_what_stands_when_that_has_ended(
    warehouse_url: str, first: dict[str, object], second: dict[str, object], expected: Counts | None
) -> None:
    sync(warehouse_url, STORED, run_id="before")
    with OpenBatch(warehouse_url, collection(), first) as ahead, OpenBatch(warehouse_url, collection(), second) as behind:
        ahead.write().result()
        connection = behind.connection
        connection.execute("begin isolation level read committed")
        waiting = behind.threads.submit(update, connection, second, record("b", 6))
        wait_until_blocked(warehouse_url, [behind.pid], by="transactionid")
        ahead.commit()
        counted = waiting.result()
        behind.roll_back()

    assert counted == (None if expected is None else expected + Counts(updated=1))


def test_only_a_batch_behind_one_that_was_changed_whole_is_updated(warehouse_url: str) -> None:
    first, second, third = ([record(f"{page}{number}", 1) for number in range(3)] for page in "xyz")
    newer = [[{**each, "updated_idx": 2} for each in page] for page in (first, second, third)]
    sync(warehouse_url, first, second, third, run_id="before", batch_records=1)
    execute(warehouse_url, *LOOKED_AT)

    changed = sync(warehouse_url, *newer, full_refresh=True, batch_records=1)
    merges = query(warehouse_url, "select count(*) from demo.looked_at")
    again = sync(warehouse_url, *newer, run_id="again", full_refresh=True, batch_records=1)

    assert (changed.counts, merges) == (Counts(fetched=9, updated=9), [(1,)])
    assert again.counts == Counts(fetched=9, unchanged=9)


def test_a_batch_that_the_update_does_not_suffice_for_is_merged_and_so_are_those_behind_it(warehouse_url: str) -> None:
    pages = [[record(f"{page}{number}", 1) for number in range(3)] for page in "vwxyz"]
    newer = [[{**each, "updated_idx": 2} for each in page] for page in pages]
    sync(warehouse_url, *pages, run_id="before", batch_records=1)
    execute(warehouse_url, *LOOKED_AT)

    outcome = sync(
        warehouse_url, newer[0], newer[1], [*newer[2], record("new", 1)], *newer[3:], full_refresh=True, batch_records=1
    )

    assert outcome.counts == Counts(fetched=16, updated=15, inserted=1, created=1)
    assert query(warehouse_url, "select count(*) from demo.looked_at") == [(4,)], "all but the second"
    assert row_count(warehouse_url) == 16


@pytest.mark.parametrize(
    ("condition", "body", "expected"),
    [
        pytest.param("before", "if new.amount = 1000 then return null; end if; return new;", ("left out", None), id="left out"),
        pytest.param(
            "before", "if new.amount = 1000 then raise exception 'no'; end if; return new;", ("postgres", "P0001"), id="before"
        ),
        pytest.param(
            "after", "if new.amount = 1000 then raise exception 'no'; end if; return null;", ("postgres", "P0001"), id="behind"
        ),
    ],
)
def test_a_row_whose_update_a_trigger_refuses_is_found_and_the_others_are_updated(
    warehouse_url: str, condition: str, body: str, expected: tuple[str, str | None]
) -> None:
    sync(warehouse_url, [record("a", 1)], [record("b", 1), record("bad", 1)], run_id="before", batch_records=1)
    execute(
        warehouse_url,
        f"create function demo.refuse() returns trigger language plpgsql as $$ begin {body} end $$",
        f"create trigger refuse {condition} update on demo.thing for each row execute function demo.refuse()",
    )
    bad = record("bad", 2, data={"status": "x", "amount": 1000})

    outcome = sync(warehouse_url, [record("a", 2)], [record("b", 2), bad], full_refresh=True, batch_records=1)

    assert ids_and_versions(warehouse_url) == [("a", 2, False), ("b", 2, False), ("bad", 1, False)]
    assert rejects(warehouse_url) == {"bad": expected}
    assert outcome.counts == Counts(fetched=3, updated=2, rejected=1)


def test_others_columns_stay_and_only_the_time_of_the_change_moves(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)], [record("b", 1)], run_id="before", batch_records=1)
    execute(warehouse_url, "alter table demo.thing add column note text", "update demo.thing set note = 'mine'", *LOOKED_AT)
    before = query(warehouse_url, "select inserted_at from demo.thing where id = 'b'")

    sync(warehouse_url, [record("a", 2)], [record("b", 2)], full_refresh=True, batch_records=1)

    assert query(warehouse_url, "select count(*) from demo.looked_at") == [(1,)]
    assert query(warehouse_url, "select note, updated_at > inserted_at from demo.thing where id = 'b'") == [("mine", True)]
    assert query(warehouse_url, "select inserted_at from demo.thing where id = 'b'") == before


def test_a_table_whose_trigger_changes_what_is_inserted_is_always_merged(warehouse_url: str) -> None:
    """For an upsert the trigger makes another row of the proposed one, which is what an update then stores."""
    sync(warehouse_url, [record("a", 1)], [record("b", 1)], run_id="before", batch_records=1)
    execute(
        warehouse_url,
        "create function demo.upper() returns trigger language plpgsql as"
        " $$ begin new.status := upper(new.status); return new; end $$",
        "create trigger upper before insert on demo.thing for each row execute function demo.upper()",
    )

    sync(warehouse_url, [record("a", 2)], [record("b", 2)], full_refresh=True, batch_records=1)

    assert query(warehouse_url, "select id, status from demo.thing order by id") == [("a", "ACTIVE"), ("b", "ACTIVE")]


@pytest.mark.parametrize(
    ("of", "records", "expected"),
    [
        pytest.param(collection(), [record("a", 1)], True, id="managed"),
        pytest.param(collection(), [record("a", 1, deleted=True, data=None)], False, id="a bare tombstone"),
        pytest.param(collection(on_delete="remove"), [record("a", 1)], False, id="removed rows"),
        pytest.param(collection(observes_time=True), [record("a", 1)], False, id="times of observation"),
        pytest.param(replace(collection(), history=timedelta(days=1)), [record("a", 1)], False, id="a history"),
        pytest.param(collection(), [], False, id="nothing"),
    ],
)
def test_only_where_the_version_alone_decides_may_a_batch_be_updated(
    of: Collection, records: list[dict[str, object]], expected: object
) -> None:
    target = collection_target(of)
    batch = build_batch(target, [Normalizer(of)(json.dumps(records).encode())], window_starts=())

    assert can_update(target, batch) == expected
