"""The sessions of the documents whose commands only look: each is run, on an installation that has synced what they look at."""

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from sequin_pipeline.cli import main
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sandbox.feeds import GeneratedFeed
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.docs.blocks import BLOCKS, Block
from tests.docs.shell import commands_of
from tests.support.postgres import PostgresServer
from tests.support.syncing import sync

pytestmark = pytest.mark.slow

LOOKING = ("doctor", "explain", "plan", "status")
"""Commands that change nothing. `rejects list` is printed with rejects that the sandbox's records do not make: tests/e2e runs it."""

OF_THE_PAGES_OWN_DAY = re.compile(
    r"problem|  +fix:|\d+ problem|ok  +tables|  updated|  [0-9,]+ records from|  the run would begin|    alter table"
)
"""Lines that tell what was wrong or different when the session was written."""

Run = Callable[[tuple[str, ...], pytest.CaptureFixture[str]], tuple[object, str]]


def sessions() -> Iterator[tuple[Block, tuple[str, ...], list[str]]]:
    """Each session with one looking command, the command's words, and the lines that it printed."""
    for block in BLOCKS:
        if block.language == "console":
            first, *printed = block.text.splitlines()
            (command, *_) = commands_of(first.removeprefix("$ "))
            if command.program == "sequin-pipeline" and command.words[1] in LOOKING:
                yield block, command.words[1:], printed


@pytest.fixture(scope="module")
def run(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command where `stripe/product` has been synced from the sandbox."""
    databases = [postgres_server.make_database() for _ in range(2)]
    warehouse_url, dagster_url = map(postgres_server.url, databases)
    collection = load_collections({})["stripe/product"]
    feed = GeneratedFeed(Population(1), Journal(1), clock=lambda: datetime.now(UTC))
    with running_sandbox(feed) as api_url, pytest.MonkeyPatch.context() as patch:
        sync(warehouse_url, of=collection, source=SequinSource(api_url, "any"))
        for name, value in {
            "WAREHOUSE_URL": warehouse_url,
            "DAGSTER_POSTGRES_URL": dagster_url,
            "SEQUIN_API_URL": api_url,
            "SEQUIN_API_TOKEN": "any",
            "SEQUIN_PIPELINE_HOME": str(tmp_path_factory.mktemp("home")),
            "COLUMNS": "200",
        }.items():
            patch.setenv(name, value)
        patch.delenv("SEQUIN_COLLECTIONS", raising=False)
        patch.chdir(tmp_path_factory.mktemp("project"))

        def run(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
            with pytest.MonkeyPatch.context() as argv:
                argv.setattr(sys, "argv", ["sequin-pipeline", *words])
                with pytest.raises(SystemExit) as ended:
                    main()
            return ended.value.code, capsys.readouterr().out

        yield run
    for database in databases:
        postgres_server.release(database)


@pytest.mark.parametrize(("block", "words", "printed"), [pytest.param(*each, id=each[0].place) for each in sessions()])
def test_a_session_goes_as_it_is_printed(
    run, block: Block, words: tuple[str, ...], printed, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(words, capsys)

    missing = [line for line in printed if line.strip() and not OF_THE_PAGES_OWN_DAY.match(line) and not is_in(line, said)]
    assert status in (0, None), said
    assert missing == [], f"{block.place} prints lines that the command does not print today:\n{said}"


def is_in(line: str, said: str) -> bool:
    """Whether the command said such a line, with other numbers, times and places; `…` stands for anything."""
    pattern = "".join(
        ".*" if piece == "…" else r"\S+" if re.search(r"\d|^[kMG]B$", piece) else r"\s+" if piece.isspace() else re.escape(piece)
        for piece in re.findall(r"…|\s+|[^\s…]+", line)
    )
    return re.search(rf"^\s*{pattern.removeprefix(chr(92) + 's+')}", said, flags=re.MULTILINE) is not None
