"""How fast a source is asked: evenly, slower after a refusal, never faster than it allows."""

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
