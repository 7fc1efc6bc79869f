"""The package works where it is installed without a checkout around it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT


@pytest.mark.processes
def test_the_shipped_definitions_are_found_without_a_checkout(tmp_path: Path) -> None:
    """Dagster's own way to a project leads by pyproject.toml, which a wheel does not hold."""
    shutil.copytree(CHECKOUT / "sequin_pipeline", tmp_path / "sequin_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "SEQUIN_COLLECTIONS"}

    done = subprocess.run(
        [sys.executable, "-m", "sequin_pipeline.cli", "schema", "--format", "sql", "stripe/product"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(tmp_path)},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert 'create table "stripe"."product"' in done.stdout
