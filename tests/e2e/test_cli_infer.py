"""`sequin-pipeline infer` asks the API that the project reads, and what it prints can be used as it is."""

import json
from collections.abc import Iterator

import pytest

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


@pytest.mark.parametrize(
    ("label", "said"),
    [
        pytest.param("demo", "'demo' names no collection: write PROVIDER/NAME, as in stripe/subscription", id="no-name"),
        pytest.param(
            "demo/thin", "the API has no record of 'demo:thin' and does not describe it: it offers demo:thing", id="not-offered"
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
