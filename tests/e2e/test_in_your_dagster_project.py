"""The page about other people's projects: every command of its first part as it is typed, in a project that `create-dagster` makes."""

import json
import os
import pickle
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.environment.settings import VARIABLES
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from tests.support.builders import record
from tests.support.checkout import CHECKOUT

PAGE = (CHECKOUT / "docs" / "in-your-dagster-project.md").read_text(encoding="utf-8").partition("\n## What a file adds")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)

INSTALL = r"""
set -euo pipefail
python3() { test "$*" = "-m venv .venv"; "$PYTHON" -m venv --without-pip .venv; }
pip() {
  test "$*" = "install -e . sequin-pipeline"
  site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf 'import site; site.addsitedir("%s")\n%s\n' "$PACKAGES" "$PWD/src" > "$site/installed.pth"
  printf '#!/bin/sh\nexec python -c "from dagster_dg_cli.cli import main; main()" "$@"\n' > .venv/bin/dg
  chmod +x .venv/bin/dg
}
"""
"""Stands in for the two commands that would download: the project's environment sees what that of the tests has, and the project."""

THEIRS = """\
import dagster as dg


@dg.asset_check(asset="product_names", required_resource_keys={"source"})
def source_is_theirs(context) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=context.resources.source == "a source of their own")


@dg.definitions
def theirs() -> dg.Definitions:
    return dg.Definitions(
        asset_checks=[source_is_theirs], resources={"source": "a source of their own"}, executor=dg.in_process_executor
    )
"""
"""What the project has before: a resource of a plain name, and a default executor."""


@pytest.mark.processes
def test_the_commands_of_the_page_lead_to_rows_and_leave_the_project_what_it_had(tmp_path: Path, warehouse_url: str) -> None:
    """Two files of collections stand beside an asset with the project's default IO manager, a resource `source` and an executor."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    feed = RecordedFeed(
        json.dumps(record(name, collection_id="stripe:product", data={"name": f"the {name}"})).encode() for name in ("b", "a")
    )
    cd, checks = "cd my-project\n", "dg check defs\n"
    commands = "".join(BLOCKS)
    assert (commands.count(cd), commands.count(checks)) == (1, 1)
    typed = commands.replace(checks, f"cp ../theirs.py src/my_project/defs/\n{checks}")
    (tmp_path / "theirs.py").write_text(THEIRS)

    with running_sandbox(feed) as url:
        for shown, ours in {
            "postgresql://user:password@host:5432/database": warehouse_url,
            "https://api.example.com": url,
            "SEQUIN_API_TOKEN=…": "SEQUIN_API_TOKEN=a-token",
        }.items():
            assert shown in typed
            typed = typed.replace(shown, ours)
        done = subprocess.run(
            ["bash", "-c", INSTALL + typed],
            cwd=tmp_path,
            env={
                **{name: value for name, value in os.environ.items() if name not in VARIABLES},
                "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
                "PYTHON": sys.executable,
                "PACKAGES": sysconfig.get_path("purelib"),
                "DAGSTER_HOME": str(tmp_path / "home"),
                "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
                "PYTHONWARNINGS": "ignore",
                "COLUMNS": "200",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All definitions loaded successfully." in said
    for name in (
        "stripe/product",
        "github/issue",
        "product_names",
        "sync_stripe",
        "sync_github",
        "full_table_checks",
        "sequin_io_manager",
    ):
        assert name in done.stdout
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select id, name from stripe.product order by id").fetchall() == [
            ("a", "the a"),
            ("b", "the b"),
        ]
    assert pickle.loads((tmp_path / "home" / "storage" / "product_names").read_bytes()) == ["the a", "the b"]
    assert "Asset check 'source_is_theirs' on 'product_names' passed" in said
    assert "Executing steps in process" in said
