"""This module reads after how much time without life a process that is at work on a run is taken for lost."""

from collections.abc import Mapping

from sequin_pipeline.errors import ConfigurationError

VARIABLE = "SEQUIN_LOST_AFTER_SECONDS"

LOST_AFTER_SECONDS = 90.0
"""Nine signs of life that do not come: a machine that swaps, or is moved to another host, pauses for seconds and not for this long."""

SHORTEST_SECONDS = 1.0


def lost_after_seconds(environment: Mapping[str, str]) -> float:
    """Returns the setting, or its default; raises ConfigurationError for what is no time."""
    said = environment.get(VARIABLE, "").strip()
    if not said:
        return LOST_AFTER_SECONDS
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_SECONDS <= seconds < float("inf"):
        raise ConfigurationError(
            f"{VARIABLE} is {said!r}: expected a number of seconds, {SHORTEST_SECONDS:.0f} or more; without it a process is taken for "
            f"lost after {LOST_AFTER_SECONDS:.0f}"
        )
    return seconds
