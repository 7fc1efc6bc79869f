"""`sequin-pipeline infer` asks the API that the project reads, and what it prints can be used as it is."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import TOKEN, Command, MakeProject
from tests.support.builders import record

LINES = [json.dumps(record(f"r{n}", n, data={"status": "active", "amount": n, "token": "hush"})).encode() for n in range(1, 6)]


@pytest.fixture
def api_url() -> Iterator[str]:
    with running_sandbox(RecordedFeed(LINES), Settings(token=TOKEN)) as url:
        yield url


def test_what_is_printed_for_an_undeclared_collection_declares_it(
    api_url: str, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api_url).declare(other="  provider: other\n  collections: {thing: {}}\n")

    inferred = command(project, "infer", "demo/thing", "--records", "3")

    folder = project.folder / "collections" / "demo"
    folder.mkdir()
    (folder / "defs.yaml").write_text(inferred.stdout)
    printed = command(project, "schema", "--format", "sql", "demo/thing")
    assert (inferred.status, printed.status) == (0, 0)
    assert inferred.stdout.startswith("# Proposed from the first 5 records of demo:thing: all of them fit.\n")
    assert [line.strip() for line in printed.stdout.splitlines()][12:15] == [
        '"status" text,',
        '"amount" bigint,',
        '"token" text,',
    ]
    assert not any(secret in inferred.stdout + inferred.stderr for secret in (TOKEN, "hush"))


def test_a_shell_can_put_it_into_the_folder_of_the_definitions_as_it_is_typed(api_url: str, make_project: MakeProject) -> None:
    """The shell has emptied the file by then, so that no command could load the folder."""
    project = make_project(api_url).declare(demo="  provider: demo\n  collections: {thing: {}}\n")
    typed = f"{sys.executable} -m sequin_pipeline.cli infer demo.thing > collections/demo/defs.yaml"

    done = subprocess.run(
        ["sh", "-c", typed], cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    written = (project.folder / "collections" / "demo" / "defs.yaml").read_text()
    assert written.startswith("# Proposed from the first 5 records of demo:thing: all of them fit.\ntype: sequin_pipeline")
    assert [collection.label for collection in load_collections(project.environment()).values()] == ["demo/thing"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        pytest.param("demo", "'demo' names no collection: write PROVIDER/NAME, as in stripe/subscription", id="no-name"),
        pytest.param(
            "demo/thin",
            "the API has no record of 'demo:thin' and does not describe it: did you mean 'demo:thing'?",
            id="not-offered",
        ),
    ],
)
def test_a_collection_that_there_is_not_is_refused(
    api_url: str, make_project: MakeProject, command: Command, label: str, said: str
) -> None:
    project = make_project(api_url).declare(other="  provider: other\n  collections: {thing: {}}\n")

    refused = command(project, "infer", label)

    assert (refused.status, refused.stdout) == (2, "")
    assert refused.stderr.endswith(f"sequin-pipeline: {said}\n")
