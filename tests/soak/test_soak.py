"""A few rounds of what `make soak` does for minutes."""

from tests.soak.rounds import soak

ROUNDS = 5


def test_a_few_rounds_of_faults_end_in_the_fold() -> None:
    told: list[str] = []

    report, races = soak(seed=4, goes_on=lambda rounds: rounds < ROUNDS, tell=told.append)

    assert (report.rounds, races.rounds, len(told)) == (ROUNDS, ROUNDS, 2 * ROUNDS)
    assert report.runs.total() == 3 * ROUNDS
    assert report.faults.total() >= ROUNDS
    assert report.endings["success"] > 0
    assert races.batches["copied"] > 0
    assert races.batches["staged"] > 0
