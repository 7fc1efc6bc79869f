"""The world of a connector: a process that reads a file of objects, fails at random, and says now and then what is not so."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from sequin_pipeline.reads import StreamRead
from sequin_pipeline.sources import Page, Source, SourceIdentity
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from sequin_pipeline.sources.connectors.feed import ConnectorFeed
from sequin_pipeline.sources.connectors.process import Limits
from sequin_pipeline.sources.connectors.singer import Singer
from sequin_pipeline.sources.connectors.source import ConnectorSource
from tests.faults.landing import THING, Landing, empty_fold
from tests.faults.worlds import FAULTS, IDS, ListingWorld, Mortal
from tests.hostile.effort import EFFORT
from tests.soak.growing import is_bad
from tests.sources.connectors.child import CATALOG, TAP_CATALOG, Step, installed
from tests.sources.reading import StandingTime
from tests.support.builders import collection
from tests.support.fold import Record
from tests.support.reading import query

OBSERVED = replace(collection(columns=THING.columns, observes_time=True), lists_from_a_start=True)
SMALL = Limits(silence_seconds=60.0, grace_seconds=0.2, lines=2)
INCOMPLETE: Step = ("status", "thing", "INCOMPLETE")

DOES: Mapping[str, Sequence[Step]] = {
    "status:500": (
        ("error", "transient_error", "the API is down"),
        INCOMPLETE,
        ("state", "thing", {"version": "9"}),
        ("exit_with", 1),
    ),
    "status:429,retry-after=1": (("kill", 9),),
    "reset-before": (("error", "system_error", "a bug"), INCOMPLETE, ("exit_with", 1)),
    "cut:30": (("raw", '{"type": "RECORD", "record": {"stream": "thing", "da'), ("exit_with", 0)),
    "html": (("raw", "<html>\n"), ("exit_with", 0)),
    "json-cut": (("state", "thing", {"version": "9"}, 99),),
    "other-object": (INCOMPLETE, ("exit_with", 0)),
    "broken-gzip": (("stderr", "zlib.error"), ("exit_with", 1)),
}
"""What the connector does where a server would fail in this way; states of version 9 would skip everything, were they believed."""


@dataclass
class ConnectorWorld(ListingWorld):
    """Objects in a file, which a connector reads from its state on, and again from the beginning each day."""

    folder: Path = field(kw_only=True)
    kind: str = field(kw_only=True)
    now: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    feed: ConnectorFeed | None = None

    def change(self) -> None:
        chance = self.chance
        for _ in range(chance.randint(1, 4)):
            self.now += timedelta(seconds=chance.choice((1, 5, 60, 3600, 25 * 3600)))
            name = f"r{chance.randrange(IDS)}"
            if name in self.things and chance.random() < 0.3:
                del self.things[name]
                continue
            amount = "no number" if chance.random() < 0.15 else chance.randrange(3)
            updated = self.now.isoformat().replace("+00:00", "Z")
            self.things[name] = {"id": name, "updated": updated, "status": chance.choice("ab"), "amount": amount}
        self._write()

    def _write(self, *fault: object) -> None:
        file = self.folder / "things.json"
        (self.folder / "things.part").write_text(json.dumps(self.things))
        (self.folder / "things.part").rename(file)
        every = self.chance.choice((1, 2, 3))
        read: list[Step] = [["changes", "thing", str(file), every, *fault], ["status", "thing", "COMPLETE"]]
        catalog = CATALOG if self.kind == "airbyte" else TAP_CATALOG
        if self.kind == "singer":
            read = read[:1]
        connector = installed(self.folder, {"discover": [catalog], "read": read}, kind=self.kind, limits=SMALL)
        if self.feed is None:
            protocol = Airbyte(connector) if self.kind == "airbyte" else Singer(connector)
            self.feed = ConnectorFeed(protocol, {"thing": StreamRead("thing")}, page_records=2)

    def set_faults(self, *faults: str) -> None:
        """The first few objects come, then what the fault says. Faults of requests that are no reads mean nothing here."""
        name = next((name for name in FAULTS if faults and faults[0].startswith(name)), None)
        if name is None:
            self._write()
            return
        steps = [step for step in DOES[name] if self.kind == "airbyte" or step[0] not in ("error", "status")]
        self._write(self.chance.randint(1, 3), *steps)

    def source(self) -> Source:
        self._write() if self.feed is None else None
        assert self.feed is not None
        return ConnectorSource(self.feed, SourceIdentity(self.kind, "child"), now=lambda: self.now)

    def records_of(self, page: Page) -> list[tuple[Record, bool]]:
        return [(record, not is_bad(record)) for record in json.loads(page.records)]

    def counts_as_gone(self, record_id: str, seen: set[str]) -> bool:
        """Not what last changed before the oldest object that the listing showed, of those whose newest version is stored."""
        waiting = {str(one["id"]) for one in self.landing.rejected if self.landing._waits(one, self.fold)}
        known = [row.data["updated"] for one, row in self.fold.rows.items() if one in seen and one not in waiting]
        return bool(known) and self.fold.rows[record_id].data["updated"] >= min(known)

    def is_at_rest(self) -> bool:
        return True

    def run(self, read: Mortal, *, batch_records: int = 1) -> None:
        super().run(read)

    def let_time_pass(self) -> None:
        """Until everything is listed again."""
        super().let_time_pass()
        self.now += timedelta(hours=25)

    def check_truth(self) -> None:
        """A row for each object that can be stored; and for none that is gone, but for those that were older than all others."""
        good = {name: one for name, one in self.things.items() if one["amount"] != "no number"}
        rows = dict(query(self.landing.url, "select upstream_id, data from demo.thing where not deleted"))
        assert {name: rows.get(name) for name in good} == good
        oldest = min((one["updated"] for one in good.values()), default="")
        assert [name for name, data in rows.items() if name not in self.things and good and data["updated"] >= oldest] == []


@contextmanager
def connector_world(url: str, chance: Random, kind: str) -> Iterator[ConnectorWorld]:
    with TemporaryDirectory() as folder:
        landing = Landing(url, of=OBSERVED)
        yield ConnectorWorld(landing, chance, StandingTime(), empty_fold(OBSERVED), folder=Path(folder), kind=kind)


CONNECTOR_WORLDS: dict[str, Callable[[str, Random], Any]] = {
    "Airbyte": lambda url, chance: connector_world(url, chance, "airbyte"),
}
if EFFORT > 1:
    # Singer's taps are read by the same code for the most part: a test of all day has no time for both.
    CONNECTOR_WORLDS["Singer"] = lambda url, chance: connector_world(url, chance, "singer")
