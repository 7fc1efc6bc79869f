"""News are looked for before a run is launched: what speaks for a run, what does not, and what is remembered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.ledger.held_deletes import HeldDeletes, hold
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.quiet import NothingNew, remember_nothing_new
from sequin_pipeline.ledger.status import live_runs
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.reads import Since
from sequin_pipeline.runs.news import LONGEST_WITHOUT_RUN, Due, look_for_news
from sequin_pipeline.sources import SourceIdentity
from tests.sources.rest.reading import LIST, PAGINATORS, THING, Runs
from tests.support.builders import COLUMNS, ListSource, collection, record
from tests.support.children import with_children
from tests.support.reading import query
from tests.support.rest_api import fake_rest
from tests.support.syncing import sync

PAGES = [[record("r1"), record("r2")], [record("r3")]]
OF = collection()
LEDGER = Ledger("demo.thing", "demo/thing")
NOTHING_NEW = NothingNew("demo.thing", "run", "2")


def asked(url: str, source: Any, of: Any = OF) -> NothingNew | Due:
    with Session(Warehouse(url)) as session:
        return look_for_news(session, of, LEDGER, lambda collection: source)


@pytest.fixture
def synced(warehouse_url: str) -> str:
    sync(warehouse_url, *PAGES)
    return warehouse_url


def test_a_source_with_nothing_behind_the_cursor_is_asked_without_news(synced: str) -> None:
    source = ListSource(PAGES)

    assert asked(synced, source) == NOTHING_NEW
    assert [request.after for request in source.requests] == ["2"]


def test_a_new_record_needs_a_run(synced: str) -> None:
    assert asked(synced, ListSource([*PAGES, [record("r4")]])) == Due("there are new records")


@pytest.mark.parametrize(("pages", "expected"), [(1, NOTHING_NEW), (5, NOTHING_NEW), (6, Due("its cursor moves on"))])
def test_a_stream_that_moves_on_without_records_needs_a_run_now_and_then(
    synced: str, pages: int, expected: NothingNew | Due
) -> None:
    assert asked(synced, ListSource([*PAGES, *[[]] * pages])) == expected


def test_more_known_records_than_lie_at_an_edge_are_left_to_a_run(warehouse_url: str) -> None:
    with fake_rest(order=0, page_records=100) as fake:
        fake.fill(201)
        runs = Runs(fake, warehouse_url, replace(LIST, is_ascending=False, params={}))
        runs.sync()

        assert asked(warehouse_url, runs.source(), THING) == Due("it gives 201 records that are known")


def statement(text: str) -> Callable[[str], None]:
    def execute(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(text.encode())

    return execute


def held(url: str) -> None:
    with Warehouse(url).connect() as connection:
        hold(connection, LEDGER, HeldDeletes("s1", 1, 5, 5, ("r1",)))


CHANGED = Due("its declaration or its table has changed")


@pytest.mark.parametrize(
    ("happens", "of", "expected"),
    [
        pytest.param(None, collection(columns=(*COLUMNS, Column("note", parse_path("note"), "text"))), CHANGED, id="new column"),
        pytest.param(None, collection(columns=(Column("status", parse_path("state"), "text"),)), CHANGED, id="other path"),
        pytest.param(None, replace(OF, description="New words"), CHANGED, id="other description"),
        pytest.param(statement("alter table demo.thing drop column amount"), OF, CHANGED, id="column dropped"),
        pytest.param(None, collection(on_delete="remove"), Due("its on_delete has changed"), id="other on_delete"),
        pytest.param(None, replace(OF, indexes=(("amount",),)), Due("an index is missing"), id="new index"),
        pytest.param(held, OF, Due("deletes are held"), id="held deletes"),
        pytest.param(
            statement("insert into sequin_pipeline.census values ('demo.thing', 'mark', '')"),
            OF,
            Due("a census is under way"),
            id="census",
        ),
        pytest.param(
            statement(
                "insert into sequin_pipeline.rejects (table_name, content_hash, label, raw, reason, class, run_id, last_seen_at)"
                " values ('demo.thing', gen_random_uuid(), 'demo/thing', '{}', 'no parent', 'parent', 'run', now() - interval '2 hours')"
            ),
            OF,
            Due("rejects wait to be tried again"),
            id="waiting rejects",
        ),
        pytest.param(
            statement("update sequin_pipeline.columns set refilled_at = null where column_name = 'amount'"),
            OF,
            Due("columns are still to be filled"),
            id="refill broken off",
        ),
        pytest.param(
            statement(
                "insert into sequin_pipeline.runs (run_id, table_name, label, mode) values ('killed', 'demo.thing', 'demo/thing', 'live')"
            ),
            OF,
            Due("the last run did not come to its end"),
            id="run killed",
        ),
        pytest.param(
            statement("update sequin_pipeline.runs set ended_at = null"),
            OF,
            Due("no live run has come to its end yet"),
            id="no run ended",
        ),
        pytest.param(
            statement("update sequin_pipeline.runs set started_at = now() - interval '25 hours'"),
            OF,
            Due("the last run was a day ago"),
            id="a day without a run",
        ),
        pytest.param(None, collection(table="demo.other"), Due("it has never been synced"), id="moved to another table"),
    ],
)
def test_whatever_a_run_would_do_without_a_record_needs_one(
    synced: str, happens: Callable[[str], None] | None, of: Any, expected: Due
) -> None:
    if happens is not None:
        happens(synced)

    with Session(Warehouse(synced)) as session:
        answer = look_for_news(session, of, Ledger(str(of.table), of.label), lambda collection: ListSource(PAGES))

    assert answer == expected


def test_an_index_that_a_child_table_lacks_needs_a_run_until_one_has_made_it(warehouse_url: str) -> None:
    of = with_children(OF)
    sync(warehouse_url, *PAGES, of=of)
    before = asked(warehouse_url, ListSource(PAGES), of)
    line, tax, label = of.children
    indexed = replace(of, children=(line, tax, replace(label, indexes=(("value",),))))

    missing = asked(warehouse_url, ListSource(PAGES), indexed)
    sync(warehouse_url, of=indexed, run_id="second")
    after = asked(warehouse_url, ListSource(PAGES), indexed)

    assert (before, missing) == (NOTHING_NEW, Due("an index is missing"))
    assert after == NothingNew("demo.thing", "second", "2")


def test_a_table_that_is_gone_is_said_as_the_run_would_say_it(synced: str) -> None:
    statement("drop table demo.thing")(synced)

    with pytest.raises(Exception, match=r"table 'demo\.thing' of 'demo/thing' is gone"):
        asked(synced, ListSource(PAGES))


def test_another_source_is_refused_as_the_run_would_refuse_it(synced: str) -> None:
    other = ListSource(PAGES, SourceIdentity("list", "http://elsewhere"))

    with pytest.raises(Exception, match="has been filled from list http://demo"):
        asked(synced, other)
    assert other.requests == []


def test_asking_without_news_is_remembered_with_the_last_run_and_leaves_it_as_it_was(synced: str) -> None:
    before = query(synced, "select run_id, started_at, heartbeat_at, ended_at from sequin_pipeline.runs")

    with Warehouse(synced).connect() as connection:
        remembered = remember_nothing_new(connection, [NOTHING_NEW])
        (runs,) = live_runs(connection, LONGEST_WITHOUT_RUN).values()

    assert remembered == {"demo.thing"}
    assert runs.asked_at is not None
    assert runs.ended_at is not None
    assert runs.asked_at > runs.ended_at
    assert query(synced, "select run_id, started_at, heartbeat_at, ended_at from sequin_pipeline.runs") == before


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda url: sync(url, *PAGES, [record("r4")], run_id="manual"), id="another run read on"),
        pytest.param(statement("delete from sequin_pipeline.cursors"), id="the cursor was forgotten"),
        pytest.param(statement("update sequin_pipeline.runs set ended_at = null"), id="the run was taken up again"),
    ],
)
def test_nothing_is_remembered_of_a_place_that_is_no_longer_the_last(synced: str, happens: Callable[[str], object]) -> None:
    answer = asked(synced, ListSource(PAGES))
    assert isinstance(answer, NothingNew)
    happens(synced)

    with Warehouse(synced).connect() as connection:
        assert remember_nothing_new(connection, [answer]) == frozenset()
    assert query(synced, "select count(*) from sequin_pipeline.runs where asked_at is not null") == [(0,)]


def test_objects_at_the_edge_that_are_given_again_are_nothing_new_until_one_changes(warehouse_url: str) -> None:
    """As of GitHub: `since` is inclusive, so that the newest objects come at each read."""
    with fake_rest(page_records=100) as fake:
        fake.fill(5, seconds=0)
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=PAGINATORS["header_link"]))
        runs.sync()
        fake.asked.clear()

        quiet = asked(warehouse_url, runs.source(), THING)
        requests = len(fake.asked)
        # In the same second, so that its version is the one that is known.
        fake.things["t1"]["status"] = "changed"
        changed = asked(warehouse_url, runs.source(), THING)
        fake.things["t1"]["status"] = "active"
        fake.things["t1"]["updated_at"] = "2026-01-01T00:00:01Z"
        again = asked(warehouse_url, runs.source(), THING)

    assert isinstance(quiet, NothingNew)
    assert requests == 1
    assert changed == again == Due("there are new records")


@pytest.mark.parametrize(
    ("read", "order"),
    [
        pytest.param(replace(LIST, is_ascending=False, is_descending=True), -1, id="newest first"),
        pytest.param(replace(LIST, is_ascending=False), 0, id="in no order"),
        pytest.param(replace(LIST, is_ascending=False, params={}), 0, id="cannot be asked since"),
        pytest.param(replace(LIST, detail="things/{id}"), 1, id="one by one"),
        pytest.param(replace(LIST, since=Since(lookback_seconds=60)), 1, id="looks back"),
        pytest.param(replace(LIST, changes=replace(LIST, path="things")), 1, id="a list of changes"),
    ],
)
def test_each_way_of_reading_an_api_can_be_asked(warehouse_url: str, read: Any, order: int) -> None:
    with fake_rest(order=order) as fake:
        fake.fill(3)
        runs = Runs(fake, warehouse_url, read)
        runs.sync()

        quiet = asked(warehouse_url, runs.source(), THING)
        fake.put("new")
        news = asked(warehouse_url, runs.source(), THING)
        runs.sync()
        quiet_again = asked(warehouse_url, runs.source(), THING)

    assert isinstance(quiet, NothingNew)
    assert news == Due("there are new records")
    assert isinstance(quiet_again, NothingNew)


def test_a_listing_that_is_due_needs_a_run_and_no_request(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(3)
        runs = Runs(fake, warehouse_url, relist_hours=0)
        runs.sync()
        fake.asked.clear()

        assert asked(warehouse_url, runs.source(), THING) == Due("everything is to be listed")
        assert asked(warehouse_url, runs.source(version=None), THING) == Due("everything is to be listed")
        assert fake.asked == []


def test_a_reject_that_waits_already_is_nothing_new(warehouse_url: str) -> None:
    with fake_rest() as fake:
        fake.fill(2, seconds=0)
        fake.put("bad", amount="no number")
        runs = Runs(fake, warehouse_url)
        runs.sync()

        quiet = asked(warehouse_url, runs.source(), THING)
        fake.things["bad"]["amount"] = "no number either"
        changed = asked(warehouse_url, runs.source(), THING)

    assert query(warehouse_url, "select record_id is not null from sequin_pipeline.rejects") == [(True,)]
    assert isinstance(quiet, NothingNew)
    assert changed == Due("there are new records")


def test_a_refusal_is_told_as_it_is(warehouse_url: str) -> None:
    with fake_rest() as fake:
        runs = Runs(fake, warehouse_url)
        runs.sync()
        fake.token = "another"

        with pytest.raises(SourceRefused, match="status 401"):
            asked(warehouse_url, runs.source(), THING)
