"""Whatever happens to a source, to runs and to their connections, the table is the fold of what was delivered, and nothing is missing.

Histories are drawn from a seed, which a failure names with its steps; SEQUIN_PIPELINE_TEST_EFFORT makes for more of them.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from sequin_pipeline.errors import RunFenced, SourceFault, SourceUnavailable, TooManyRejects
from tests.faults.connector_world import CONNECTOR_WORLDS
from tests.faults.worlds import FAULTS, WORLDS, Mortal, Stopped, World
from tests.hostile.effort import EFFORT
from tests.support.racing import wait_for_activity
from tests.support.reading import terminate

HISTORIES, STEPS_EACH = 3, 7


class History:
    """One world, and what has been done in it."""

    def __init__(self, world: World, chance: random.Random, met: Counter[str]) -> None:
        self.world = world
        self.chance = chance
        self.met = met

    def run(self) -> None:
        self._read(Mortal(self.world.source()))

    def run_against_faults(self) -> None:
        when = self.chance.choice((f"every={self.chance.randint(2, 4)}", f"from={self.chance.randint(1, 4)}"))
        self.world.set_faults(f"{self.chance.choice(FAULTS)},{when}")
        self._read(Mortal(self.world.source()))

    def be_killed_between_two_pages(self) -> None:
        page = self.chance.randint(1, 3)

        def stop(number: int) -> None:
            if number == page:
                raise Stopped

        self._lose_what_is_given_back()
        self._read(Mortal(self.world.source(), stop))

    def be_killed_behind_a_commit(self) -> None:
        self._lose_what_is_given_back()
        self._read(Mortal(self.world.source(), dies_at=self.chance.randint(1, 3)))

    def lose_the_connection(self) -> None:
        page = self.chance.randint(1, 2)

        def lose(number: int) -> None:
            if number == page:
                ours = "application_name = 'sequin_pipeline' and datname = current_database()"
                terminate(self.world.landing.url, ours)
                self.met["a connection that was lost"] += 1

        self._read(Mortal(self.world.source(), lose))

    def overlap(self) -> None:
        """A second run begins and ends while the first one waits for its second page."""
        world, before = self.world, 0
        second = Mortal(world.source())

        def interrupt(number: int) -> None:
            nonlocal before
            if before or number != 1 or not world.records_of(first.given[0]):
                return
            before = number
            world.deliver(first.given)
            done = f"(select sum(fetched) from sequin_pipeline.merges) = {len(world.landing.delivered)} limit 1"
            wait_for_activity(world.landing.url, done, [])
            world.change()
            self._end(second)
            world.deliver(second.kept())
            self.met["runs beside each other"] += 1

        first = Mortal(world.source(), interrupt)
        try:
            self._end(first)
        except RunFenced:
            self.met["a run that was fenced"] += 1
        else:
            world.deliver(first.kept()[before:])
        world.check(has_ended=True)

    def come_to_rest(self) -> None:
        """Also what is read last of all is read by two runs, of which the first one dies."""
        for _ in range(2):
            self.world.let_time_pass()
            self.be_killed_between_two_pages()
            self.run()
        for _ in range(20):
            if self.world.is_at_rest():
                break
            self.run()
        assert self.world.is_at_rest()
        self.world.check_truth()

    def _read(self, read: Mortal) -> None:
        try:
            self._end(read, batch_records=self.chance.randint(1, 5))
        except (Stopped, SourceUnavailable, SourceFault) as error:
            self.met["a run that was killed" if isinstance(error, Stopped) else "a run that the source ended"] += 1
            has_ended = False
        else:
            self.met["a run that came to its end"] += 1
            has_ended = True
        self.world.deliver(read.kept())
        self.world.set_faults()
        self.world.check(has_ended=has_ended)

    def _end(self, read: Mortal, *, batch_records: int = 1) -> None:
        try:
            self.world.run(read, batch_records=batch_records)
        except TooManyRejects:
            self.met["a run with too many rejects"] += 1

    def _lose_what_is_given_back(self) -> None:
        """As when a process is killed: whoever is only interrupted gives back what it has."""
        if self.chance.random() < 0.5:
            self.world.set_faults("status:401,path=/nack")


STEPS: dict[Callable[[History], None], int] = {
    History.run: 2,
    History.run_against_faults: 3,
    History.be_killed_between_two_pages: 2,
    History.be_killed_behind_a_commit: 2,
    History.lose_the_connection: 1,
    History.overlap: 2,
}

CASES = {
    "a connection that was lost",
    "a run that came to its end",
    "a run that the source ended",
    "a run that was killed",
    "runs beside each other",
}
"""What must come up, else this test says less than it seems to."""


@pytest.mark.parametrize("in_world", [pytest.param(world, id=name) for name, world in {**WORLDS, **CONNECTOR_WORLDS}.items()])
def test_any_history_leaves_the_fold_of_what_was_delivered_and_misses_nothing(
    make_database: Callable[..., str],
    ledger_template: str,
    in_world: Callable[[str, random.Random], AbstractContextManager[World]],
) -> None:
    met: Counter[str] = Counter()

    for seed in range(HISTORIES * EFFORT):
        chance = random.Random(seed)
        with in_world(make_database(ledger_template), chance) as world:
            history = History(world, chance, met)
            steps = chance.choices(list(STEPS), weights=list(STEPS.values()), k=STEPS_EACH)
            try:
                for step in steps:
                    world.change()
                    step(history)
                history.come_to_rest()
            except BaseException as error:
                error.add_note(f"seed {seed}, steps {[step.__name__ for step in steps]}")
                raise

    assert set(met) >= CASES
