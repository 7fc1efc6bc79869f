"""The process that waits for steps which others execute: it shows life, and does not wait for ever for a run that was ended."""

import os
import threading
import time
from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest

from sequin_pipeline.ledger.processes import end_all
from sequin_pipeline.orchestration.resources import WAREHOUSE, WarehouseResource
from sequin_pipeline.orchestration.watched_steps import watched
from tests.support.waits import wait_until


class WaitingExecutor(dg.Executor):
    """As Celery's per step, whose worker is gone: it looks each moment whether the step is ready, and heeds no signal."""

    @property
    def retries(self) -> object:
        return dg._core.execution.retries.RetryMode.DISABLED

    def execute(self, plan_context: object, execution_plan: object) -> Iterator[dg.DagsterEvent]:
        return watched(plan_context, self.wait())

    def wait(self) -> Iterator[dg.DagsterEvent]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)
        yield from ()


@dg.executor(name="waiting", requirements=dg.multiple_process_executor_requirements())
def waiting_executor(context: dg.InitExecutorContext) -> dg.Executor:
    return WaitingExecutor()


@dg.op
def reading() -> None: ...


def waiting_job() -> dg.JobDefinition:
    @dg.job(executor_def=waiting_executor, resource_defs={WAREHOUSE: WarehouseResource(url=dg.EnvVar("THE_WAREHOUSE"))})
    def sync_demo() -> None:
        reading()

    return sync_demo


@pytest.mark.parametrize("in_first_thread", [True, False], ids=["in the first thread", "in another, as Celery's pool of threads"])
def test_a_process_that_waits_for_a_step_of_a_run_that_was_ended_stops_waiting(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, *, in_first_thread: bool
) -> None:
    monkeypatch.setenv("THE_WAREHOUSE", warehouse_url)
    monkeypatch.setenv("SEQUIN_LOST_AFTER_SECONDS", "1")
    succeeded: list[bool] = []
    seen: list[tuple[object, ...]] = []

    def execute() -> None:
        with dg.instance_for_test() as instance:
            succeeded.append(dg.execute_job(dg.reconstructable(waiting_job), instance=instance).success)

    executing = threading.Thread(target=execute)

    def end() -> None:
        with psycopg.connect(warehouse_url, autocommit=True) as connection:
            find = "select pid, run_id from sequin_pipeline.processes"
            wait_until(lambda: seen.extend(connection.execute(find).fetchall()) or seen, "a sign of life")
            end_all(connection, [str(seen[0][1])])

    ending = threading.Thread(target=end)
    if in_first_thread:
        ending.start()
        execute()
    else:
        executing.start()
        end()
    for thread in (ending, executing):
        if thread.ident is not None:
            thread.join(60)

    assert [pid for pid, _ in seen] == [os.getpid()]
    assert succeeded == [False]
