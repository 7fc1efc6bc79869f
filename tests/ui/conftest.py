"""One UI for this folder: its processes, fresh databases, the shipped definitions, and the sandbox's objects.

Tests share it, so each looks at collections that no other test changes. It ends with the last of them: idle, it would take a tenth of
a core from all tests behind it.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sequin_pipeline.sandbox.feeds import GeneratedFeed
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.server import running_sandbox
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer
from tests.ui.browser import NO_CHROMIUM, find_chromium
from tests.ui.running import RunningUi, running_ui

SHIPPED = CHECKOUT / "sequin_pipeline" / "defs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, default=None, metavar="FOLDER", help="keep the pictures of docs/ui.md here")


@dataclass(frozen=True)
class Surroundings:
    """What the UI stands on; `sandbox_url` takes more records."""

    directory: Path
    warehouse_url: str
    sandbox_url: str
    definitions: Path
    variables: dict[str, str]


@pytest.fixture(scope="package")
def surroundings(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    directory = tmp_path_factory.mktemp("project")
    shutil.copy(CHECKOUT / "dagster.yaml", directory)
    definitions = directory / "defs"
    shutil.copytree(SHIPPED, definitions, ignore=shutil.ignore_patterns("__pycache__"))
    stripe = definitions / "stripe" / "defs.yaml"
    stripe.write_text(_for_tests(stripe.read_text()))
    databases = [postgres_server.make_database(), postgres_server.make_database()]
    warehouse_url, dagster_url = map(postgres_server.url, databases)
    with closing(Journal(1, None)) as journal:
        feed = GeneratedFeed(Population(1), journal, clock=lambda: datetime.now(UTC))
        with running_sandbox(feed) as sandbox_url:
            variables = {
                "WAREHOUSE_URL": warehouse_url,
                "DAGSTER_POSTGRES_URL": dagster_url,
                "SEQUIN_API_URL": sandbox_url,
                "SEQUIN_API_TOKEN": "not-a-secret",
                "SEQUIN_COLLECTIONS": "defs",
                "SEQUIN_PIPELINE_HOME": str(directory / "home"),
            }
            yield Surroundings(directory, warehouse_url, sandbox_url, definitions, variables)
    for database in databases:
        postgres_server.release(database)


@pytest.fixture(scope="package")
def ui(surroundings: Surroundings) -> Iterator[RunningUi]:
    with running_ui(surroundings.directory, surroundings.variables) as running:
        yield running


def _for_tests(yaml: str) -> str:
    """The shipped file, but its schedule ticks each minute, and somebody owns a collection."""
    ticking, ticks = re.subn(r'schedule: ".*"', 'schedule: "* * * * *"', yaml)
    owned, owners = re.subn(r"(\n    subscription:\n)", r'\1      owners: ["team:billing"]\n', ticking)
    assert (ticks, owners) == (1, 1)
    return owned


def pytest_report_header() -> str:
    return f"browser: {find_chromium() or NO_CHROMIUM}"
