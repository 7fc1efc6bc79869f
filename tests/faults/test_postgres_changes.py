"""Somebody changes the table, or the rights on it, between two batches of one run."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sequin_pipeline.errors import LedgerRefused, TableRefused
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import Page, ReadRequest
from tests.faults.faulty_api import things
from tests.faults.landing import Landing, assert_says
from tests.support.builders import ListSource, live_run_config
from tests.support.racing import wait_for_activity
from tests.support.reading import execute, query
from tests.support.waits import Waits

FIRST = things(1, 2)
SECOND = [*things(3, 4), {**FIRST[0], "updated_idx": 9}]
WRITING = r"while writing a batch of 'demo/thing' to table 'demo\.thing', Postgres said "


@dataclass
class ChangedMeanwhile(ListSource):
    """Once the first page has been committed, and before the second one is there, the statement is executed."""

    url: str = ""
    statement: str = ""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for number, page in enumerate(super().pages(request)):
            if number == 1:
                wait_for_activity(self.url, "(select count(*) from sequin_pipeline.cursors where cursor = '1') = 1 limit 1", [])
                execute(self.url, self.statement)
            yield page


@dataclass(frozen=True)
class Change:
    """What is done to the table, what the run says, and what fixes it where the next run cannot by itself."""

    statement: str
    said: str
    fix: str | None = None


CHANGES = {
    "column dropped": Change(
        "alter table demo.thing drop column status", rf"{WRITING}'column .*status.* does not exist' \(SQLSTATE 42703\)\..*"
    ),
    "column of another type": Change(
        "alter table demo.thing alter column amount type text",
        rf"{WRITING}'operator does not exist: text = bigint' \(SQLSTATE 42883\)\..*",
        "alter table demo.thing alter column amount type bigint using amount::bigint",
    ),
    "primary key dropped": Change(
        "alter table demo.thing drop constraint thing_pkey",
        rf"{WRITING}'there is no unique or exclusion constraint matching the ON CONFLICT specification' \(SQLSTATE 42P10\)\..*",
        "alter table demo.thing add primary key (id)",
    ),
    "table renamed": Change(
        "alter table demo.thing rename to elsewhere",
        rf"{WRITING}'relation \"demo\.thing\" does not exist' \(SQLSTATE 42P01\)\.",
        "alter table demo.elsewhere rename to thing",
    ),
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in CHANGES.items()])
def test_change_of_the_table_stops_the_run_and_after_it_is_fixed_the_next_one_goes_on(landing: Landing, change: Change) -> None:
    landing.sync(ListSource([]))
    waits = Waits()
    source = ChangedMeanwhile([FIRST, SECOND], url=landing.url, statement=change.statement)

    with pytest.raises(TableRefused) as caught:
        landing.sync(source, warehouse=Warehouse(landing.url, sleep=waits), batch_records=1)
    cursors = landing.cursors()
    if change.fix is not None:
        execute(landing.url, change.fix)
    landing.sync(ListSource([FIRST, SECOND]))

    assert_says(str(caught.value), change.said)
    assert (cursors, waits.seconds) == ({"1"}, [])
    landing.deliver(*FIRST, *SECOND)
    landing.check(cursor="2")


def test_dropped_table_is_refused_until_a_full_refresh_is_asked_for(landing: Landing) -> None:
    source = ChangedMeanwhile([FIRST, SECOND], url=landing.url, statement="drop table demo.thing")
    pages = ListSource([FIRST, SECOND])

    with pytest.raises(TableRefused) as caught:
        landing.sync(source, batch_records=1)
    with pytest.raises(LedgerRefused) as again:
        landing.sync(pages)
    landing.sync(pages, run_config=live_run_config(landing.of, full_refresh=True))

    assert_says(str(caught.value), rf"{WRITING}'relation \"demo\.thing\" does not exist' \(SQLSTATE 42P01\)\.")
    assert "--full-refresh" in str(again.value)
    assert pages.requests[0].after is None
    landing.deliver(*FIRST, *SECOND)
    # What the first run wrote went with the table.
    execute(landing.url, "delete from sequin_pipeline.merges where run_id = 'run 1'")
    landing.check(cursor="2")


@pytest.fixture
def writing_role(landing: Landing) -> Iterator[str]:
    """The URL of a role that may write the table and the ledger."""
    landing.sync(ListSource([]))
    execute(
        landing.url,
        "create role plain_writer login",
        "grant usage on schema demo, sequin_pipeline to plain_writer",
        "grant all on all tables in schema demo, sequin_pipeline to plain_writer",
    )
    yield landing.url.replace("//postgres@", "//plain_writer@")
    execute(landing.url, "drop owned by plain_writer", "drop role plain_writer")


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("demo.thing", id="right revoked on the table"),
        pytest.param("sequin_pipeline.merges", id="right revoked on the ledger"),
    ],
)
def test_right_revoked_under_a_run_is_named_and_not_tried_again(landing: Landing, writing_role: str, table: str) -> None:
    waits = Waits()
    revoke = f"revoke insert on {table} from plain_writer"
    source = ChangedMeanwhile([FIRST, SECOND], url=landing.url, statement=revoke)

    with pytest.raises(TableRefused) as caught:
        landing.sync(source, warehouse=Warehouse(writing_role, sleep=waits), batch_records=1)
    landing.deliver(*FIRST)
    landing.check(cursor="1")
    execute(landing.url, f"grant insert on {table} to plain_writer")
    landing.sync(ListSource([FIRST, SECOND]), warehouse=Warehouse(writing_role))

    name = table.rpartition(".")[2]
    assert_says(
        str(caught.value),
        rf"{WRITING}'permission denied for table {name}' \(SQLSTATE 42501\): grant the right that it names to this role\.",
    )
    assert waits.seconds == []
    landing.deliver(*SECOND)
    landing.check(cursor="2")
    assert query(landing.url, "select count(*)::int from sequin_pipeline.rejects") == [(0,)]
