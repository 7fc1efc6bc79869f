"""The table equals the fold of what was delivered: for any order, repetition, batch size, crash, refresh and rejects."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import psycopg
from hypothesis import HealthCheck, event, given, note, settings

from sequin_pipeline.catalog import Collection, Column, TableName, parse_path
from sequin_pipeline.errors import SourceUnavailable, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.hostile.effort import EFFORT
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, record
from tests.support.fold import Fold
from tests.support.reading import COUNT_NAMES, merges, query, raw
from tests.support.ways import WAYS, going

EXAMPLES = 100
RARE = 0.05

MARKED = collection(columns=(*COLUMNS, Column("marker", parse_path("record.marker"), "text")), table="demo.marked")
REMOVED = collection(columns=MARKED.columns, table="demo.removed", on_delete="remove")
OBSERVED = collection(columns=MARKED.columns, table="demo.observed", observes_time=True)
OBSERVED_REMOVED = collection(columns=MARKED.columns, table="demo.observed_removed", on_delete="remove", observes_time=True)
MARKED_JSON = replace(MARKED, table=TableName("demo", "marked_json"), data_type="json")
OBSERVED_JSON = replace(OBSERVED_REMOVED, table=TableName("demo", "observed_json"), data_type="json")
KINDS = (MARKED, REMOVED, OBSERVED, OBSERVED_REMOVED, MARKED_JSON, OBSERVED_JSON)

TIMES = (
    None,
    "2023-06-01T00:00:00+00:00",
    "2024-01-01T00:00:00+00:00",
    "2024-01-31T23:59:59.999999+00:00",
    "2024-02-01T00:00:00+00:00",
    "2024-12-01T00:00:00+00:00",
    "2025-03-01T00:00:00+00:00",
)
"""Around the edges of windows, before the first and after the last one."""

ABSENT = object()
OBJECTS = (
    {"status": "one", "amount": 1},
    {"status": "two", "amount": 1},
    {"status": "one", "amount": 2, "more": [1, {"a": None}]},
)
UNFIT = ({"status": ["no text"], "amount": 1}, {"status": "one", "amount": 1.5}, {"status": "nul \u0000", "amount": 1})


@dataclass(frozen=True)
class Run:
    """What one run meets: pages that joined the stream before it, and where the source breaks off (in pages of this read); what it
    gave until then is kept."""

    pages: tuple[tuple[dict[str, object], ...], ...]
    batch_records: int
    full_refresh: bool
    breaks_after: int | None
    lanes: int
    way: str = WAYS[0]


def random_history(chance: random.Random) -> list[Run]:
    """Few records, few versions and small pages, so that they meet; drawn evenly: mutated examples are all alike, and one takes 0.2 s."""
    drawn: list[dict[str, object]] = []

    def draw() -> dict[str, object]:
        again = chance.random() < 0.3 and bool(drawn)
        drawn.append(seen_again(chance, chance.choice(drawn)) if again else random_record(chance))
        return drawn[-1]

    return [
        Run(
            pages=tuple(tuple(draw() for _ in range(chance.choice((0, 1, 2, 4, 6)))) for _ in range(chance.randint(1, 4))),
            batch_records=chance.randint(1, 7),
            full_refresh=chance.random() < 0.3,
            breaks_after=chance.choice((None, None, 0, 1, 2)),
            lanes=chance.choice((1, 1, 2, 3)),
            way=chance.choice(WAYS),
        )
        for _ in range(chance.randint(1, 3))
    ]


def random_record(chance: random.Random) -> dict[str, object]:
    """A version of one of few records; one of eight cannot be stored."""
    deleted = chance.random() < 0.5
    data = chance.choice((*OBJECTS, None, ABSENT, {}) if deleted else (*OBJECTS, *OBJECTS, None))
    if chance.random() < 1 / 8:
        data = chance.choice(UNFIT)
    built = record(
        chance.choice("abc"),
        chance.randint(1, 5),
        deleted=deleted,
        data=data,
        inserted_at=chance.choice(TIMES),
        marker=chance.choice("xy"),
    )
    return {name: value for name, value in built.items() if value is not ABSENT}


def seen_again(chance: random.Random, earlier: dict[str, object]) -> dict[str, object]:
    """The same content at a later version and another time."""
    return {**earlier, "updated_idx": int(str(earlier["updated_idx"])) + 1, "inserted_at": chance.choice(TIMES)}


@dataclass
class World:
    """One example: the stream so far, the fold of what was delivered, and where the cursor must be."""

    of: Collection
    stream: list[tuple[dict[str, object], ...]] = field(default_factory=list)
    cursor: int = 0

    def __post_init__(self) -> None:
        run_config = live_run_config(self.of)
        self.fold = Fold(
            self.of.on_delete == "remove",
            run_config.partition_keys,
            run_config.window_starts,
            observes_time=self.of.observes_time,
        )

    def source(self, run: Run) -> ListSource:
        """The stream as the run will meet it."""
        start = 0 if run.full_refresh else self.cursor
        return ListSource(list(self.stream), breaks_at=None if run.breaks_after is None else start + run.breaks_after)

    def expect(self, run: Run) -> tuple[list[str], dict[tuple[str, str], Counter[str]]]:
        """Delivers what the run commits; returns the cursors of its batches, and its rows of `merges` by cursor and window."""
        start = 0 if run.full_refresh else self.cursor
        ends = start + run.breaks_after if run.breaks_after is not None else len(self.stream)
        is_broken = ends < len(self.stream)
        if run.full_refresh:
            self.cursor = 0
            self.fold.cases.add("a full refresh")
        cursors, tallies, gathered = [], {}, []
        for index in range(start, min(ends, len(self.stream))):
            gathered.append(self.stream[index])
            is_last = index + 1 == min(ends, len(self.stream))
            if sum(map(len, gathered)) < run.batch_records and not is_last:
                continue
            self.cursor = index + 1
            cursors.append(str(self.cursor))
            for window, counts in self._deliver(gathered).items():
                tallies[str(self.cursor), window] = counts
            gathered = []
        if run.lanes > 1:
            self.fold.cases.add("several lanes")
        if is_broken:
            self.fold.cases.add("a crash" if cursors else "a crash before the first batch")
        return cursors, tallies

    def _deliver(self, gathered: Sequence[Sequence[dict[str, object]]]) -> dict[str, Counter[str]]:
        records = [each for page in gathered for each in page]
        good = [each for each in records if each.get("data") not in UNFIT]
        bad = [each for each in records if each.get("data") in UNFIT]
        for refused in bad:
            versions = {int(str(each["updated_idx"])) for each in good if each["id"] == refused["id"]}
            if any(version < int(str(refused["updated_idx"])) for version in versions):
                self.fold.cases.add("a reject over an older good version")
        return self.fold.deliver_batch(good, [raw(refused) for refused in bad])


def test_any_history_leaves_the_fold_of_what_was_delivered(warehouse_url: str) -> None:
    met: Counter[str] = Counter()
    for of in KINDS:
        run_sync(RecordStream(live_run_config(of), ListSource([])), Warehouse(warehouse_url), run_id="first")

    with psycopg.connect(warehouse_url, autocommit=True) as connection:

        @given(st.randoms(use_true_random=True))
        @settings(
            max_examples=EXAMPLES * EFFORT,
            derandomize=EFFORT == 1,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
        )
        def check(chance: random.Random) -> None:
            world, history = World(chance.choice(KINDS)), random_history(chance)
            note(f"{world.of.table}: {history}")
            _forget_everything(connection)
            for number, run in enumerate(history):
                world.stream += run.pages
                source = world.source(run)
                cursors, tallies = world.expect(run)

                has_ended = _sync(warehouse_url, world.of, source, run, run_id=f"run {number}")

                assert source.commits == cursors
                _check_table(connection, world)
                _check_merges(connection, f"run {number}", tallies, by_window=run.lanes == 1)
                _check_rejects(connection, world, has_ended=has_ended)
                assert _cursors(connection) <= {world.cursor}
            for case in sorted(world.fold.cases):
                event(case)
            met.update(["examples", *world.fold.cases])

        check()

    shares = {case: count / met["examples"] for case, count in met.items() if case != "examples"}
    assert set(shares) == CASES
    assert {case: share for case, share in shares.items() if share <= RARE} == {}


def test_a_tombstone_that_is_known_still_brings_the_object_that_came_before_it_in_its_batch(warehouse_url: str) -> None:
    tombstone = record("a", 5, deleted=True, data=None)
    source = ListSource([[record("a", 4)], [tombstone], [record("a", 5, data={"status": "late"}), tombstone]])

    for number in range(3):
        pages = ListSource(source.page_records[: number + 1])
        run_sync(RecordStream(live_run_config(collection()), pages), Warehouse(warehouse_url), run_id=f"run {number}")

    rows = query(warehouse_url, "select id, updated_idx, deleted, status, data from demo.thing")
    assert rows == [("a", 5, True, "late", {"status": "late"})]
    assert merges(warehouse_url, "run 2") == [{"fetched": 2, "updated": 1, "duplicate": 1, "rewritten": 1}]


CASES = {
    "a bare tombstone and an object in one batch",
    "a bare tombstone that keeps an object",
    "a batch over several windows",
    "a crash",
    "a crash before the first batch",
    "a full refresh",
    "a full tombstone",
    "a known record again",
    "a late older copy of a removed row",
    "a late older copy of a stored row",
    "a live record without an object",
    "a reject over an older good version",
    "a removed row back",
    "an equal content at a newer time",
    "a removed row back at its own version",
    "one version with two contents",
    "resurrection",
    "several lanes",
}
"""Special cases, each of which must come up in more than RARE of the examples: else this test says less than it seems to."""


def _sync(url: str, of: Collection, source: ListSource, run: Run, *, run_id: str) -> bool:
    stream = RecordStream(live_run_config(of, full_refresh=run.full_refresh), source)
    try:
        with suppress(TooManyRejects), going(run.way, seed=run.batch_records):
            run_sync(stream, Warehouse(url), run_id=run_id, batch_records=run.batch_records, lanes=run.lanes)
    except SourceUnavailable:
        return False
    return True


def _check_table(connection: psycopg.Connection[tuple[object, ...]], world: World) -> None:
    rows = connection.execute(
        f"select id, updated_idx, deleted, record_inserted_at, marker, status, amount, data from {world.of.table}"
    ).fetchall()
    assert {row[0]: row[1:] for row in rows} == {record_id: row.columns() for record_id, row in world.fold.rows.items()}
    sums = _one(connection, "select coalesce(sum(created) - sum(removed), 0) from sequin_pipeline.merges")
    total = _one(connection, "select row_count from sequin_pipeline.tables where table_name = %s", str(world.of.table))
    assert sums == total == len(rows)
    gone = {record_id: version for record_id, version in world.fold.removed.items() if record_id not in world.fold.rows}
    remembered = {row[0]: row[1] for row in connection.execute("select id, updated_idx from sequin_pipeline.versions")}
    assert {record_id: remembered.get(record_id) for record_id in gone} == gone


def _cursors(connection: psycopg.Connection[tuple[object, ...]]) -> set[object]:
    """Of every lane; 0 for one that has not begun."""
    return {row[0] for row in connection.execute("select coalesce(cursor::int, 0) from sequin_pipeline.cursors")}


def _check_merges(
    connection: psycopg.Connection[tuple[object, ...]],
    run_id: str,
    tallies: dict[tuple[str, str], Counter[str]],
    *,
    by_window: bool,
) -> None:
    """With lanes, rejects stand with the newest window of the first lane's share: then only the sums over windows are told."""
    rows = connection.execute(
        f"select cursor_after, window_key, {', '.join(COUNT_NAMES)} from sequin_pipeline.merges where run_id = %s",
        (run_id,),
    ).fetchall()
    found: defaultdict[tuple[object, object], Counter[str]] = defaultdict(Counter)
    for cursor, window, *counts in rows:  # one a lane
        found[cursor, by_window and window] += Counter(dict(zip(COUNT_NAMES, counts, strict=True)))
    expected: defaultdict[tuple[object, object], Counter[str]] = defaultdict(Counter)
    for (cursor, window), tally in tallies.items():
        expected[cursor, by_window and window] += tally
    assert {place: counts for place, counts in found.items() if counts} == {
        place: counts for place, counts in expected.items() if counts
    }


