"""A tenant who leaves: nothing of it stays in any table that the pipeline writes, and nothing comes back."""

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pandas as pd
import psycopg
import pytest

from sequin_pipeline.catalog import Collection, HistoryTable, TableName
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.forgets import hold_forgets, open_forgets
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.forgetting.forget import dry_forget, forget, is_forgotten, undo
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.forgotten import Subject
from sequin_pipeline.runs.frame_run import write_frame
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, record
from tests.support.encodings import encoded_database
from tests.support.leaving import MARKER, ONE, SYNC, TENANT, stays, theirs
from tests.support.markers import holding
from tests.support.postgres import PostgresServer
from tests.support.queues import ListQueue, other
from tests.support.reading import execute, merges, query
from tests.support.syncing import sync
from tests.support.waits import wait_until
from tests.table.unmanaged.tables import unmanaged

KEPT = replace(collection(), history=timedelta(days=30), history_table=HistoryTable(TableName("demo", "thing_history")))
REMOVED = collection(name="gone", table="demo.gone", on_delete="remove")
APPLICATION = unmanaged(
    {"id": "id", "upstream_id": "upstream", "internal_id": "tenant", "sync_id": "sync", "updated_idx": "version"},
    table="app.owned",
    on_delete="remove",
)
BARE = unmanaged({"id": "id", "internal_id": "tenant", "sync_id": "sync"}, table="app.bare", on_delete="remove")
DECLARED = (KEPT, REMOVED, replace(APPLICATION, name="owned"), replace(BARE, name="bare"))


def fill(url: str) -> None:
    """Brings the marker into every table in which the pipeline can leave what a record says."""
    warehouse = Warehouse(url)
    bad = {"status": f"of {MARKER}", "amount": f"no number {MARKER}"}
    sync(
        url,
        [theirs("one"), theirs("two"), stays("a"), theirs("bad", 3, data=bad), theirs("one", 1)],
        [theirs("two", 5), theirs("late", 9), theirs("one", 4, deleted=True, data=None)],
        of=KEPT,
        batch_records=1,
    )
    gone: dict[str, Any] = {"collection_id": "demo:gone"}
    sync(url, [theirs("r", **gone), theirs("s", **gone), stays("a", **gone)], [theirs("r", 2, deleted=True, **gone)], of=REMOVED)
    execute(
        url,
        "create schema app",
        "create table app.owned (id text primary key, upstream text, tenant text, sync text, version bigint, status text, amount bigint)",
        "create table app.bare (id text primary key, tenant text, sync text, status text, amount bigint)",
    )
    for of in DECLARED[2:]:
        named: dict[str, Any] = {"collection_id": of.id}
        sync(url, [theirs("r", **named), stays("a", **named)], of=of)
    drain(
        ListQueue([[theirs("q", collection_id="demo:unknown"), other("b")]]),
        [collection(name="other", table="demo.other")],
        warehouse,
        run_id="q",
    )
    frame = pd.DataFrame({"id": ["f1", f"f2-{MARKER}"], "internal_id": ["tenant-1", MARKER], "sync_id": ["s1", f"sync-{MARKER}"]})
    write_frame(warehouse, TableName("demo", "frame"), frame, key=("id",), version=None, run_id="frame")
    # What takes listings, partial messages and refills to come about, and stands there in the same form.
    execute(
        url,
        f"insert into sequin_pipeline.listed values ('demo.thing', 's1', 1, '{{a,one-{MARKER},two-{MARKER}}}')",
        f"insert into sequin_pipeline.listed values ('demo.thing', 'sync-{MARKER}', 1, '{{x}}')",
        f"insert into sequin_pipeline.held_deletes values ('demo.thing', 's1', 1, 1, 1, '{{up-one-{MARKER},up_a}}')",
        f"insert into sequin_pipeline.borrowed values ('demo.thing', 'one-{MARKER}', 4, '{{}}')",
        f"insert into sequin_pipeline.positions values ('demo.thing', '2001-01-01', '{{\"after\": \"up-one-{MARKER}\"}}')",
        f"update sequin_pipeline.merges set cursor_after = '[\"one-{MARKER}\"]' where table_name = 'demo.thing'",
        f"update sequin_pipeline.history_tables set seeded_after = 'one-{MARKER}' where table_name = 'demo.thing'",
        f"update sequin_pipeline.columns set refilled_after = 'one-{MARKER}' where table_name = 'demo.thing' and column_name = 'status'",
        # Of a row that is gone already, only its version tells whose it was.
        f"insert into sequin_pipeline.listed values ('demo.gone', 'any', 1, '{{a,r-{MARKER}}}')",
        f"insert into sequin_pipeline.positions values ('demo.gone', '2001-01-01', '{{\"after\": \"r-{MARKER}\"}}')",
        f"update sequin_pipeline.columns set refilled_after = 'r-{MARKER}' where table_name = 'demo.gone' and column_name = 'status'",
    )


