"""What the README says that a first and a second `make sync` print is what they print, but for paths, speeds and seconds."""

import re
from collections import Counter
from pathlib import Path

import pytest

from sequin_pipeline.cli.landed import Landed, tell
from sequin_pipeline.cli.session import Session, announce
from sequin_pipeline.environment.embedded import Home
from sequin_pipeline.environment.settings import read_settings
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sandbox.population import Population
from tests.docs.blocks import blocks_of
from tests.support.checkout import CHECKOUT

pytestmark = pytest.mark.slow

FIRST, SECOND = [block.text for block in blocks_of(CHECKOUT / "README.md") if "stripe/charge" in block.text]
TOTAL = re.compile(r"^[\w/]+: [\d,]+ records, \d+ pages, [\d,]+ records/s$")
"""A line of progress: tests/e2e has what it says while a sync runs."""


@pytest.fixture(scope="module")
def made_up() -> dict[str, Counter[bool]]:
    """How many objects of each collection the sandbox serves, by whether they are deleted."""
    found: dict[str, Counter[bool]] = {}
    for change in Population(1).initial():
        found.setdefault(change.collection_id.replace(":", "/"), Counter())[change.deleted] += 1
    return found


@pytest.mark.parametrize(("printed", "is_first"), [(FIRST, True), (SECOND, False)], ids=["first", "second"])
def test_a_sync_prints_what_the_readme_prints(
    made_up: dict[str, Counter[bool]], printed, is_first, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no environment is active
    collections = load_collections({})
    settings = read_settings({}, Path("/home/of/dagster"), embedded_home=Home(Path("/var/lib/sequin_pipeline")))
    session = Session(settings, "http://127.0.0.1:4000", collections)

    announce(session)
    tell(
        session,
        [landed(label, str(each.table), made_up[label], is_first=is_first) for label, each in collections.items()],
        as_json=False,
    )

    said = capsys.readouterr()
    lines = [without_seconds(line) for line in f"{said.err}\n{said.out}".splitlines()]
    for line in printed.splitlines():
        if line not in ("…", "", "$ make sync") and not TOTAL.match(line):
            assert without_seconds(line) in lines
            del lines[: lines.index(without_seconds(line)) + 1]  # they come in this order


def landed(label: str, table: str, objects: Counter[bool], *, is_first: bool) -> Landed:
    counts = Counts(fetched=objects.total(), inserted=objects[False], deleted=objects[True]) if is_first else Counts()
    return Landed(label, table, counts, rows=objects.total(), seconds=0.2)


def without_seconds(line: str) -> str:
    return re.sub(r"\d+\.\d$", "0.0", line)
