"""What the ledger says of each sync: from the rows of each batch, and from nothing else."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.orchestration.run_metadata import run_metadata
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.replay_rejects import replay
from tests.e2e.project import Command, MakeProject
from tests.support.builders import EPOCH, collection, record
from tests.support.reading import query
from tests.support.syncing import sync

SYNCS = "select sync_id, internal_id, records, rejected, stream_time from sequin_pipeline.syncs order by sync_id"


def of(tenant: str) -> Any:
    return {"sync": {"id": f"sync-{tenant}", "external_id": tenant}}


def at(minutes: int) -> datetime:
    return EPOCH + timedelta(minutes=minutes)


@pytest.mark.parametrize("lanes", [1, 3])
def test_records_rejects_and_the_newest_time_are_kept_by_sync(warehouse_url: str, lanes: int) -> None:
    bad = record("z", 90, data={"amount": "x"}, **of("north"))

    outcome = sync(
        warehouse_url,
        [record(f"a{n}", n, **of("north")) for n in range(5)] + [record("b", 50, **of("south"))],
        [bad, record("a9", 3, **of("north")), record("none", 4, sync={"id": "alone", "external_id": None})],
        lanes=lanes,
        batch_records=1,
    )

    assert query(warehouse_url, SYNCS) == [
        ("alone", None, 1, 0, at(4)),
        ("sync-north", "north", 6, 1, at(4)),
        ("sync-south", "south", 1, 0, at(50)),
    ]
    assert [(one.sync_id, one.records, one.rejected) for one in outcome.syncs] == [
        ("alone", 1, 0),
        ("sync-north", 6, 1),
        ("sync-south", 1, 0),
    ]


def test_an_older_delivery_moves_no_time_back_and_a_replay_counts_for_nobody(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 9, **of("north")), record("z", 90, data={"amount": "x"}, **of("north"))])
    sync(warehouse_url, [record("a", 2, **of("north"))], full_refresh=True, run_id="again")

    replay(Warehouse(warehouse_url), collection(), Ledger("demo.thing", "demo/thing"), run_id="replay")

    assert query(warehouse_url, SYNCS) == [("sync-north", "north", 2, 1, at(9))]
    assert query(warehouse_url, "select sync_id from sequin_pipeline.rejects") == [("sync-north",)]


@pytest.mark.parametrize(("syncs", "told_syncs"), [(1, 1), (50, 50), (51, None)])
def test_the_metadata_of_a_run_tells_at_most_fifty_syncs(warehouse_url: str, syncs: int, told_syncs: int | None) -> None:
    outcome = sync(warehouse_url, [record(f"a{n}", 7, **of(f"{n:02}")) for n in range(syncs)])

    told = run_metadata(outcome).get("syncs")

    assert (told and len(told.value)) == told_syncs  # type: ignore[arg-type]  # JSON
    if told is not None:
        assert told.value["sync-00"] == {  # type: ignore[index, call-overload]  # JSON
            "internal_id": "00",
            "records": 1,
            "rejected": 0,
            "newest_record_at": at(7).astimezone(UTC).isoformat(),
        }


def test_status_by_sync_is_shown_as_a_table_and_as_json(make_project: MakeProject, command: Command) -> None:
    project = make_project("http://127.0.0.1:9").declare(demo="  provider: demo\n  collections:\n    thing: {}\n    other: {}\n")
    before = command(project, "status", "--by", "sync")
    sync(project.warehouse_url, [record("a", 1, **of("north")), record("b", 2, data={"amount": "x"}, **of("south"))])

    text = command(project, "status", "--by", "sync", "demo/thing")
    told = json.loads(command(project, "status", "--by", "sync", "--json").stdout)["syncs"]

    assert before.stdout == "No sync has delivered a record.\n"
    assert "sync-north" in text.stdout
    assert [one.pop("delivered_at")[:2] for one in told] == ["20", "20"]
    assert told == [
        {
            "collection": "demo/thing",
            "sync_id": f"sync-{tenant}",
            "internal_id": tenant,
            "records": records,
            "rejected": 1 - records,
            "newest_record_at": newest,
            "open_rejects": 1 - records,
        }
        for tenant, records, newest in [("north", 1, at(1).isoformat()), ("south", 0, None)]
    ]
