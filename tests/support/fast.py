"""What `--fast` leaves out: tests that need Postgres, other processes, a browser or a Dagster instance, or compute for seconds."""

import sys

import pytest

POSTGRES_FIXTURES = frozenset({"postgres_server", "own_server"})
SLOW_FOLDERS = ("e2e", "environment/embedded", "faults", "interop", "orchestration", "soak", "ui")
"""Below `tests`: nearly every test of these needs one of the four, so that they are not even collected."""
STARTS = frozenset({"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system"})


def is_fast(item: pytest.Item) -> bool:
    """Tells whether a test needs nothing but this process, and little time in it."""
    is_marked = any(item.get_closest_marker(name) for name in ("processes", "slow", "ui"))
    return not is_marked and POSTGRES_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def forbid_processes() -> None:
    """Makes each start of another process an error from now on, so that the marker `processes` is not forgotten."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    # Dagster's import asks `file` for the word size of the interpreter.
    if event in STARTS and arguments[0] != "file":
        raise AssertionError(
            f"{event} in a test that --fast does not leave out: mark it with pytest.mark.processes; {arguments[:2]}"
        )