EVERYWHERE = {
    "app.bare",
    "app.owned",
    "demo.frame",
    "demo.gone",
    "demo.thing",
    "demo.thing_history",
    *(
        f"sequin_pipeline.{name}"
        for name in ("borrowed", "columns", "held_deletes", "history", "history_tables", "listed", "merges", "positions", "syncs")
    ),
    *(f"sequin_pipeline.{name}" for name in ("rejects", "versions")),
}
WITHOUT_RECORDS = {"census", "cursors", "fields", "forgets", "ledger", "processes", "runs", "shards", "tables"}
"""Of the ledger's tables these hold no ids or objects: names of tables, columns and fields, times, counts, and one cursor."""


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer, ledger_template: str) -> str:
    """A database in which the marker stands everywhere: copied for each test."""
    name = postgres_server.make_database(ledger_template)
    fill(postgres_server.url(name))
    query(postgres_server.url("postgres"), "select")  # lets go of the reader's connection
    return name


@pytest.fixture
def url(postgres_server: PostgresServer, filled: str) -> Iterator[str]:
    name = postgres_server.make_database(filled)
    yield postgres_server.url(name)
    postgres_server.release(name)


def test_the_marker_stands_in_every_table_before(url: str) -> None:
    """What the others search is worth something, and a table that the ledger comes to have is thought of."""
    ledger = {
        name
        for (name,) in query(
            url, "select relname from pg_class where relnamespace = 'sequin_pipeline'::regnamespace and relkind = 'r'"
        )
    }

    assert set(holding(url, MARKER)) == EVERYWHERE
    assert {f"sequin_pipeline.{name}" for name in ledger - WITHOUT_RECORDS} == {
        one for one in EVERYWHERE if one.startswith("seq")
    }


def others(url: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "select 'thing', id from demo.thing union all select 'gone', id from demo.gone union all select 'owned', id from app.owned"
        " union all select 'bare', id from app.bare union all select 'frame', id from demo.frame order by 1, 2",
    )


@pytest.mark.parametrize("subject", [TENANT, SYNC], ids=["tenant", "sync"])
def test_nothing_of_a_tenant_is_left_anywhere_and_reading_everything_again_brings_nothing_back(
    url: str, subject: Subject
) -> None:
    report = forget(Warehouse(url), subject, DECLARED)

    left = holding(url, MARKER)
    rows = others(url)
    again = sync(
        url,
        [theirs("one", 20), stays("a"), theirs("bad", 30, data={"amount": MARKER}), theirs("new", 7)],
        of=KEPT,
        full_refresh=True,
        run_id="again",
    )
    assert left == {}
    assert rows == [("bare", "a"), ("frame", "f1"), ("gone", "a"), ("owned", "a"), ("thing", "a")]
    assert report.is_complete
    assert again.counts == Counts(fetched=4, unchanged=1, forgotten=3)
    assert holding(url, MARKER) == {}
    assert query(
        url, "select table_name, row_count from sequin_pipeline.tables where table_name in ('demo.thing', 'demo.gone') order by 1"
    ) == [
        ("demo.gone", 1),
        ("demo.thing", 1),
    ]


def test_the_report_counts_what_went_by_place(url: str) -> None:
    report = forget(Warehouse(url), TENANT, DECLARED)

    told = report.told()
    assert told["removed"] == {
        "ledger: borrowed values": 1,
        "ledger: counts of syncs": 4,
        "ledger: cursor positions": 2,
        "ledger: cursors of merges": 2,
        "ledger: examples of held deletes": 1,
        "ledger: history entries": 7,
        "ledger: ids of listings": 3,
        "ledger: places of history tables": 1,
        "ledger: places of refills": 2,
        "ledger: rejects": 2,
        "ledger: remembered versions": 2,
        "rows of table app.bare": 1,
        "rows of table app.owned": 1,
        "rows of table demo.frame": 1,
        "rows of table demo.gone": 1,
        "rows of table demo.thing": 3,
        "rows of table demo.thing_history": 5,
    }
    ((kept,),) = query(url, "select removed from sequin_pipeline.forgets where completed_at is not null")
    assert kept == told["removed"]
    assert list(report.lines())[-1].split() == ["39", "removed", "in", "all"]


