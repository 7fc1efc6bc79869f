"""`on_delete` that changes: what was removed stays removed."""

from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.replay_rejects import replay
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, record
from tests.support.reading import ids_and_versions

REMOVED = [record("a", 3), record("b", 4), record("b", 5, deleted=True, data=None)]


@pytest.mark.parametrize("batch_records", [1, 100], ids=["asked first", "sent"])
def test_late_older_copy_of_a_removed_row_stays_out_after_switching_to_mark(warehouse_url: str, batch_records: int) -> None:
    source = ListSource([REMOVED])
    run_sync(RecordStream(live_run_config(collection(on_delete="remove")), source), Warehouse(warehouse_url), run_id="remove")
    source.page_records = [REMOVED, [record("a", 3)], [record("b", 4)]]

    outcome = run_sync(
        RecordStream(live_run_config(collection()), source), Warehouse(warehouse_url), run_id="mark", batch_records=batch_records
    )

    assert outcome.counts == Counts(fetched=2, unchanged=1, stale=1)
    assert ids_and_versions(warehouse_url) == [("a", 3, False)]


def test_newer_version_of_a_removed_row_comes_back_after_switching_to_mark(warehouse_url: str) -> None:
    source = ListSource([REMOVED])
    run_sync(RecordStream(live_run_config(collection(on_delete="remove")), source), Warehouse(warehouse_url), run_id="remove")
    source.page_records = [REMOVED, [record("b", 6), record("a", 7, deleted=True)]]

    outcome = run_sync(RecordStream(live_run_config(collection()), source), Warehouse(warehouse_url), run_id="mark")

    assert outcome.counts == Counts(fetched=2, inserted=1, deleted=1, created=1)
    assert ids_and_versions(warehouse_url) == [("a", 7, True), ("b", 6, False)]


def test_replay_of_a_reject_brings_no_removed_row_back(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    bad = record("b", 4, data={"status": "x", "amount": "many"})
    source = ListSource([[record("a", 3), bad], [record("b", 5, deleted=True, data=None)]])
    run_sync(RecordStream(live_run_config(collection(on_delete="remove")), source), warehouse, run_id="remove")
    ledger = Ledger("demo.thing", "demo/thing")
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("update sequin_pipeline.rejects set resolved_at = null, resolution = null")
    fixed = replace(collection(), columns=(COLUMNS[0],))

    counts = replay(warehouse, fixed, ledger, run_id="replay")

    assert counts == Counts(fetched=1, stale=1)
    assert ids_and_versions(warehouse_url) == [("a", 3, False)]
