"""Where steps are executed: real runs of a real job, on an instance in Postgres."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from sequin_pipeline.orchestration.assets import POOL
from sequin_pipeline.orchestration.definitions import loaded_definitions
from sequin_pipeline.orchestration.executor import (
    FIRST_LOAD_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    is_heavy,
    modules_to_preload,
    most_at_once,
    usable_processors,
)
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.windows import MODE_TAG
from tests.support.builders import record
from tests.support.checkout import CHECKOUT

NAMES = ("first", "second", "third")
TICK = {MODE_TAG: "live", RANGE_START_TAG: "2024-01", RANGE_END_TAG: "2024-02"}
FIRST_LOAD = {**TICK, FIRST_LOAD_TAG: "true"}


def demo_job() -> dg.JobDefinition:
    """What each process builds anew."""
    return loaded_definitions(os.environ["SEQUIN_COLLECTIONS"]).resolve_job_def("sync_demo")


def queue_job() -> dg.JobDefinition:
    """Another function, since Dagster keeps what the first one built."""
    return demo_job()


@pytest.fixture
def surroundings(empty_url: str, dagster_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Three collections declared, and the variables that their runs read but for the API's. Yields the warehouse.

    Processes are forked from one that has the variables of the first run: another test's, which would end with ours.
    """
    forkserver._forkserver._stop()
    folder = tmp_path / "defs" / "demo"
    folder.mkdir(parents=True)
    collections = ", ".join(f"{name}: {{}}" for name in NAMES)
    (folder / "defs.yaml").write_text(
        f"type: sequin_pipeline.component.CollectionSync\nattributes: {{provider: demo, collections: {{{collections}}}}}\n"
    )
    monkeypatch.setenv("SEQUIN_COLLECTIONS", str(folder.parent))
    monkeypatch.setenv("WAREHOUSE_URL", empty_url)
    monkeypatch.setenv("SEQUIN_API_TOKEN", "none is needed")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url.replace("postgresql://", "postgresql+psycopg2://", 1))
    yield empty_url
    forkserver._forkserver._stop()


def run(tags: dict[str, str], *, names: tuple[str, ...] = NAMES) -> tuple[bool, set[str]]:
    """Runs the job over the collections: whether it succeeded, and the processes that were started for them."""
    feed = RecordedFeed(json.dumps(record(name, collection_id=f"demo:{name}")).encode() for name in NAMES)
    with (
        running_sandbox(feed) as url,
        pytest.MonkeyPatch.context() as patch,
        dg.DagsterInstance.from_config(str(CHECKOUT)) as instance,
    ):
        patch.setenv("SEQUIN_API_URL", url)
        result = dg.execute_job(
            dg.reconstructable(demo_job),
            instance=instance,
            tags=tags,
            asset_selection=[dg.AssetKey(["demo", name]) for name in names],
        )
        started = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
        syncing = [
            event.dagster_event for event in started if event.dagster_event.step_key in {f"demo__{name}" for name in NAMES}
        ]
        processes = {str(event.event_specific_data.metadata["pid"].value) for event in syncing}
        return result.success, processes


def rows(warehouse_url: str) -> list[int]:
    with psycopg.connect(warehouse_url) as connection:
        return [connection.execute(f"select count(*) from demo.{name}").fetchone()[0] for name in NAMES]


def test_a_first_load_gives_each_collection_a_process(surroundings: str) -> None:
    succeeded, processes = run(FIRST_LOAD)

    assert succeeded
    assert len(processes) == 3
    assert str(os.getpid()) not in processes
    assert rows(surroundings) == [1, 1, 1]


def test_consumers_of_a_queue_have_processes_of_their_own_in_a_tick_too(surroundings: str) -> None:
    (Path(os.environ["SEQUIN_COLLECTIONS"]) / "demo" / "defs.yaml").write_text(
        "type: sequin_pipeline.component.CollectionSync\n"
        "attributes: {provider: demo, source: sequin_consumer, queue: {consumer: c1, consumers: 2}, collections: {first: {}}}\n"
    )
    lines = [json.dumps(record(f"r{number}", collection_id="demo:first")).encode() for number in range(1_500)]
    with (
        running_sandbox(RecordedFeed(lines), Settings(max_ack_pending=4_000)) as url,
        pytest.MonkeyPatch.context() as patch,
        dg.DagsterInstance.from_config(str(CHECKOUT)) as instance,
    ):
        patch.setenv("SEQUIN_API_URL", url)
        result = dg.execute_job(dg.reconstructable(queue_job), instance=instance, tags={MODE_TAG: "live"})
        started = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)

    assert result.success
    assert {event.dagster_event.step_key for event in started} >= {"drain_demo", "drain_demo_2"}
    with psycopg.connect(surroundings) as connection:
        counts = connection.execute(
            "select count(*), (select sum(fetched) from sequin_pipeline.merges) from demo.first"
        ).fetchone()
    assert counts == (1_500, 1_500)


