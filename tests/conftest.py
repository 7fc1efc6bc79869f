"""Fixtures for every test: a real Postgres, and a fresh database in it for each test that asks."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch as mock_patch

import pytest
from hypothesis import settings

from tests.support import postgres
from tests.support.checkout import CHECKOUT
from tests.support.commands import Finished, RunMain
from tests.support.fast import SLOW_FOLDERS, forbid_processes, is_fast
from tests.support.forked import Parent, running_parent
from tests.support.ledgers import with_ledger
from tests.support.postgres import EMPTY, PostgresServer
from tests.support.ways import WAYS, drawn, going, seed_of

# What speaks of rows in its assertions, for tests of several folders.
pytest.register_assert_rewrite("tests.faults.landing")

# Until all tests are imported, whose objects stay. It would be a sixth of the time.
gc.disable()

# A machine that is busy with other things breaks no promise of ours.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")


# These folders' tests are begun first, since some of them wait for minutes, and would else still do so when all others have ended.
BEGUN_FIRST = ("ui", "interop", "e2e", "environment", "faults")
# Tests of these folders share what takes long to start, so that one worker runs them all.
TOGETHER = ("ui",)


STARTUP = CHECKOUT / "tests" / "support" / "startup"
"""What processes of the tests run before everything else: see there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what needs Postgres, other processes, a browser or Dagster")
    parser.addoption("--way", choices=WAYS, help="by which way batches are written, where each test has one of its own")


def pytest_configure() -> None:
    # Whoever starts the suite in the background of a script has it ignore Ctrl-C, which would be inherited by what the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()  # a million objects that stay: each search for garbage would look at them again
    gc.set_threshold(20_000, *gc.get_threshold()[1:])
    gc.enable()
    atexit.register(gc.freeze)
    if str(STARTUP) not in (search := os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STARTUP), *search]))
    if session.config.getoption("--fast"):
        forbid_processes()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out whole folders of slow tests; None leaves the decision to others."""
    is_slow = collection_path in (CHECKOUT / "tests" / folder for folder in SLOW_FOLDERS)
    return True if is_slow and config.getoption("--fast") else None


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Orders the tests, says which of them one worker must run, and leaves out slow ones where that is asked for."""
    if config.getoption("--fast"):
        slow = [item for item in items if not is_fast(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if is_fast(item)]
    for item in items:
        folder = _folder_of(item)
        if folder in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder))
    items.sort(key=lambda item: BEGUN_FIRST.index(folder) if (folder := _folder_of(item)) in BEGUN_FIRST else len(BEGUN_FIRST))


def _folder_of(item: pytest.Item) -> str:
    """The folder of `tests` in which the test's file lies, at whatever depth."""
    return item.path.relative_to(CHECKOUT / "tests").parts[0]


def pytest_report_header() -> str:
    bindir = postgres.binaries()
    return f"postgres: {postgres.server_version(bindir)} ({bindir})"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One throw-away server for the whole session."""
    with postgres.running_server() as server:
        yield server


@pytest.fixture(scope="session")
def processes() -> Iterator[Parent]:
    """Starts processes that are to be ended, without their imports."""
    with running_parent() as parent:
        yield parent


@pytest.fixture
def make_database(postgres_server: PostgresServer) -> Iterator[Callable[..., str]]:
    """Makes another fresh database at each call, as a copy of `template`, and returns its libpq URL; all are dropped after the test."""
    made: list[str] = []

    def make(template: str = EMPTY) -> str:
        made.append(postgres_server.make_database(template))
        return postgres_server.url(made[-1])

    yield make
    for database in made:
        postgres_server.release(database)


@pytest.fixture
def empty_url(make_database: Callable[..., str]) -> str:
    """The libpq URL of a fresh, empty database."""
    return make_database()


@pytest.fixture(scope="session")
def ledger_template(postgres_server: PostgresServer) -> str:
    """A database in which the pipeline has made its ledger: copied, it saves each test 40 ms of a processor."""
    return with_ledger(postgres_server)


@pytest.fixture
def warehouse_url(make_database: Callable[..., str], ledger_template: str) -> str:
    """The libpq URL of a fresh database that holds an empty ledger; where it matters who makes that, ask for `empty_url`."""
    return make_database(ledger_template)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """By which way the batches of a test are written that uses `every_way`; a module that tells ways apart overrides it."""
    return drawn(request)


@pytest.fixture
def every_way(way: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test of a folder has another way in turn, for none of them may need one."""
    with going(way, seed=seed_of(request)):
        yield


@pytest.fixture(scope="session")
def dagster_template(postgres_server: PostgresServer) -> str:
    """A database in which Dagster has made its tables: copied, it saves seconds a project."""
    import dagster as dg  # here, so that tests without Dagster do not wait for it

    database = postgres_server.make_database()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", postgres_server.url(database).replace("postgresql://", "postgresql+psycopg2://"))
        with dg.DagsterInstance.from_config(str(CHECKOUT)) as instance:
            instance.get_runs()
    return database


@pytest.fixture
def dagster_url(make_database: Callable[..., str], dagster_template: str) -> str:
    """The libpq URL of a fresh database that holds the tables of a Dagster instance, and no run."""
    return make_database(dagster_template)


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunMain:
    """Runs the console script's function as in another folder and environment, without the start of a process."""

    def run(*arguments: str, folder: Path, variables: Mapping[str, str], without: Sequence[str] = ()) -> Finished:
        from sequin_pipeline.cli import main

        # The command adds to the environment what it finds out.
        with mock_patch.dict(os.environ), monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            for name in without:
                patch.delenv(name, raising=False)
            patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["sequin-pipeline", *arguments])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Finished(ended.value.code, said.out, said.err)

    return run
