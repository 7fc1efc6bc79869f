"""What pytest itself loads."""

import subprocess
import sys

import pytest

from tests.support.checkout import CHECKOUT

WITHOUT_DAGSTER = ("write", "read", "runs", "ledger", "postgres", "normalize", "records", "operate")
"""Rooms that know no Dagster, and tests of theirs that do not ask for it either."""

SCRIPT = """
import sys, pytest
status = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print(int(status), "dagster" in sys.modules)
"""


@pytest.mark.processes
def test_pytest_loads_dagster_only_for_tests_that_import_it() -> None:
    """Two seconds that each start would take: a filter of warnings that names a class of Dagster's is enough."""
    folders = [f"tests/{room}" for room in WITHOUT_DAGSTER]

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *folders, "-k", "test_ports_and_hosts_that_libpq_takes_are_taken"],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
    )

    assert done.stdout.splitlines()[-1] == "0 False", done.stdout
