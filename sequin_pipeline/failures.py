"""Where errors of the pipeline become Dagster failures: what may pass by itself is retried by the step's policy, the rest is not."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sequin_pipeline.errors import PipelineError


@contextmanager
def failing() -> Iterator[None]:
    """Turns a PipelineError that will not pass by itself into a failure without retries; lets a retryable one through."""
    try:
        yield
    except PipelineError as error:
        if error.is_retryable:
            raise
        raise dg.Failure(description=str(error), metadata={"error": type(error).__name__}, allow_retries=False) from error
