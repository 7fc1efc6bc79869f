"""Lanes: writers beside each other, each with a cursor of its own; what the property test cannot steer."""

from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.errors import RunFenced, WarehouseError
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.write.buckets import Lane, bucket_of, buckets_of
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.syncing import sync

IDS = [f"r{number}" for number in range(12)]
PAGES = [[record(record_id, version) for record_id in IDS] for version in range(1, 5)]


def versions(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("select id, updated_idx from demo.thing").fetchall())


def cursors(url: str) -> list[tuple[int, int, str | None]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select lane, lanes, cursor from sequin_pipeline.cursors order by lane").fetchall()


def refuse(url: str, record_id: str, version: int) -> None:
    """From now on the table cannot take this version: not the record's fault by its SQLSTATE, and nothing that passes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create or replace function demo.refuse() returns trigger language plpgsql as $$ begin"
            f" if new.id = '{record_id}' and new.updated_idx = {version} then raise 'not now' using errcode = 'XX000'; end if;"
            " return new; end $$"
        )
        connection.execute(
            "drop trigger if exists refuse on demo.thing; create trigger refuse"
            " before insert or update on demo.thing for each row execute function demo.refuse()"
        )


def allow(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop trigger refuse on demo.thing")


def test_ids_of_the_example_fall_into_both_lanes() -> None:
    assert {bucket_of(record_id) % 2 for record_id in IDS} == {0, 1}


def test_every_id_belongs_to_exactly_one_lane() -> None:
    shares = [Lane(index, 3).owns(buckets_of(IDS)).tolist() for index in range(3)]

    assert [sum(of_one) for of_one in zip(*shares, strict=True)] == [1] * len(IDS)


@pytest.mark.parametrize("lanes_after", [1, 2, 3])
def test_lane_that_failed_goes_on_behind_its_own_last_batch(warehouse_url: str, lanes_after: int) -> None:
    source = ListSource(PAGES[:1])
    sync(warehouse_url, source=source, lanes=2, batch_records=1)
    source.page_records = PAGES
    failing = next(record_id for record_id in IDS if bucket_of(record_id) % 2 == 1)
    refuse(warehouse_url, failing, 3)

    with pytest.raises(WarehouseError, match="not now"):
        sync(warehouse_url, source=source, lanes=2, batch_records=1)
    stopped_at = cursors(warehouse_url)
    allow(warehouse_url)
    sync(warehouse_url, source=source, lanes=lanes_after, batch_records=1)

    assert stopped_at[1] == (1, 2, "2")
    assert versions(warehouse_url) == dict.fromkeys(IDS, 4)
    assert cursors(warehouse_url) == [(lane, lanes_after, "4") for lane in range(lanes_after)]


def test_what_the_lane_ahead_had_written_is_not_written_again(warehouse_url: str) -> None:
    source = ListSource(PAGES[:1])
    sync(warehouse_url, source=source, lanes=2, batch_records=1)
    source.page_records = PAGES
    failing = next(record_id for record_id in IDS if bucket_of(record_id) % 2 == 1)
    refuse(warehouse_url, failing, 2)
    with pytest.raises(WarehouseError, match="not now"):
        sync(warehouse_url, source=source, lanes=2, batch_records=1)
    allow(warehouse_url)

    sync(warehouse_url, source=source, lanes=2, run_id="after", batch_records=1)

    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute(
            "select sum(updated)::int, sum(fetched - unchanged - stale - updated)::int from sequin_pipeline.merges where lane = %s"
            " and run_id = 'after'",
            (1,),
        ).fetchone()
    of_lane_1 = sum(bucket_of(record_id) % 2 for record_id in IDS)
    assert rows == (3 * of_lane_1, 0)
    assert versions(warehouse_url) == dict.fromkeys(IDS, 4)


def test_run_with_another_number_of_lanes_fences_the_one_before(warehouse_url: str) -> None:
    class Overtaken(ListSource):
        def pages(self, request):
            for number, page in enumerate(super().pages(request)):
                if number == 2:
                    sync(warehouse_url, source=ListSource(PAGES), lanes=3, run_id="rival", batch_records=1)
                yield page

    with pytest.raises(RunFenced, match="'rival'"):
        sync(warehouse_url, source=Overtaken(PAGES), lanes=2, run_id="overtaken", batch_records=1)

    assert versions(warehouse_url) == dict.fromkeys(IDS, 4)
    assert cursors(warehouse_url) == [(0, 3, "4"), (1, 3, "4"), (2, 3, "4")]


def test_run_writes_with_as_many_lanes_as_are_declared(warehouse_url: str) -> None:
    declared = replace(collection(), lanes=2)

    run_sync(RecordStream(live_run_config(declared), ListSource(PAGES[:1])), Warehouse(warehouse_url), run_id="run")

    assert cursors(warehouse_url) == [(0, 2, "1"), (1, 2, "1")]


def test_every_take_over_fences_every_lane_of_the_run_before(warehouse_url: str) -> None:
    sync(warehouse_url, source=ListSource(PAGES[:1]), lanes=2, batch_records=1)
    ledger = Ledger("demo.thing", "demo/thing")
    with Warehouse(warehouse_url).connect() as connection:
        first = ledger.take_over(connection, lanes=2, run_id="first")
        ledger.take_over(connection, lanes=2, run_id="second")

        moved = [ledger.move_cursor(connection, lane, cursor="9", stream_time=None, run_id="first") for lane in first]

    assert moved == [None, None]
    assert cursors(warehouse_url) == [(0, 2, "1"), (1, 2, "1")]
