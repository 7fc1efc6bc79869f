"""Rejects that are tried again, given up, or overtaken."""

from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.errors import TooManyRejects
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import list_rejects, settle
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.replay_rejects import replay
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, live_stream, record
from tests.support.reading import rows

LEDGER = Ledger("demo.thing", "demo/thing")
AMOUNT_AS_TEXT = replace(collection(), columns=(COLUMNS[0], replace(COLUMNS[1], name="amount_text", type="text")))


def resolutions(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select record_id, resolution from sequin_pipeline.rejects order by record_id").fetchall()


def test_fixed_declaration_lets_rejects_in_with_their_own_versions(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    bad = record("b", 7, data={"status": "x", "amount": "a dozen"})
    run_sync(live_stream(collection(), [record("a", 1), bad]), warehouse, run_id="first")
    run_sync(live_stream(AMOUNT_AS_TEXT, []), warehouse, run_id="fixed")

    counts = replay(warehouse, AMOUNT_AS_TEXT, LEDGER, run_id="replay")

    assert counts == Counts(fetched=1, inserted=1, created=1)
    assert rows(warehouse_url, "id", "updated_idx", "amount_text") == [("a", 1, "1"), ("b", 7, "a dozen")]
    assert resolutions(warehouse_url) == [("b", "replayed")]


def test_replay_of_a_record_that_still_does_not_fit_leaves_it_open(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    bad = record("b", 7, data={"status": ["x"], "amount": "a dozen"})
    run_sync(live_stream(collection(), [record("a", 1), bad]), warehouse, run_id="first")
    run_sync(live_stream(AMOUNT_AS_TEXT, []), warehouse, run_id="fixed")

    counts = replay(warehouse, AMOUNT_AS_TEXT, LEDGER, run_id="replay")

    assert counts == Counts(fetched=1, rejected=1)
    assert rows(warehouse_url, "id", "updated_idx", "amount_text") == [("a", 1, "1")]
    assert resolutions(warehouse_url) == [("b", None)]


def test_replay_never_overwrites_a_newer_version(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    source = ListSource([[record("b", 7, data={"status": "x", "amount": "a dozen"}), record("a", 1)], [record("b", 8)]])
    run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="first")
    run_sync(live_stream(AMOUNT_AS_TEXT, [], []), warehouse, run_id="fixed")

    counts = replay(warehouse, AMOUNT_AS_TEXT, LEDGER, run_id="replay")

    assert counts == Counts()
    assert rows(warehouse_url, "id", "updated_idx", "amount_text") == [("a", 1, "1"), ("b", 8, "8")]
    assert resolutions(warehouse_url) == [("b", "a good version was stored")]


def test_discarded_content_stays_discarded_when_it_comes_again(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    pages = [[record("a", 1), record("b", 7, data={"status": "x", "amount": "a dozen"})]]
    run_sync(RecordStream(live_run_config(collection()), ListSource(pages)), warehouse, run_id="first")
    with warehouse.connect() as connection:
        settle(connection, LEDGER, [reject.raw for reject in list_rejects(connection, LEDGER)], resolution="discarded")

    outcome = run_sync(
        RecordStream(live_run_config(collection(), full_refresh=True), ListSource(pages)), warehouse, run_id="again"
    )

    assert (outcome.counts, outcome.open_rejects) == (Counts(fetched=2, unchanged=1, rejected=1), 0)
    assert resolutions(warehouse_url) == [("b", "discarded")]


def test_a_run_of_nothing_but_discarded_records_does_not_fail(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    bad = record("b", 7, data={"status": "x", "amount": "a dozen"})
    source = ListSource([[record("a", 1), bad]])
    run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="first")
    with warehouse.connect() as connection:
        settle(connection, LEDGER, [reject.raw for reject in list_rejects(connection, LEDGER)], resolution="discarded")
    source.page_records = [*source.page_records, [bad]]

    outcome = run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="second")

    assert (outcome.counts, outcome.discarded, outcome.open_rejects) == (Counts(fetched=1, rejected=1), 1, 0)
    source.page_records = [*source.page_records, [bad, record("c", 8, data={"status": "x", "amount": "a score"})]]
    with pytest.raises(TooManyRejects, match=r"^1 of 2 records of 'demo/thing' were rejected.*'c'"):
        run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="third")


def test_record_without_its_parent_lands_with_the_run_after_the_parent_came(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    source = ListSource([[record("a", 1)]])
    run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="first")
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("create table demo.parent (status text primary key)")
        connection.execute("insert into demo.parent values ('active')")
        connection.execute("alter table demo.thing add foreign key (status) references demo.parent")
    source.page_records = [*source.page_records, [record("b", 2, data={"status": "new", "amount": 2}), record("c", 3)]]
    waiting = run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="second")
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("insert into demo.parent values ('new')")
    source.page_records = [*source.page_records, [record("d", 4)]]

    settled = run_sync(RecordStream(live_run_config(collection()), source), warehouse, run_id="third")

    assert (waiting.open_rejects, settled.open_rejects) == (1, 0)
    assert resolutions(warehouse_url) == [("b", "replayed")]
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select id from demo.thing order by id").fetchall() == [("a",), ("b",), ("c",), ("d",)]