def test_a_dry_run_counts_and_changes_nothing(url: str) -> None:
    before = holding(url, MARKER)

    report = dry_forget(Warehouse(url), TENANT, DECLARED)

    assert holding(url, MARKER) == before
    assert query(url, "select count(*) from sequin_pipeline.forgets") == [(0,)]
    assert (report.removed["rows of table demo.thing"], report.removed["ledger: rejects"]) == (3, 2)
    assert "would be removed in all" in list(report.lines())[-1]


def test_one_record_goes_with_all_that_is_said_of_it_and_its_tenant_stays(url: str) -> None:
    forget(Warehouse(url), ONE, DECLARED)

    left = holding(url, f"one-{MARKER}")
    outcome = sync(url, [theirs("one", 50), theirs("two", 5), stays("a")], of=KEPT, full_refresh=True, run_id="again")
    assert left == {}
    assert outcome.counts == Counts(fetched=3, unchanged=2, forgotten=1)
    assert {one for (one,) in query(url, "select id from demo.thing")} == {"a", f"two-{MARKER}", f"late-{MARKER}"}


def test_the_request_names_nobody(url: str) -> None:
    for subject in (TENANT, SYNC, ONE):
        forget(Warehouse(url), subject, DECLARED)

    assert query(url, "select kind, label, length(hash), length(salt) from sequin_pipeline.forgets order by generation") == [
        ("internal_id", "", 16, 16),
        ("sync_id", "", 16, 16),
        ("record", "demo/thing", 16, 16),
    ]
    assert holding(url, MARKER) == {}


def _killed_after(url: str, transactions: int) -> None:
    left = [transactions]

    def committed() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    forget(Warehouse(url), TENANT, DECLARED, committed=committed)


def test_killed_behind_any_transaction_nothing_comes_back_and_the_next_call_ends_the_same(
    postgres_server: PostgresServer, filled: str
) -> None:
    boundaries = 0
    while True:
        name = postgres_server.make_database(filled)
        url = postgres_server.url(name)
        child = multiprocessing.get_context("fork").Process(target=_killed_after, args=(url, boundaries + 1))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        boundaries += 1
        outcome = sync(url, [theirs("one", 20), theirs("new", 21)], of=KEPT, full_refresh=True, run_id="again")
        forget(Warehouse(url), TENANT, DECLARED)
        assert (child.exitcode, outcome.counts) == (-signal.SIGKILL, Counts(fetched=2, forgotten=2))
        assert holding(url, MARKER) == {}, f"killed behind transaction {boundaries}"
        postgres_server.release(name)
    assert boundaries == 17


