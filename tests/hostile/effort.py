"""How long random tests go on: SEQUIN_PIPELINE_TEST_EFFORT is how many times as long as `make test`, by default 1."""

import os

from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("SEQUIN_PIPELINE_TEST_EFFORT", "1"))


def examples(count: int, **options: int) -> settings:
    """So many examples, always the same ones in `make test`, and others each time where more effort is asked for."""
    return settings(
        max_examples=count * EFFORT,
        derandomize=EFFORT == 1,
        database=None,
        suppress_health_check=list(HealthCheck),  # the machine may be busy
        print_blob=EFFORT > 1,
        **options,  # type: ignore[arg-type]  # stateful_step_count
    )
