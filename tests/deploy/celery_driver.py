"""Runs on Celery's workers, one of which is killed at work: what Dagster's daemon does, in one process of .venv-deploy.

It launches runs, ends those that are lost by the sensor, and launches the next ones, as retries and ticks do. What came of it is printed
as one line of JSON. The daemon itself would cost two more processes, each of which imports everything.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.launcher import LaunchRunContext

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.processes import Process, processes
from sequin_pipeline.orchestration.assets import POOL
from sequin_pipeline.orchestration.chosen_executor import chosen_executor
from sequin_pipeline.orchestration.executor import FIRST_LOAD_TAG, RANGE_END_TAG, RANGE_START_TAG
from sequin_pipeline.orchestration.lost_runs import build_lost_runs_sensor
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.windows import MODE_TAG
from tests.support.waits import wait_until

TAGS = {MODE_TAG: "live", RANGE_START_TAG: "2024-01", RANGE_END_TAG: "2024-02", FIRST_LOAD_TAG: "true"}
LOOK_SECONDS = 1.0
"""Between two looks of the sensor, each of which takes a processor for 50 ms that the workers need too."""
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Driver:
    """The daemon's part."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.warehouse = Warehouse(os.environ["WAREHOUSE_URL"])
        self.sensor = build_lost_runs_sensor(float(os.environ["SEQUIN_LOST_AFTER_SECONDS"]))
        self.cursor: str | None = None

    def look(self) -> None:
        """One look of the sensor."""
        resources = {WAREHOUSE: WarehouseResource()}
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=resources, sensor_name="end_lost_runs"
        ) as context:
            self.cursor = self.sensor.evaluate_tick(context).cursor

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def at_work(self) -> list[Process]:
        with self.warehouse.connect() as connection:
            return list(processes(connection)[1])

    def has_committed(self, label: str) -> bool:
        with self.warehouse.connect() as connection:
            return connection.execute("select from sequin_pipeline.merges where label = %s", (label,)).fetchone() is not None

    def wait(self, has_come: Callable[[], object], what: str) -> float:
        """Looks as the daemon does until it has come; returns how many seconds that took."""
        began = time.monotonic()

        def look_and_see() -> object:
            self.look()
            return has_come()

        wait_until(look_and_see, what, longest_pause_seconds=LOOK_SECONDS)
        return time.monotonic() - began

    def told(self, run_id: str, seconds: float) -> dict[str, object]:
        """What is left of a run that lost its machine."""
        run, pool = self.run(run_id), self.instance.event_log_storage.get_concurrency_info(POOL)
        failures = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        return {
            "status": run.status.value,
            "will_retry": run.tags.get("dagster/will_retry"),
            "message": failures[0].message if failures else "",
            "places": [slot.run_id for slot in pool.claimed_slots if slot.run_id == run_id],
            "seconds": round(seconds, 1),
        }


def by_launcher(instance: dg.DagsterInstance) -> Iterator[dict[str, object]]:
    """Two runs are tasks of two workers; the one of `beta` is killed behind its first commit, and run again on the other."""
    driver = Driver(instance)
    repository = ReconstructableRepository.for_module("sequin_pipeline.definitions", "defs")
    alpha, beta = (launch(instance, repository.get_reconstructable_job(name)) for name in ("sync_alpha", "sync_beta"))
    wait_until(lambda: driver.has_committed("alpha/one") and driver.has_committed("beta/one"), "the first batches")
    (lost,) = [process for process in driver.at_work() if process.run_id == beta]
    kill(lost.pid)
    seconds = driver.wait(lambda: driver.run(beta).status in ENDED, "the end of the lost run")
    yield driver.told(beta, seconds)
    again = launch(instance, repository.get_reconstructable_job("sync_beta"))
    # A process leaves the ledger a moment after its run has ended.
    driver.wait(
        lambda: all(driver.run(each).status in ENDED for each in (alpha, again)) and not driver.at_work(), "the end of the others"
    )
    yield {"alpha": driver.run(alpha).status.value, "again": driver.run(again).status.value, "left": len(driver.at_work())}
    yield {"refused": refused(instance, repository.get_reconstructable_job("sync_alpha"))}


def refused(instance: dg.DagsterInstance, job: ReconstructableJob) -> str:
    """What is said to whoever has steps as tasks of runs that are tasks."""
    executor = chosen_executor({"SEQUIN_EXECUTOR": "celery"})
    assert executor.executor_creation_fn is not None
    try:
        executor.executor_creation_fn(
            dg.InitExecutorContext(job=job, executor_def=executor, executor_config={"retries": {}}, instance=instance)
        )
    except ConfigurationError as error:
        return str(error)
    return ""


def launch(instance: dg.DagsterInstance, job: ReconstructableJob) -> str:
    run = instance.create_run_for_job(job.get_definition(), tags=TAGS, job_code_origin=job.get_python_origin())
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run.run_id


def by_step(instance: dg.DagsterInstance) -> Iterator[dict[str, object]]:
    """The two steps of a run are tasks of two workers, and one of them is killed: the run ends, with the process that waits for both."""
    driver = Driver(instance)
    job = ReconstructableRepository.for_module("sequin_pipeline.definitions", "defs").get_reconstructable_job("sync_gamma")
    results: list[tuple[str, bool]] = []

    def execute() -> None:
        result = dg.execute_job(job, instance, tags=TAGS)
        results.append((result.run_id, result.success))

    waiting = threading.Thread(target=execute)
    waiting.start()
    wait_until(lambda: driver.has_committed("gamma/one") and driver.has_committed("gamma/two"), "the first batches")
    steps = [process for process in driver.at_work() if process.pid != os.getpid()]
    kill(steps[0].pid)
    seconds = driver.wait(lambda: results, "the end of the process that waited")
    yield {**driver.told(steps[0].run_id, seconds), "steps": len(steps), "workers": len({os.getpgid(0), *pids(steps)}) - 1}
    waiting.join(60)
    driver.wait(lambda: not driver.at_work(), "the end of the other step")
    again = dg.execute_job(job, instance, tags=TAGS)
    yield {"again": "SUCCESS" if again.success else "FAILURE", "left": len(driver.at_work())}


def pids(found: list[Process]) -> set[int]:
    return {process.pid for process in found}


def kill(pid: int) -> None:
    """Ends a worker with all its processes, as the end of its machine does."""
    os.killpg(os.getpgid(pid), signal.SIGKILL)


if __name__ == "__main__":
    scenario = {"by_launcher": by_launcher, "by_step": by_step}[sys.argv[1]]
    with dg.DagsterInstance.get() as current:
        for told in scenario(current):
            print(json.dumps(told), flush=True)
