"""The signs of life of a process at work on a run: that they come whatever the run does, and what it does once it was ended."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest

from sequin_pipeline.errors import RunFenced
from sequin_pipeline.ledger.processes import end_all
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.life import check_life, showing_life
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, record
from tests.support.postgres import PostgresServer
from tests.support.syncing import sync
from tests.support.waits import wait_until

QUICKLY = 0.9
"""A sign of life each tenth of a second."""


@pytest.fixture
def connection(warehouse_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        yield connection


def rows(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    with suppress(psycopg.errors.UndefinedTable):
        return connection.execute("select run_id, host, pid, lost_at is not null from sequin_pipeline.processes").fetchall()
    return []


def beats(connection: psycopg.Connection[tuple[object, ...]]) -> Callable[[], bool]:
    """Returns a question: whether life was shown since."""
    statement = "select max(beat_at) from sequin_pipeline.processes"
    before = connection.execute(statement).fetchone()
    return lambda: connection.execute(statement).fetchone() != before


def test_a_process_shows_life_while_the_run_waits_for_whatever_it_is(warehouse_url: str, connection) -> None:
    with showing_life(Warehouse(warehouse_url), "a run", lost_after_seconds=QUICKLY):
        wait_until(lambda: rows(connection), "a sign of life")
        shown = rows(connection)
        goes_on = beats(connection)
        # The run itself does nothing: as if Postgres created an index, or the pool had no place.
        wait_until(goes_on, "another sign of life")

    assert shown == [("a run", os.uname().nodename, os.getpid(), False)]


@pytest.mark.parametrize(
    "error", [None, RuntimeError("as a failing step"), KeyboardInterrupt()], ids=["well", "failed", "interrupted"]
)
def test_a_process_takes_its_row_away_however_its_work_ends(warehouse_url: str, connection, error: BaseException | None) -> None:
    with suppress(RuntimeError, KeyboardInterrupt), showing_life(Warehouse(warehouse_url), "a run", lost_after_seconds=QUICKLY):
        wait_until(lambda: rows(connection), "a sign of life")
        if error:
            raise error

    assert rows(connection) == []


def test_steps_of_one_process_show_life_once_until_the_last_has_ended(warehouse_url: str, connection) -> None:
    warehouse = Warehouse(warehouse_url)
    with showing_life(warehouse, "a run", lost_after_seconds=QUICKLY):
        with (
            showing_life(warehouse, "a run", lost_after_seconds=QUICKLY),
            showing_life(warehouse, "another", lost_after_seconds=QUICKLY),
        ):
            wait_until(lambda: len(rows(connection)) == 2, "both")
        wait_until(lambda: len(rows(connection)) == 1, "one")
        wait_until(beats(connection), "another sign of life")

    assert rows(connection) == []


def test_a_process_whose_run_was_ended_is_told_so_and_leaves_no_row(warehouse_url: str, connection) -> None:
    told = threading.Event()
    with showing_life(Warehouse(warehouse_url), "a run", lost_after_seconds=QUICKLY, when_lost=told.set):
        wait_until(lambda: rows(connection), "a sign of life")
        check_life("a run")
        end_all(connection, ["a run"])
        was_told = told.wait(30)
        with pytest.raises(RunFenced) as raised:
            check_life("a run")
        with pytest.raises(RunFenced), showing_life(Warehouse(warehouse_url), "a run"):
            pass  # the next step of the run, in the same process
        check_life("another")

    assert was_told
    assert str(raised.value) == (
        f"run a run was ended while this process on {os.uname().nodename!r} was at work on it: either it had shown no life for so long "
        "that it was taken for dead, or somebody ended the run. What was committed stays, and nothing more is written; the next run "
        "continues from there"
    )
    assert rows(connection) == []


def test_a_warehouse_that_cannot_be_reached_ends_nothing_and_is_shown_life_when_it_is_back(
    postgres_server: PostgresServer, warehouse_url: str, connection
) -> None:
    database = str(connection.info.dbname)
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as other:
        other.execute(f'alter database "{database}" allow_connections false')
        with showing_life(Warehouse(warehouse_url), "a run", lost_after_seconds=QUICKLY):
            check_life("a run")
            other.execute(f'alter database "{database}" allow_connections true')
            wait_until(lambda: rows(connection), "a sign of life")
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin_pipeline' and datname = %s",
                (database,),
            )
            wait_until(beats(connection), "another sign of life")
            check_life("a run")


class EndedBehindTheFirstPage(ListSource):
    """A source during whose second page somebody ends the run, and the process is told."""

    def __init__(self, pages: list[list[dict[str, object]]], end: Callable[[], None]) -> None:
        super().__init__(pages)
        self._end = end

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for number, page in enumerate(super().pages(request)):
            if number == 1:
                self._end()
            yield page


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_run_that_was_ended_while_its_process_lived_stops_by_itself_and_writes_nothing_more(
    warehouse_url: str, connection, lanes: int
) -> None:
    told = threading.Event()

    def end() -> None:
        wait_until(
            lambda: connection.execute("select count(*) from sequin_pipeline.merges").fetchone() == (lanes,), "the first batch"
        )
        wait_until(lambda: rows(connection), "a sign of life")
        end_all(connection, ["run"])
        assert told.wait(30)

    source = EndedBehindTheFirstPage([[record("a")], [record("b")], [record("c")]], end)
    with (
        pytest.raises(RunFenced, match="run run was ended while this process"),
        showing_life(Warehouse(warehouse_url), "run", lost_after_seconds=QUICKLY, when_lost=told.set),
    ):
        sync(warehouse_url, source=source, batch_records=1, lanes=lanes)

    assert connection.execute("select count(*) from demo.thing").fetchone() == (1,)
    assert connection.execute("select sum(seq) from sequin_pipeline.cursors").fetchone() == (lanes,)
    assert connection.execute("select ended_at from sequin_pipeline.runs").fetchall() in ([], [(None,)])
