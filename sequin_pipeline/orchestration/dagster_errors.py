"""This module turns errors into Dagster failures: the step's retry policy takes what may pass by itself, the rest ends the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sequin_pipeline.errors import PipelineError


@contextmanager
def failing() -> Iterator[None]:
    """Lets a retryable PipelineError through, and turns every other error into a failure without retries.

    This is the boundary to Dagster: its policy retries whatever it is not told otherwise about, and a bug does not pass by waiting.
    Nor is an interrupt (Terminate in the UI, the end of the processes) an error that passes: Dagster would wait for half a minute and
    go on.
    """
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError) as interrupt:
        raise dg.Failure(
            "the run was interrupted: what has been committed stays, and the next run continues after it",
            metadata={"error": "interrupt"},
            allow_retries=False,
        ) from interrupt
    except PipelineError as error:
        if error.is_retryable:
            raise
        raise dg.Failure(str(error), metadata={"error": type(error).__name__}, allow_retries=False) from error
    except Exception as error:
        raise dg.Failure(
            f"an error that the pipeline does not expect: {type(error).__name__}: {error}",
            metadata={"error": type(error).__name__},
            allow_retries=False,
        ) from error