def test_a_tick_stays_in_its_process(surroundings: str) -> None:
    succeeded, processes = run(TICK)

    assert (succeeded, processes) == (True, set())
    assert rows(surroundings) == [1, 1, 1]


def test_a_single_collection_stays_in_its_process(surroundings: str) -> None:
    succeeded, processes = run(FIRST_LOAD, names=("first",))

    assert (succeeded, processes) == (True, set())


def test_a_first_load_stays_in_a_process_that_may_start_none(surroundings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker of Celery's default pool may not: Python refuses children to a daemonic process."""
    monkeypatch.setitem(vars(multiprocessing.current_process())["_config"], "daemon", True)

    succeeded, processes = run(FIRST_LOAD)

    assert (succeeded, processes) == (True, set())
    assert rows(surroundings) == [1, 1, 1]


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 2), ("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("900000 100000", 2), ("", 2)],
)
def test_processors_are_those_that_the_container_may_use(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    (tmp_path / "cpu.max").write_text(quota)

    assert usable_processors(tmp_path / "cpu.max") == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to processors")
def test_a_process_that_is_bound_to_one_processor_uses_one(tmp_path: Path) -> None:
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(bound)})
    try:
        assert usable_processors(tmp_path / "missing") == 1
    finally:
        os.sched_setaffinity(0, bound)


@pytest.mark.parametrize(
    ("processors", "places_by_hand", "expected"),
    [
        pytest.param(2, None, 2, id="fewer processors than the four places of dagster.yaml"),
        pytest.param(16, None, 4, id="more processors"),
        pytest.param(16, 6, 6, id="a limit that was set in the UI"),
        pytest.param(16, 1, 1, id="one place"),
        pytest.param(2, 0, 2, id="a pool that is closed: the steps wait for it"),
    ],
)
def test_no_more_processes_are_started_than_the_pool_has_places(
    surroundings: str, processors: int, places_by_hand: int | None, expected: int
) -> None:
    with dg.DagsterInstance.from_config(str(CHECKOUT)) as instance:
        if places_by_hand is not None:
            instance.event_log_storage.set_concurrency_slots(POOL, places_by_hand)

        assert most_at_once(instance, processors) == expected


def test_a_forked_process_finds_the_storage_imported(surroundings: str) -> None:
    """Each would spend most of a second on it, and a collection of some thousand records less than that."""
    look = (
        "import sys, dagster, sequin_pipeline.orchestration.forkserver_preload; before = set(sys.modules);"
        f"dagster.DagsterInstance.from_config({str(CHECKOUT)!r}).dispose();"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('dagster_postgres', 'sqlalchemy', 'alembic'))))"
    )

    found = subprocess.run([sys.executable, "-W", "ignore", "-c", look], check=True, capture_output=True, text=True)

    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        (["dagster", "sequin_pipeline.definitions"], ["sequin_pipeline.orchestration.forkserver_preload"]),
        (
            ["dagster", "sequin_pipeline", "my_project.definitions"],
            ["dagster_postgres", "sequin_pipeline.orchestration.component"],
        ),
        ([], ["dagster_postgres", "sequin_pipeline.orchestration.component"]),
    ],
    ids=["the package's own location", "a project", "nothing"],
)
def test_forked_processes_of_a_project_do_not_wait_for_the_shipped_definitions(imported: list[str], expected: list[str]) -> None:
    assert modules_to_preload(imported) == expected


@pytest.mark.parametrize(
    ("tags", "heavy"),
    [
        pytest.param(TICK, False, id="a tick"),
        pytest.param(FIRST_LOAD, True, id="a first load"),
        pytest.param({"dagster/backfill": "b", RANGE_START_TAG: "2024-01", RANGE_END_TAG: "2024-03"}, True, id="a backfill"),
        pytest.param({"dagster/partition": "2024-01"}, False, id="one window"),
        pytest.param({}, False, id="nothing said"),
    ],
)
def test_backfills_and_first_loads_are_heavy(tags: dict[str, str], *, heavy: bool) -> None:
    assert is_heavy(tags) is heavy
