"""Who competes, with how many records, through which phases, and whether it can run on this machine."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = CHECKOUT / ".venv-bench" / "bin" / "python"
DRIZZLE = CHECKOUT / "bench" / "peers" / "drizzle"

QUEUES = ("sequin_consumer", "sequin_stream")

PEERS = "bench.peers."
BESIDE_RECORDS = 50_000
"""Enough for what a run costs once to be small, few enough to be done again for every peer."""

CORE_PHASES = ("new", "changed", "one_percent", "replay")
PEER_PHASES = ("new", "changed")
PHASE_LABELS = {
    "new": "new records",
    "changed": "all changed",
    "one_percent": "1 % changed",
    "replay": "known (replay)",
    "nothing_new": "nothing new",
}
VARIANTS = {
    "new": "new",
    "changed": "changed",
    "one_percent": "one_percent",
    "replay": "one_percent",
    "nothing_new": "one_percent",
}
"""The variant of the stream that a phase reads: a replay is the last one again."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One contestant; `name` is also its schema. At most `max_records` of the round's records: slow ones are extrapolated by rate.

    Entries of one `group` take turns phase by phase; `needs_table` where its tool does not create one. It runs in `directory`, whose
    modules it imports.
    """

    name: str
    label: str
    module: str
    group: str
    phases: Sequence[str] = PEER_PHASES
    max_records: int | None = None
    needs_table: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    directory: Path = CHECKOUT

    def records(self, of: int) -> int:
        return of if self.max_records is None else min(of, self.max_records)

    @property
    def is_peer(self) -> bool:
        return self.module.startswith(PEERS) or self.module.endswith(".mjs")


def beside(peer: Entry) -> Entry:
    """The pipeline with two lanes again, taking turns with a peer: what is compared has to run within seconds of each other."""
    options = {"part": "whole", "lanes": 2}
    return Entry(f"beside_{peer.name}", PIPELINE, "bench.pipeline", peer.group, max_records=BESIDE_RECORDS, options=options)


def _peer(name: str, label: str, module: str, *, records: int, needs_table: bool = False, rows: int | None = None) -> Entry:
    options = {} if rows is None else {"rows": rows}
    return Entry(name, label, module, group=name, max_records=records, needs_table=needs_table, options=options)


LIMIT, LIMIT_TWO, PIPELINE, PIPELINE_TWO = "limit", "limit_two", "pipeline", "pipeline_two"
PIPELINE_JSON = "pipeline_json"

CORE: tuple[Entry, ...] = (
    Entry(
        LIMIT,
        "limit: ready bytes, one connection",
        "bench.limit",
        "core",
        CORE_PHASES,
        options={"statements": "merge", "connections": 1},
    ),
    Entry(PIPELINE, "sequin_pipeline", "bench.pipeline", "core", (*CORE_PHASES, "nothing_new"), options={"part": "whole"}),
    Entry(
        PIPELINE_TWO, "sequin_pipeline, two lanes", "bench.pipeline", "core", CORE_PHASES, options={"part": "whole", "lanes": 2}
    ),
    Entry(
        PIPELINE_JSON,
        "sequin_pipeline, data: json",
        "bench.pipeline",
        "core",
        CORE_PHASES,
        options={"part": "whole", "data": "json"},
    ),
    Entry(
        LIMIT_TWO,
        "limit: ready bytes, two connections",
        "bench.limit",
        "core",
        CORE_PHASES,
        options={"statements": "merge", "connections": 2},
    ),
    Entry("copy", "bare COPY into the table", "bench.limit", "core", ("new",), options={"statements": "copy", "connections": 1}),
    Entry(
        "copy_json",
        "bare COPY into the table, data: json",
        "bench.limit",
        "core",
        ("new",),
        options={"statements": "copy", "connections": 1, "data": "json"},
    ),
)

PEER_ENTRIES: tuple[Entry, ...] = (
    _peer("sling", "sling, from a flat CSV", "bench.peers.sling_csv", records=50_000, needs_table=True),
    _peer("drizzle_1000", "Drizzle, 1,000 a statement", "upsert.mjs", records=20_000, needs_table=True, rows=1_000),
    _peer(
        "sqlalchemy_1000",
        "SQLAlchemy, 1,000 at a time",
        "bench.peers.sqlalchemy_rows",
        records=20_000,
        needs_table=True,
        rows=1_000,
    ),
    _peer("dlt", "dlt, merge by upsert", "bench.peers.dlt_upsert", records=20_000),
    _peer("singer", "target-postgres (Singer)", "bench.peers.singer_target", records=10_000),
    _peer("pandas", "pandas to_sql and upsert", "bench.peers.pandas_to_sql", records=5_000, needs_table=True),
    _peer("drizzle_1", "Drizzle, one by one", "upsert.mjs", records=2_000, needs_table=True, rows=1),
    _peer("sqlalchemy_1", "SQLAlchemy, one by one", "bench.peers.sqlalchemy_rows", records=2_000, needs_table=True, rows=1),
)


ENTRIES: tuple[Entry, ...] = (*CORE, *chain.from_iterable((beside(peer), peer) for peer in PEER_ENTRIES))
"""Everybody, in the order in which they run."""


class CannotRun(Exception):
    """Something that a contestant needs is not on this machine; the message says what."""


def command(entry: Entry) -> list[str]:
    """How its process is started, but for its last argument. Raises CannotRun."""
    if not entry.is_peer:
        return [sys.executable, "-m", entry.module]
    if entry.module.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            raise CannotRun("node is not installed")
        if not (DRIZZLE / "node_modules").is_dir():
            raise CannotRun("its packages are not installed: `npm ci` was not possible")
        return [node, str(DRIZZLE / entry.module)]
    if not PEERS_PYTHON.exists():
        raise CannotRun("the environment of the peers, .venv-bench, is not there: `make bench` makes it")
    return [str(PEERS_PYTHON), "-m", entry.module]
