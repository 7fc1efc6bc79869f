"""Whoever talks with Postgres goes first: preparing waits for a conversation, but not for a statement that the server works on."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import Progress
from sequin_pipeline.write.interpreter_priority import LONGEST_SECONDS, RightOfWay
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.waits import PATIENCE_SECONDS

LONG_ENOUGH_SECONDS = 0.2
"""For a thread that waits for nothing to have ended."""


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class StoppedClock:
    """At `seconds`, until somebody moves it."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_giving_way_waits_until_the_last_conversation_ends() -> None:
    right_of_way = RightOfWay(StoppedClock())
    may_end = threading.Event()

    def talk() -> None:
        with right_of_way.taken():
            may_end.wait(PATIENCE_SECONDS)

    with right_of_way.taken():
        talking = in_thread(talk)
        giving = in_thread(right_of_way.give_way)
        giving.join(LONG_ENOUGH_SECONDS)
        waited_for_both = giving.is_alive()
    giving.join(LONG_ENOUGH_SECONDS)
    waited_for_the_other = giving.is_alive()
    may_end.set()
    talking.join(PATIENCE_SECONDS)
    giving.join(PATIENCE_SECONDS)

    assert (waited_for_both, waited_for_the_other) == (True, True)
    assert not giving.is_alive()


def test_giving_way_does_not_wait_while_the_server_works() -> None:
    right_of_way = RightOfWay(StoppedClock())

    with right_of_way.taken():
        with right_of_way.ceded():
            in_between = in_thread(right_of_way.give_way)
            in_between.join(PATIENCE_SECONDS)
        afterwards = in_thread(right_of_way.give_way)
        afterwards.join(LONG_ENOUGH_SECONDS)
        waits_again = afterwards.is_alive()

    assert not in_between.is_alive()
    assert waits_again


def test_conversation_with_a_server_far_away_is_not_waited_for_to_its_end() -> None:
    clock = StoppedClock()
    right_of_way = RightOfWay(clock)

    with right_of_way.taken():
        clock.seconds += LONGEST_SECONDS
        giving = in_thread(right_of_way.give_way)
        giving.join(PATIENCE_SECONDS)

        assert not giving.is_alive()


def test_conversation_that_fails_is_over() -> None:
    right_of_way = RightOfWay(StoppedClock())

    with pytest.raises(ZeroDivisionError), right_of_way.taken(), right_of_way.ceded():
        raise ZeroDivisionError
    giving = in_thread(right_of_way.give_way)
    giving.join(PATIENCE_SECONDS)

    assert not giving.is_alive()


@pytest.mark.parametrize("lanes", [1, 2])
def test_next_page_is_prepared_while_a_batch_waits_for_a_row(warehouse_url: str, lanes: int) -> None:
    stream = RecordStream(live_run_config(collection()), ListSource([[record("a", 1)]]))
    run_sync(stream, Warehouse(warehouse_url), run_id="first")
    pages = [[record("a", 1)], [record("a", 2)], [record("a", 3)]]
    pages_seen = threading.Event()

    def report(progress: Progress) -> None:
        if progress.pages == 2:
            pages_seen.set()

    with psycopg.connect(warehouse_url) as rival:
        rival.execute("select from demo.thing where id = 'a' for update")
        running = in_thread(
            lambda: run_sync(
                RecordStream(live_run_config(collection()), ListSource(pages)),
                Warehouse(warehouse_url),
                run_id="second",
                lanes=lanes,
                batch_records=1,
                report=report,
            )
        )
        went_on = pages_seen.wait(PATIENCE_SECONDS)
    running.join(PATIENCE_SECONDS)

    assert went_on
    assert not running.is_alive()
