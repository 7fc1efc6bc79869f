"""An interrupt ends the run, in spite of its retry policy."""

import dagster as dg
import pytest

from sequin_pipeline.orchestration.dagster_errors import failing


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_interrupted_step_is_not_tried_again(interrupt: type[BaseException]) -> None:
    attempts: list[int] = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=0))
    def at_work() -> None:
        attempts.append(1)
        with failing():
            raise interrupt

    @dg.job
    def run() -> None:
        at_work()

    result = run.execute_in_process(raise_on_error=False)

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert (result.success, len(attempts)) == (False, 1)
    assert "the run was interrupted: what has been committed stays" in str(failure.step_failure_data.user_failure_data)
