"""How fast a source is asked: evenly, slower after a refusal, never faster than it allows."""

import pytest

from sequin_pipeline.sources.http.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 6))
        self.now += seconds


def test_requests_are_spaced_out() -> None:
    clock = Clock()
    pace = Pace(10, clock=lambda: clock.now, sleep=clock.sleep)

    for _ in range(4):
        pace.wait()

    assert clock.waits == [0.1, 0.1, 0.1]


def test_each_refusal_halves_the_pace_and_answers_bring_it_back_to_where_it_was() -> None:
    pace = Pace(100)

    for _ in range(3):
        pace.answered(was_too_fast=True)
    slow = pace.requests_per_second
    for _ in range(200):
        pace.answered(was_too_fast=False)

    assert (slow, pace.requests_per_second) == (12.5, 100)


def test_the_pace_never_stands_still() -> None:
    pace = Pace(4)

    for _ in range(10):
        pace.answered(was_too_fast=True)

    assert pace.requests_per_second == 1


@pytest.mark.parametrize(("fastest", "answers"), [(25, 163), (100, 233)])
def test_after_refusals_that_did_not_end_it_takes_less_than_a_minute_to_the_limit(fastest: int, answers: int) -> None:
    clock = Clock()
    pace = Pace(fastest, clock=lambda: clock.now, sleep=clock.sleep)
    for _ in range(50):
        pace.answered(was_too_fast=True)
    began, slowest, count = clock.now, pace.requests_per_second, 0

    while pace.requests_per_second < fastest:
        pace.wait()
        pace.answered(was_too_fast=False)
        count += 1

    assert (slowest, count) == (1, answers)
    assert 45 < clock.now - began < 60