def _check_rejects(connection: psycopg.Connection[tuple[object, ...]], world: World, *, has_ended: bool) -> None:
    rows = connection.execute("select raw, resolved_at is null from sequin_pipeline.rejects").fetchall()
    assert {content for content, _ in rows} == world.fold.rejected
    if not has_ended:
        return
    waiting = set()
    for content in world.fold.rejected:
        refused = json.loads(content)
        stored = world.fold.rows.get(refused["id"])
        reached = max(stored.version if stored else 0, world.fold.removed.get(refused["id"], 0))
        if reached < refused["updated_idx"]:
            waiting.add(content)
    assert {content for content, is_open in rows if is_open} == waiting


def _forget_everything(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(
        "truncate demo.marked, demo.removed, demo.observed, demo.observed_removed, demo.marked_json, demo.observed_json,"
        " sequin_pipeline.merges, sequin_pipeline.rejects,"
        " sequin_pipeline.versions, sequin_pipeline.cursors, sequin_pipeline.positions, sequin_pipeline.runs, sequin_pipeline.fields"
    )
    connection.execute("update sequin_pipeline.tables set row_count = 0")


def _one(connection: psycopg.Connection[tuple[object, ...]], statement: str, *parameters: object) -> object:
    row = connection.execute(statement, parameters or None).fetchone()
    return row[0] if row else None
