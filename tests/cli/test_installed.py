"""The wheel works in an empty folder, without a checkout around it, and takes no file that is not its user's."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sequin_pipeline.environment.settings import VARIABLES
from tests.sources.scripted import Reply, scripted_server
from tests.support.checkout import CHECKOUT, python_path
from tests.support.postgres import fast_folder

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("wheel")]  # built once

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
STRAY = "not: [what, this, program, reads"
"""The text of files that belong to other programs: whoever read one would stop."""
OTHERS = ("dagster.yaml", "workspace.yaml", "pyproject.toml", "dg.toml", ".env")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is, from a copy, so that no build folder is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(CHECKOUT / "sequin_pipeline", source / "sequin_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, source / "dist"], cwd=source, check=True, capture_output=True)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture
def machine(wheel: Path) -> Iterator["Machine"]:
    # Not tmp_path: pytest closes it to the account that the embedded Postgres runs as when the tests run as root.
    folder = Path(subprocess.check_output(["mktemp", "-d", fast_folder() / "sequin-wheel-XXXXXX"], text=True).strip())
    folder.chmod(0o755)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    (folder / "above" / "empty").mkdir(parents=True)
    installed = Machine(folder)
    try:
        yield installed
    finally:
        if installed.home.exists():
            installed.run("db", "stop")
        shutil.rmtree(folder)


class Machine:
    """A machine on which the wheel is installed in `site`, and its user stands in `empty`."""

    def __init__(self, folder: Path) -> None:
        self.site, self.empty, self.home = folder / "site", folder / "above" / "empty", folder / "home"

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment: Mapping[str, str] = {
            "PYTHONPATH": python_path(self.site),
            "SEQUIN_PIPELINE_HOME": str(self.home),
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-P", "-m", "sequin_pipeline.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.empty,
            env={**inherited, **environment},
        )


def test_the_wheel_syncs_in_an_empty_folder_and_leaves_it_empty(machine: Machine) -> None:
    """Files of other programs lie above the folder, and where the wheel is installed, as some wheels put them there."""
    for folder in (machine.empty.parent, machine.site):
        for name in OTHERS:
            (folder / name).write_text(STRAY)

    first = machine.run("sync", "--collection", "stripe/product")
    again = machine.run("sync", "--collection", "stripe/product")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert f"Dagster home     {machine.home}/dagster\n" in first.stderr
    assert first.stdout.endswith(
        "UI        sequin-pipeline ui, then http://127.0.0.1:3000\n"
        "running   the embedded Postgres and the sandbox go on; `sequin-pipeline db stop` ends both\n"
    )
    assert "90 rows written from 90 records." in first.stdout
    assert "Nothing new: nothing was written." in again.stdout
    assert list(machine.empty.iterdir()) == []
    assert {path.name for path in (machine.home / "dagster").iterdir()} >= {"dagster.yaml", "workspace.yaml"}


DEFS = """
type: sequin_pipeline.component.CollectionSync
attributes:
  provider: tracker
  source: tracker
  options: {url: {env: TRACKER_URL}, token: {env: TRACKER_TOKEN}}
  collections: {thing: {columns: {status: {path: status, type: text}}}}
"""
THINGS = {"items": [{"id": number, "updated_at": "2024-05-01T10:00:00Z", "status": "open"} for number in (1, 2)]}


def test_a_source_of_another_package_is_read_beside_the_wheel(machine: Machine, tmp_path: Path) -> None:
    package = shutil.copytree(CHECKOUT / "examples" / "tracker", tmp_path / "tracker")
    subprocess.run([sys.executable, "-c", BUILD, tmp_path / "dist"], cwd=package, check=True, capture_output=True)
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as packed:
        packed.extractall(machine.site)
    (machine.empty / "collections" / "tracker").mkdir(parents=True)
    (machine.empty / "collections" / "tracker" / "defs.yaml").write_text(DEFS)
    named = {"SEQUIN_COLLECTIONS": "collections", "TRACKER_TOKEN": "t-9271"}

    without = machine.run("sync", **named)
    with scripted_server(Reply(body=json.dumps(THINGS).encode())) as server:
        found = machine.run("doctor", TRACKER_URL=server.url, **named)
        done = machine.run("sync", TRACKER_URL=server.url, **named)

    assert without.returncode == 2
    assert (
        "provider 'tracker' is read from source 'tracker', which needs TRACKER_URL: set it in the environment" in without.stderr
    )
    assert "tracker is read from tracker, whose variables are set" in found.stdout
    assert done.returncode == 0, done.stderr
    assert "2 rows written from 2 records." in done.stdout
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer t-9271"]
    assert "t-9271" not in "".join(run.stdout + run.stderr for run in (without, found, done))


def test_the_doctor_finds_no_problem_in_an_empty_folder_and_makes_nothing(machine: Machine) -> None:
    done = machine.run("doctor")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"Dagster home {machine.home}/dagster\n" in done.stdout
    assert list(machine.empty.iterdir()) == []
    assert not machine.home.exists()


def test_the_shipped_definitions_are_found_without_a_checkout(machine: Machine) -> None:
    """Dagster's own way to a project leads by pyproject.toml, which a wheel does not hold."""
    done = machine.run("schema", "--format", "sql", "stripe/product")

    assert (done.returncode, done.stderr) == (0, "")
    assert 'create table "stripe"."product"' in done.stdout


def test_a_dotenv_file_of_the_folder_itself_is_read_and_stays_as_it_is(machine: Machine) -> None:
    (machine.empty / ".env").write_text("WAREHOUSE_URL=postgresql://you@db.example/w\n")

    done = machine.run("db", "start")

    assert done.returncode == 2
    assert done.stderr.startswith("sequin-pipeline: WAREHOUSE_URL names a database of yours (postgresql://you@db.example/w)")
    assert (machine.empty / ".env").read_text() == "WAREHOUSE_URL=postgresql://you@db.example/w\n"
