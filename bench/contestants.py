"""Who competes, with how many records, through which phases, and whether it can run on this machine."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
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
FAST_PHASES = ("new", "changed", "known")
PHASE_LABELS = {
    "new": "new records",
    "changed": "all changed",
    "one_percent": "1 % changed",
    "replay": "known (replay)",
    "known": "known (replay)",
    "nothing_new": "nothing new",
}
VARIANTS = {
    "new": "new",
    "changed": "changed",
    "one_percent": "one_percent",
    "replay": "one_percent",
    "known": "changed",
    "nothing_new": "one_percent",
}
"""The variant of the stream that a phase reads: a replay is the last one again."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One contestant; `name` is also its schema. At most `max_records` of the round's records: slow ones are extrapolated by rate.

    Entries of one `group` take turns phase by phase; `needs_table` where its tool does not create one. It runs in `directory`, whose
    modules it imports. `kind` of peer: of each, the fastest stands in the README; what lacks something that users need has none.
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
    kind: str = ""

    def records(self, of: int) -> int:
        return of if self.max_records is None else min(of, self.max_records)

    @property
    def is_peer(self) -> bool:
        return self.module.startswith(PEERS) or self.module.endswith(".mjs")


def beside(peer: Entry) -> Mapping[str, Entry]:
    """The pipeline again, taking turns with a peer: what is compared has to run within seconds of each other. By what sets it apart.

    It has two lanes beside a peer of the ordinary kind. A fast one has one connection: so has the pipeline beside it, once with `data` in
    jsonb and once in json.
    """
    options: Mapping[str, Mapping[str, object]] = {"": {"lanes": 2}}
    if peer in FAST_PEERS:
        options = {"": {"lanes": 1}, ", data: json": {"lanes": 1, "data": "json"}}
    return {
        apart: Entry(
            f"beside_{peer.name}{'_json' if apart else ''}",
            PIPELINE,
            "bench.pipeline",
            peer.group,
            peer.phases,
            BESIDE_RECORDS,
            options={"part": "whole", **each},
        )
        for apart, each in options.items()
    }


def _peer(
    name: str,
    label: str,
    module: str,
    *,
    records: int,
    phases: Sequence[str] = PEER_PHASES,
    needs_table: bool = False,
    kind: str = "",
    **options: object,
) -> Entry:
    return Entry(name, label, module, name, phases, records, needs_table, options, kind=kind)


LIMIT, LIMIT_TWO, PIPELINE, PIPELINE_TWO = "limit", "limit_two", "pipeline", "pipeline_two"
PIPELINE_JSON = "pipeline_json"
COPY, COPY_TWO = "copy", "copy_two"
"""The limit for new records: nothing less than their COPY gets them into a table. All other records have to be compared there."""

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
    Entry(
        COPY,
        "bare COPY into the table, one connection",
        "bench.limit",
        "core",
        ("new",),
        options={"statements": "copy", "connections": 1},
    ),
    Entry(
        COPY_TWO,
        "bare COPY into the table, two connections",
        "bench.limit",
        "core",
        ("new",),
        options={"statements": "copy", "connections": 2},
    ),
    Entry(
        "copy_json",
        "bare COPY into the table, data: json",
        "bench.limit",
        "core",
        ("new",),
        options={"statements": "copy", "connections": 1, "data": "json"},
    ),
)

FAST_PEERS: tuple[Entry, ...] = (
    _peer(
        "by_hand",
        "forty lines by hand (psycopg, SQL)",
        "bench.peers.copy_by_hand",
        records=BESIDE_RECORDS,
        phases=FAST_PHASES,
        needs_table=True,
        kind="by hand",
    ),
    _peer(
        "dlt_arrow",
        "dlt, Arrow and parquet (ADBC), unique key",
        "bench.peers.dlt_arrow",
        records=100_000,
        phases=FAST_PHASES,
        kind="loader",
        is_unique=True,
    ),
    _peer("dlt_arrow_loose", "dlt, Arrow and parquet (ADBC), no key", "bench.peers.dlt_arrow", records=100_000, is_unique=False),
    _peer(
        "polars",
        "polars, ADBC and upsert",
        "bench.peers.polars_adbc",
        records=BESIDE_RECORDS,
        phases=FAST_PHASES,
        needs_table=True,
        kind="dataframe",
    ),
)
"""As a good engineer would set them up: pages parsed as far as columns need it, JSON as text, and COPY."""

PEER_ENTRIES: tuple[Entry, ...] = (
    *FAST_PEERS,
    _peer("sling", "sling, from a flat CSV", "bench.peers.sling_csv", records=50_000, needs_table=True, kind="loader"),
    _peer("drizzle_1000", "Drizzle, 1,000 a statement", "upsert.mjs", records=20_000, needs_table=True, kind="rows", rows=1_000),
    _peer(
        "sqlalchemy_1000",
        "SQLAlchemy, 1,000 at a time",
        "bench.peers.sqlalchemy_rows",
        records=20_000,
        needs_table=True,
        kind="rows",
        rows=1_000,
    ),
    _peer("dlt", "dlt, merge by upsert", "bench.peers.dlt_upsert", records=20_000, kind="loader"),
    _peer("singer", "target-postgres (Singer)", "bench.peers.singer_target", records=10_000, kind="loader"),
    _peer("pandas", "pandas to_sql and upsert", "bench.peers.pandas_to_sql", records=5_000, needs_table=True, kind="dataframe"),
    _peer("drizzle_1", "Drizzle, one by one", "upsert.mjs", records=2_000, needs_table=True, kind="one by one", rows=1),
    _peer(
        "sqlalchemy_1",
        "SQLAlchemy, one by one",
        "bench.peers.sqlalchemy_rows",
        records=2_000,
        needs_table=True,
        kind="one by one",
        rows=1,
    ),
)


def with_besides(peers: Iterable[Entry]) -> tuple[Entry, ...]:
    """The peers, each behind the pipeline that takes turns with it."""
    return tuple(chain.from_iterable((*beside(peer).values(), peer) for peer in peers))


ENTRIES: tuple[Entry, ...] = (*CORE, *with_besides(PEER_ENTRIES))
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
