"""Whatever was under way when somebody was forgotten writes nothing of it behind the request: not a place, an id, or a field's name."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial as bind

import psycopg
import pytest

from sequin_pipeline.catalog import Collection, Column, TableName, parse_path
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.undeclared import adopt_undeclared
from sequin_pipeline.operate.forgetting.forget import forget
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.runs.refill import REFILL_ROWS
from sequin_pipeline.sources import Page, ReadRequest, TimeWindow
from sequin_pipeline.table.target import collection_target
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config
from tests.support.leaving import MARKER, ONE, SYNC, TENANT, stays, theirs
from tests.support.markers import holding
from tests.support.queues import ListQueue
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.support.waits import wait_until

THING = collection()
WITH_TWICE = replace(THING, columns=(*COLUMNS, Column("twice", parse_path("amount"), "bigint")))
LEDGER = Ledger("demo.thing", "demo/thing")


@contextmanager
def waiting_for(url: str, held: str, work: Callable[[], object]) -> Iterator[None]:
    """Has `work` wait for a row that the statement locks, while the block runs; it has ended when the block has."""
    done = threading.Thread(target=work)
    with psycopg.connect(url) as holder:
        holder.execute(held)
        done.start()
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        wait_until(lambda: query(url, waiting) == [(1,)], "the work to wait")
        yield
    done.join()


@pytest.mark.parametrize("last", [1, 3], ids=["its last row", "its last three rows"])
def test_a_refill_under_way_notes_no_place_of_a_row_that_is_forgotten(warehouse_url: str, last: int) -> None:
    others = [stays(f"a{number:05}") for number in range(REFILL_ROWS - last)]
    sync(warehouse_url, [*others, *(theirs(f"b{number}") for number in range(last)), stays("z")], of=THING)
    execute(
        warehouse_url,
        # The refill comes no further than its first batch, behind which it waits to settle this.
        "create function demo.break_off() returns trigger language plpgsql as"
        " $$ begin raise exception 'disk full' using errcode = '53100'; end $$",
        "create trigger break_off before update on demo.thing for each row when (new.id = 'z') execute function demo.break_off()",
        "insert into sequin_pipeline.rejects (table_name, content_hash, label, record_id, raw, reason, class, run_id)"
        " values ('demo.thing', '00000000-0000-0000-0000-000000000000', 'demo/thing', 'a00000', '{}', 'did not fit', 'refill', 'r')",
    )

    def refill() -> None:
        with pytest.raises(PipelineError, match="its disk is full"):
            sync(warehouse_url, of=WITH_TWICE, run_id="refill")

    with waiting_for(warehouse_url, "select from sequin_pipeline.rejects for update", refill):
        forget(Warehouse(warehouse_url), TENANT, [WITH_TWICE])

    place = query(warehouse_url, "select refilled_after, refilled_at from sequin_pipeline.columns where column_name = 'twice'")
    assert place == [(others[-1]["id"], None)]
    assert holding(warehouse_url, MARKER) == {}


def partial(record_id: str, version: int) -> dict[str, object]:
    """A message that leaves a value out."""
    return {**theirs(record_id, version, data=False), "partial": {"amount": version}, "unknown": ["status"], "refused": "any"}


@pytest.mark.parametrize("subject", [TENANT, SYNC, ONE], ids=["tenant", "sync", "record"])
def test_values_that_were_borrowed_for_a_row_that_never_came_are_forgotten(warehouse_url: str, subject: object) -> None:
    """The run ended between completing a delivery and committing it: the ledger names a record of which there is no row."""
    drain(ListQueue([[stays("a")]]), [THING], Warehouse(warehouse_url), run_id="first")
    delivery = json.dumps([theirs("one", 1), partial("one", 2)]).encode()
    with Warehouse(warehouse_url).connect() as connection:
        Completion(LEDGER)(connection, collection_target(THING), delivery)
    before = holding(warehouse_url, MARKER)

    report = forget(Warehouse(warehouse_url), subject, [THING])  # type: ignore[arg-type]  # one of the three

    assert before == {"sequin_pipeline.borrowed": 1}
    assert report.removed["ledger: borrowed values"] == 1
    assert holding(warehouse_url, MARKER) == {}


class NamingSource(ListSource):
    """Its cursors name the last object of their page, as those of providers do; asks `meanwhile` before the page at `at`."""

    def __init__(
        self, pages: Sequence[Sequence[dict[str, object]]], at: int = -1, meanwhile: Callable[[], object] = bool
    ) -> None:
        super().__init__(pages)
        self.at, self.meanwhile = at, meanwhile

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        cursors = [json.dumps({"after": page[-1]["id"]}) for page in self.page_records]
        begin = cursors.index(request.after) + 1 if request.after in cursors else 0
        for number in range(begin, len(cursors)):
            if number == self.at:
                self.meanwhile()
            yield Page(json.dumps(self.page_records[number]).encode(), cursors[number], datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("at", [None, 1, 2], ids=["between two runs", "before its page is committed", "after it"])
def test_a_merge_tells_no_cursor_at_which_a_forgotten_object_stood(warehouse_url: str, at: int | None) -> None:
    pages = [[stays("a"), theirs("last")], [stays("b")], [stays("c")], [stays("d")]]

    def act() -> None:
        forget(Warehouse(warehouse_url), TENANT, [THING])

    if at is None:
        sync(warehouse_url, of=THING, source=NamingSource(pages[:1]), batch_records=1)
        act()
        sync(warehouse_url, of=THING, source=NamingSource(pages), batch_records=1, run_id="second")
    else:
        sync(warehouse_url, of=THING, source=NamingSource(pages, at, act), batch_records=1)

    assert holding(warehouse_url, MARKER) == {}
    assert query(warehouse_url, "select cursor_after from sequin_pipeline.merges order by committed_at desc limit 1") == [
        ('{"after": "d"}',)
    ]


@pytest.mark.parametrize("at", [0, 2], ids=["before the run", "while it reads"])
def test_a_sample_of_fields_holds_no_name_that_only_a_forgotten_object_has(warehouse_url: str, at: int) -> None:
    def act() -> None:
        forget(Warehouse(warehouse_url), TENANT, [THING])

    named = {"status": "any", f"{MARKER}__c": 1}
    pages = [[theirs("one", data=named), stays("a")], [theirs("two", 2, data=named)], [stays("b", 3)]]
    sync(warehouse_url, of=THING, source=NamingSource(pages, at, act), batch_records=1)

    assert holding(warehouse_url, MARKER) == {}
    assert query(warehouse_url, "select field, present, sampled from sequin_pipeline.fields order by 1") == [
        ("amount", 2, 2),
        ("status", 2, 2),
    ]


def test_a_record_that_is_handed_to_its_table_meanwhile_is_met_all_the_same(warehouse_url: str) -> None:
    """It goes from a place where it stood to one that the search may have passed: those of no table are looked at first."""
    sync(warehouse_url, [stays("a")], of=THING)
    drain(ListQueue([[theirs("u")]]), [collection(name="other", table="demo.other")], Warehouse(warehouse_url), run_id="q")
    execute(
        warehouse_url,
        "update sequin_pipeline.rejects set content_hash = '00000000-0000-0000-0000-000000000000'",
        "insert into sequin_pipeline.rejects (table_name, content_hash, label, raw, reason, class, run_id) select 'demo.thing',"
        " md5(n::text)::uuid, 'demo/thing', '{}', 'any', 'value', 'r' from generate_series(1, 1200) n",
    )
    waited = query(warehouse_url, "select table_name from sequin_pipeline.rejects where record_id is not null")
    committed = 0

    def hand_over() -> None:
        nonlocal committed
        committed += 1
        # Behind the request, the rows of two tables, and the first part of the rejects.
        if committed == 4:
            with Warehouse(warehouse_url).connect() as connection:
                adopt_undeclared(connection, LEDGER)

    forget(Warehouse(warehouse_url), TENANT, [THING], committed=hand_over)

    assert waited == [("demo/thing",)]
    assert holding(warehouse_url, MARKER) == {}
    assert query(warehouse_url, "select count(*) from sequin_pipeline.rejects") == [(1200,)]


def test_a_backfill_and_a_queue_at_work_beside_it_leave_nothing(warehouse_url: str) -> None:
    queued = replace(THING, name="queued", table=TableName("demo", "queued"))
    pages = [[theirs(f"p{n}", 2), theirs(f"x{n}", 3, data={"amount": MARKER}), stays(f"b{n}", 2)] for n in range(40)]
    deliveries = [[{**one, "collection_id": "demo:queued"} for one in page] for page in pages]
    queue = ListQueue(deliveries)
    window = TimeWindow(None, datetime(2100, 1, 1, tzinfo=UTC))
    backfill = RecordStream(replace(live_run_config(THING), mode="backfill", window=window), ListSource(pages))
    warehouse = Warehouse(warehouse_url)
    sync(warehouse_url, [stays("first")], of=THING)
    runs = [
        threading.Thread(target=bind(run_sync, backfill, warehouse, run_id="backfill", batch_records=1)),
        threading.Thread(target=bind(drain, queue, [queued], warehouse, run_id="queue")),
    ]
    for run in runs:
        run.start()
    both = "select count(distinct run_id) from sequin_pipeline.merges where run_id in ('backfill', 'queue')"
    wait_until(lambda: query(warehouse_url, both) == [(2,)], "both to write")

    forget(warehouse, TENANT, [THING, queued])
    left = holding(warehouse_url, MARKER)
    for run in runs:
        run.join()

    assert (left, holding(warehouse_url, MARKER)) == ({}, {})
    assert queue.acknowledged == list(range(40))
    assert query(warehouse_url, "select (select count(*) from demo.thing), (select count(*) from demo.queued)") == [(41, 40)]
    assert query(
        warehouse_url, "select run_id, sum(fetched) from sequin_pipeline.merges where run_id <> 'run' group by 1 order by 1"
    ) == [
        ("backfill", 120),
        ("queue", 120),
    ]


def test_a_record_that_another_tenant_has_now_keeps_what_is_said_of_it(warehouse_url: str) -> None:
    """The forgotten tenant's entries of it go, and no others of its id."""
    of: Collection = collection(on_delete="remove")
    sync(warehouse_url, [theirs("one"), stays("a")], [theirs("one", 2, deleted=True)], of=of)
    bad = {"status": "new", "amount": "no number"}
    sync(
        warehouse_url, [stays(f"one-{MARKER}", 3), stays(f"one-{MARKER}", 4, data=bad)], of=of, full_refresh=True, run_id="second"
    )

    forget(Warehouse(warehouse_url), TENANT, [of])

    assert query(warehouse_url, "select id, updated_idx from demo.thing order by 1") == [("a", 1), (f"one-{MARKER}", 3)]
    assert query(warehouse_url, "select record_id, version from sequin_pipeline.rejects") == [(f"one-{MARKER}", 4)]
