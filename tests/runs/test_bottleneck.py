"""Which stage set the pace of a run: by figures of real runs written out, and of a run whose table has a slow trigger."""

from collections.abc import Mapping

import pytest

from sequin_pipeline.runs.bottleneck import bottleneck
from tests.support.builders import collection, record
from tests.support.reading import execute
from tests.support.syncing import sync

NEW = {"fetch": 0.67, "normalize": 1.01, "wait": 0.04, "encode": 0.26, "copy": 0.39, "merge": 2.84, "ledger": 0.1, "commit": 0.14}
KNOWN = {
    "fetch": 1.4,
    "normalize": 1.32,
    "wait": 0.01,
    "encode": 0.97,
    "copy": 0.03,
    "merge": 0.04,
    "ledger": 0.21,
    "commit": 0.04,
}
FAR_AWAY = {"fetch": 5.6, "normalize": 0.9, "wait": 5.1, "encode": 0.3, "copy": 0.4, "merge": 2.9, "ledger": 0.1, "commit": 0.2}
SYNCHRONOUS = {
    "fetch": 0.7,
    "normalize": 1.0,
    "wait": 0.0,
    "encode": 0.3,
    "copy": 0.4,
    "merge": 2.8,
    "ledger": 0.1,
    "commit": 8.4,
}
ALTERNATING = {
    "fetch": 1.0,
    "normalize": 1.0,
    "wait": 0.9,
    "encode": 0.2,
    "copy": 0.2,
    "merge": 0.8,
    "ledger": 0.1,
    "commit": 0.5,
}


@pytest.mark.parametrize(
    ("seconds", "total", "lanes", "said"),
    [
        pytest.param(
            NEW,
            3.63,
            1,
            "server: copying, merging and keeping the ledger took 92 % of 3.6 s (client 35 %, commit 4 %, source 1 %)",
            id="new records",
        ),
        pytest.param(
            KNOWN,
            2.4,
            1,
            "client: turning pages into columns and bytes took 95 % of 2.4 s (server 12 %, commit 2 %, source 0 %)",
            id="known records",
        ),
        pytest.param(
            FAR_AWAY,
            6.0,
            1,
            "source: waiting for its pages took 85 % of 6.0 s (server 57 %, client 20 %, commit 3 %)",
            id="pages that come late",
        ),
        pytest.param(
            SYNCHRONOUS, 12.5, 1, "commit: commits took 67 % of 12.5 s (server 26 %, client 10 %, source 0 %)", id="slow commits"
        ),
        pytest.param(
            {**NEW, "encode": 0.5, "copy": 0.9, "merge": 5.6, "ledger": 0.3, "commit": 0.4},
            4.0,
            2,
            "server: copying, merging and keeping the ledger took 85 % of 4.0 s (client 32 %, commit 5 %, source 1 %)",
            id="two lanes, which share the time",
        ),
        pytest.param(
            ALTERNATING,
            3.0,
            1,
            "no stage alone: client 40 %, server 37 %, source 30 %, commit 17 % of 3.0 s",
            id="stages that take turns",
        ),
        pytest.param(NEW, 0.9, 1, None, id="a run of less than a second"),
        pytest.param(
            {"wait": 0.1}, 1.0, 1, "no stage alone: source 10 %, client 0 %, server 0 %, commit 0 % of 1.0 s", id="others"
        ),
    ],
)
def test_stage_with_the_greatest_share_of_the_time_is_named(
    seconds: Mapping[str, float], total: float, lanes: int, said: str | None
) -> None:
    assert bottleneck({**seconds, "total": total}, lanes=lanes) == said


def test_run_whose_table_has_a_slow_trigger_names_the_server_in_its_metadata(warehouse_url: str) -> None:
    from sequin_pipeline.orchestration.run_metadata import run_metadata  # here: no other test of this room waits for Dagster

    sync(warehouse_url, [record("a")], of=collection(), run_id="before")
    execute(
        warehouse_url,
        "create function demo.late() returns trigger language plpgsql as 'begin perform pg_sleep(1.5); return null; end'",
        "create trigger late after insert on demo.thing for each row execute function demo.late()",
    )

    outcome = sync(warehouse_url, [record("b", 2)], of=collection(), run_id="slow", full_refresh=True)

    told = run_metadata(outcome)["bottleneck"].value
    assert isinstance(told, str)
    assert told.startswith("server: copying, merging and keeping the ledger took ")
