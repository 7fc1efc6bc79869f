"""A feed of objects in memory, ordered by their versions and read two at a time, and a source over it."""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.keyed.feed import Arrival, Reading
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.source import KeyedSource
from tests.support.builders import collection

THING = collection(observes_time=True)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONED = Shape((("id",),), ("at",), resumes_listings=True)
PLAIN = Shape((("id",),))


@dataclass
class Shelf:
    """`things` are an object's version in seconds behind BEGINNING, and its amount, by its id. `breaks_at`: the number of pages after
    which nothing comes any more. `closed` counts the reads that were ended properly."""

    of: Shape = VERSIONED
    things: dict[str, tuple[int, int]] = field(default_factory=dict)
    odd: list[bytes] = field(default_factory=list)
    breaks_at: int | None = None
    readings: list[Reading] = field(default_factory=list)
    closed: int = 0

    def put(self, thing: str, second: int, amount: int = 1) -> None:
        self.things[thing] = second, amount

    def shape(self, name: str) -> Shape:
        assert name == "thing"
        return self.of

    def read(self, name: str, reading: Reading) -> Generator[Arrival, None, None]:
        self.readings.append(reading)
        try:
            since = 0 if reading.state is None else json.loads(reading.state)
            found = sorted((second, thing, amount) for thing, (second, amount) in self.things.items() if second >= since)
            for number in range(0, len(found), 2):
                if number // 2 == self.breaks_at:
                    raise SourceUnavailable("the shelf of this test fell over")
                page = found[number : number + 2]
                objects = [
                    json.dumps({"id": thing, "at": iso(second), "amount": amount}).encode() for second, thing, amount in page
                ]
                yield Arrival(objects, b"%d" % page[-1][0] if self.of.version else None)
            if self.odd:
                yield Arrival(self.odd)
        finally:
            self.closed += 1


def iso(second: int) -> str:
    return (BEGINNING + timedelta(seconds=second)).isoformat()


def open_shelf(shelf: Shelf, at: datetime, *, relist_hours: int = 24) -> KeyedSource:
    return KeyedSource(shelf, SourceIdentity("shelf", "http://shelf"), relist_hours=relist_hours, now=lambda: at)