class Thread(threading.Thread):
    """One that tells what it returned."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work
        self.start()

    def run(self) -> None:
        self.returned = self.work()

    def result(self) -> Any:
        self.join()
        return self.returned


class _ForgettingSource(ListSource):
    """Has somebody forget the tenant when it is asked for the page at `at`, while earlier ones are on their way."""

    def __init__(self, pages: Sequence[Sequence[dict[str, object]]], at: int, act: Callable[[], object]) -> None:
        super().__init__(pages)
        self.at, self.act = at, act

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for index, page in enumerate(super().pages(request)):
            if index == self.at:
                self.act()
            yield page


@pytest.mark.parametrize(("at", "lanes", "known"), [(0, 1, 1), (1, 1, 1), (3, 3, 1), (5, 3, 1), (3, 1, 6), (4, 2, 6)])
def test_a_run_at_work_writes_nothing_of_it_behind_the_request(warehouse_url: str, at: int, lanes: int, known: int) -> None:
    """The first `known` pages have been read before, so that their rows are asked about."""
    left: list[dict[str, int]] = []

    def act() -> None:
        forget(Warehouse(warehouse_url), TENANT, [KEPT])
        left.append(holding(warehouse_url, MARKER))

    pages = [[theirs(f"p{n}", 2), theirs(f"x{n}", 3, data={"amount": MARKER}), stays(f"b{n}", 2)] for n in range(6)]
    outcome = sync(
        warehouse_url,
        of=KEPT,
        source=_ForgettingSource(pages, at, act),
        full_refresh=True,
        lanes=lanes,
        batch_records=3,
        run_id="r",
    )

    counts = outcome.counts
    assert left == [{}]
    assert holding(warehouse_url, MARKER) == {}
    assert [row[0] for row in query(warehouse_url, "select id from demo.thing order by id")] == [f"b{n}" for n in range(6)]
    assert counts.fetched == 18 == counts.accounted
    assert counts.forgotten >= 12 - 2 * at


def test_a_request_waits_for_the_batch_that_is_being_committed(warehouse_url: str) -> None:
    sync(warehouse_url, [theirs("a")], of=KEPT)
    with psycopg.connect(warehouse_url) as batch:
        hold_forgets(batch, DEFAULT_SCHEMA)
        batch.execute("update demo.thing set status = status")
        asking = threading.Thread(target=forget, args=(Warehouse(warehouse_url), TENANT, [KEPT]))
        asking.start()
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        wait_until(lambda: query(warehouse_url, waiting) == [(1,)], "the request to wait for the batch")
        before = query(warehouse_url, "select count(*) from sequin_pipeline.forgets")
        batch.commit()
        asking.join()

    assert before == [(0,)]
    assert holding(warehouse_url, MARKER) == {}


def test_undone_a_full_refresh_brings_everything_back(warehouse_url: str) -> None:
    pages = [theirs("one"), theirs("two", 2, deleted=True), stays("a")]
    sync(warehouse_url, pages, of=KEPT)
    forget(Warehouse(warehouse_url), TENANT, [KEPT])

    was_forgotten = undo(Warehouse(warehouse_url), TENANT)

    assert (was_forgotten, undo(Warehouse(warehouse_url), TENANT)) == (True, False)
    assert not is_forgotten(Warehouse(warehouse_url), TENANT)
    assert sync(warehouse_url, pages, of=KEPT, full_refresh=True, run_id="again").counts == Counts(
        fetched=3, inserted=1, deleted=1, unchanged=1, created=2
    )


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_readings_requests_and_undoing_ends_in_the_fold_of_what_is_not_forgotten(
    warehouse_url: str, seed: int
) -> None:
    """The fold: of each record the newest version that was read while its tenant was not forgotten, and not forgotten since."""
    dice, warehouse = random.Random(seed), Warehouse(warehouse_url)
    tenants = ("north", "south", MARKER)
    held: dict[str, int] = {}
    gone: set[str] = set()
    for step in range(12):
        tenant = dice.choice(tenants)
        match dice.choice(("read", "read", "read", "forget", "undo")):
            case "read":
                ids = [(dice.choice(tenants), dice.randrange(3), dice.randrange(1, 9)) for _ in range(6)]
                records = [
                    record(f"{who}-{number}", version, sync={"id": f"s-{who}", "external_id": who}, data={"amount": version})
                    for who, number, version in ids
                ]
                sync(
                    warehouse_url,
                    records[:3],
                    records[3:],
                    of=KEPT,
                    full_refresh=True,
                    lanes=dice.choice((1, 2)),
                    batch_records=2,
                    run_id=f"r{step}",
                )
                for who, number, version in ids:
                    if who not in gone:
                        held[f"{who}-{number}"] = max(version, held.get(f"{who}-{number}", 0))
            case "forget":
                forget(warehouse, Subject("internal_id", tenant), [KEPT])
                gone.add(tenant)
                held = {one: version for one, version in held.items() if not one.startswith(tenant)}
            case "undo":
                undo(warehouse, Subject("internal_id", tenant))
                gone.discard(tenant)
    sync(warehouse_url, [stays("last")], of=KEPT, full_refresh=True, run_id="last")

    assert dict(query(warehouse_url, "select id, updated_idx from demo.thing where id <> 'last'")) == held
    assert [name for name in gone if holding(warehouse_url, f"{name}-")] == []
    ((rows,),) = query(warehouse_url, "select row_count from sequin_pipeline.tables where table_name = 'demo.thing'")
    assert rows == len(held) + 1


def test_what_a_queue_delivers_of_it_is_acknowledged_and_kept_nowhere(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    drain(ListQueue([[theirs("one")]]), [KEPT], warehouse, run_id="before")
    forget(warehouse, TENANT, [KEPT])
    queue = ListQueue([[theirs("one", 9), stays("a"), theirs("u", collection_id="demo:unknown"), theirs("bad", 2, data=[])]])

    outcome = drain(queue, [KEPT], warehouse, run_id="queue")

    assert queue.acknowledged == [0]
    assert outcome.collections["demo/thing"].counts == Counts(fetched=3, inserted=1, created=1, forgotten=2)
    assert holding(warehouse_url, MARKER) == {}


def test_rejects_rows_of_frames_and_the_dry_run_leave_it_out_too(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    forget(warehouse, TENANT, [KEPT])
    frame = pd.DataFrame({"id": ["f1", "f2"], "internal_id": ["tenant-1", MARKER]})

    written = write_frame(warehouse, TableName("demo", "frame"), frame, key=("id",), version=None, run_id="frame")
    planned = dry_run(ListSource([[theirs("one"), stays("a")]]), warehouse, KEPT)

    assert written.counts == Counts(fetched=2, inserted=1, created=1, forgotten=1)
    assert planned.counts == Counts(fetched=2, inserted=1, created=1, forgotten=1)
    assert holding(warehouse_url, MARKER) == {}


@pytest.mark.parametrize(
    ("of", "why"),
    [
        pytest.param(
            replace(APPLICATION, on_delete="mark"),
            "nothing has been forgotten, since not everything can be: table app.owned (1 rows): it belongs to an application, and its "
            "declaration lets no row be deleted (on_delete: remove would). Change the declaration, or leave these tables as they are "
            "with --leave-applications, and delete the rows there yourself",
            id="rows that may not be deleted",
        ),
        pytest.param(
            unmanaged({"id": "id", "updated_idx": "version"}, table="app.owned", on_delete="remove"),
            "nothing has been forgotten, since not everything can be: table app.owned: it belongs to an application, and no column of it "
            "is declared for internal_id, so that nobody can tell which rows these are. Change the declaration, or leave these tables as "
            "they are with --leave-applications, and delete the rows there yourself",
            id="rows that nobody can tell",
        ),
    ],
)
def test_a_table_of_an_application_that_cannot_be_cleared_stops_everything_unless_it_is_left(
    url: str, of: Collection, why: str
) -> None:
    before = holding(url, MARKER)

    with pytest.raises(ConfigurationError) as raised:
        forget(Warehouse(url), TENANT, [KEPT, REMOVED, replace(of, name="owned"), DECLARED[3]])
    refused = holding(url, MARKER), query(url, "select count(*) from sequin_pipeline.forgets")
    report = forget(Warehouse(url), TENANT, [KEPT, REMOVED, replace(of, name="owned"), DECLARED[3]], leaves_applications=True)

    assert str(raised.value) == why
    assert refused == (before, [(0,)])
    assert [one.table for one in report.left] == ["app.owned"]
    assert holding(url, MARKER) == {"app.owned": 1}


def test_rows_of_the_application_itself_stay_in_its_tables(url: str) -> None:
    execute(
        url,
        f"insert into app.owned (id, tenant) values ('own', '{MARKER}')",
        f"insert into app.bare (id, tenant) values ('own', '{MARKER}')",
    )

    forget(Warehouse(url), TENANT, DECLARED)

    assert holding(url, MARKER) == {"app.owned": 1, "app.bare": 1}


def test_a_row_that_a_trigger_keeps_is_told_and_the_request_stays_open(url: str) -> None:
    execute(
        url,
        "create function demo.keep() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger keep before delete on demo.thing for each row when (old.id like 'two%') execute function demo.keep()",
    )

    report = forget(Warehouse(url), TENANT, DECLARED)

    assert (dict(report.kept), report.is_complete) == ({"demo.thing": 1}, False)
    assert "1 rows of demo.thing are still there: a trigger of the table keeps them" in list(report.lines())
    with Warehouse(url).connect() as connection:
        assert [request.kind for request in open_forgets(connection)] == ["internal_id"]


def test_a_record_that_says_its_tenant_in_another_form_is_known_all_the_same(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    forget(warehouse, Subject("internal_id", "42"), [KEPT])
    forget(warehouse, Subject("sync_id", "old"), [KEPT])
    older = {"collection": "demo:thing", "sync_id": "old", "upstream_id": "u", "updated_idx": 1, "data": {}}

    outcome = sync(warehouse_url, [stays("a", sync={"id": "s", "external_id": 42}), older, stays("b")], of=KEPT)

    assert outcome.counts == Counts(fetched=3, inserted=1, created=1, forgotten=2)
    assert query(warehouse_url, "select count(*) from sequin_pipeline.rejects") == [(0,)]
    assert merges(warehouse_url) == [{"fetched": 3, "inserted": 1, "created": 1, "forgotten": 2}]


def test_two_calls_at_once_share_the_work_and_count_everything_once(warehouse_url: str) -> None:
    sync(warehouse_url, [theirs(f"r{number:04}") for number in range(5_000)], [stays("a", 9)], of=KEPT, batch_records=5_000)
    calls = [Thread(partial(forget, Warehouse(warehouse_url), TENANT, [KEPT])) for _ in range(2)]

    reports = [call.result() for call in calls]

    assert sum(report.removed["rows of table demo.thing"] for report in reports) == 5_000
    assert holding(warehouse_url, MARKER) == {}
    assert query(warehouse_url, "select count(*), max(removed ->> 'rows of table demo.thing') from sequin_pipeline.forgets") == [
        (1, "5000")
    ]
    assert query(warehouse_url, "select row_count from sequin_pipeline.tables where table_name = 'demo.thing'") == [(1,)]


def test_a_table_that_is_dropped_meanwhile_holds_nobody(url: str) -> None:
    def drop() -> None:
        execute(url, "drop table if exists demo.gone", "drop table if exists demo.frame")

    report = forget(Warehouse(url), TENANT, DECLARED, committed=drop)

    assert report.is_complete
    assert holding(url, MARKER) == {}


ODD = {
    "quotes and braces": "o'br\"ien {x} %s \\ $1 ,",
    "spaces and lines": "  two\nlines\t",
    "any script": "\u65e5\u672c \U0001f600 \u0130",
    "like a number": "007",
    "like sql": "'); drop table demo.thing; --",
}


@pytest.mark.parametrize("tenant", [pytest.param(tenant, id=name) for name, tenant in ODD.items()])
def test_a_name_of_any_characters_is_forgotten_and_no_other(warehouse_url: str, tenant: str) -> None:
    def of(external_id: str, name: str) -> dict[str, object]:
        return stays(name, sync={"id": f"sync of {external_id}", "external_id": external_id})

    bad = {**of(tenant, "bad"), "data": {"amount": tenant + "x"}}
    sync(warehouse_url, [of(tenant, "a"), of(tenant.strip() + "x", "b"), of(tenant + " ", "c"), bad], of=KEPT)
    pages = [of(tenant, f"id {tenant}"), of("other", "d")]

    report = forget(Warehouse(warehouse_url), Subject("internal_id", tenant), [KEPT])
    sync(warehouse_url, pages, of=KEPT, full_refresh=True, run_id="again")

    assert report.removed["ledger: rejects"] == 1
    assert query(warehouse_url, "select id from demo.thing order by 1") == [("b",), ("c",), ("d",)]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.rejects") == [(0,)]


def test_rejects_whose_envelope_no_text_can_hold_are_forgotten_with_the_others(warehouse_url: str) -> None:
    nul = chr(0)
    odd = [
        theirs("a", upstream_id=f"up{nul}{MARKER}"),
        theirs("b", sync={"id": f"s{nul}", "external_id": MARKER}),
        theirs(f"c{nul}"),
    ]
    sync(warehouse_url, [*odd, *(stays(f"s{number}") for number in range(9))], of=KEPT)
    before = query(warehouse_url, "select count(*) from sequin_pipeline.rejects")

    report = forget(Warehouse(warehouse_url), TENANT, [KEPT])

    assert before == [(3,)]
    assert report.removed["ledger: rejects"] == 3
    assert holding(warehouse_url, MARKER) == {}


def test_a_tenant_that_the_database_cannot_write_is_forgotten_by_its_bytes(postgres_server: PostgresServer) -> None:
    """In a database of Latin letters its records are rejects, and the ledger escapes its name."""
    tenant = "\u65e5\u672c"
    with encoded_database(postgres_server, "LATIN1") as url:
        sync(
            url,
            [stays("a"), *(stays(f"s{number}") for number in range(9)), stays("t", sync={"id": "s2", "external_id": tenant})],
            of=KEPT,
        )
        counted = query(url, "select internal_id from sequin_pipeline.syncs where sync_id = 's2'")
        report = forget(Warehouse(url), Subject("internal_id", tenant), [KEPT])
        left = query(url, "select (select count(*) from sequin_pipeline.rejects), (select count(*) from sequin_pipeline.syncs)")
        query(postgres_server.url("postgres"), "select")  # lets go of the reader's connection

    assert counted == [("\\u65e5\\u672c",)]
    assert (report.removed["ledger: rejects"], report.removed["ledger: counts of syncs"]) == (1, 1)
    assert left == [(0, 1)]
