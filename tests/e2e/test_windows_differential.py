"""However a stream is read (live, window by window in any order, all of it at the same time), the table ends the same, every version
is counted once in its own window, and a late window is not read from the beginning of the stream."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import psycopg
import pytest

from sequin_pipeline.catalog import Collection, Windows, WindowWidth
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import SyncOutcome, run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.windows import KeyRange, asked_window, start_of
from tests.e2e.project import TOKEN, Command, MakeProject, SandboxControls
from tests.support.builders import EPOCH, collection, record

WIDTHS: dict[WindowWidth, list[str]] = {
    "hour": ["2024-01-01T00:00Z", "2024-01-01T01:00Z", "2024-01-01T02:00Z", "2024-01-01T03:00Z", "2024-01-01T04:00Z"],
    "day": ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"],
    "week": ["2024-W01-1", "2024-W02-1", "2024-W03-1", "2024-W04-1", "2024-W05-1"],
    "month": ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05"],
}
ENDS: dict[WindowWidth, datetime] = {
    "hour": datetime(2024, 1, 1, 5, tzinfo=UTC),
    "day": datetime(2024, 1, 6, tzinfo=UTC),
    "week": datetime(2024, 2, 5, tzinfo=UTC),
    "month": datetime(2024, 6, 1, tzinfo=UTC),
}
"""Where the last of the windows above ends."""

STARTS: dict[WindowWidth, list[datetime]] = {
    "hour": [EPOCH + timedelta(hours=number) for number in range(5)],
    "day": [EPOCH + timedelta(days=number) for number in range(5)],
    "week": [EPOCH + timedelta(weeks=number) for number in range(5)],
    "month": [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 6)],
}

BACKWARD = timedelta(minutes=59)
"""As far as `inserted_at` runs backwards here; an hour is allowed for."""
INSTANT = timedelta(microseconds=1)
VERSIONS = 200
PAGE_RECORDS = 20


@dataclass(frozen=True)
class History:
    """A stream with every version; the rows that it comes to; and how many versions lie in each window."""

    every: WindowWidth
    lines: tuple[bytes, ...]
    rows: tuple[tuple[object, ...], ...]
    by_window: Counter[str]

    @property
    def collection(self) -> Collection:
        return replace(collection(), windows=Windows(self.every, EPOCH))


def history(every: WindowWidth) -> History:
    """Times grow along the stream but for BACKWARD, some are older than the first window, and some lie exactly on an edge."""
    random = Random(f"differential {every}")
    starts, end = STARTS[every], ENDS[every]
    span = end - starts[0]
    edges = {moment for start in starts for moment in (start - INSTANT, start)} | {end - INSTANT}
    moments = sorted([*edges, *(starts[0] + span * random.uniform(-0.1, 1) for _ in range(VERSIONS - len(edges)))])
    lines, by_window = [], Counter[str]()
    newest: dict[str, tuple[object, ...]] = {}
    versions = Counter[str]()
    for moment in moments:
        at = moment if moment in edges else moment - random.choice([0, 1]) * random.random() * BACKWARD
        record_id = f"r{random.randrange(40):02}"
        versions[record_id] += 1
        version, is_deleted = versions[record_id], random.random() < 0.1
        content = {"status": random.choice(["active", "paused"]), "amount": random.randrange(1_000)}
        line = record(record_id, version, inserted_at=at.isoformat(), deleted=is_deleted, data=content)
        lines.append(json.dumps(line).encode())
        newest[record_id] = (record_id, version, is_deleted, content["status"], content["amount"], content, at)
        by_window[WIDTHS[every][max(sum(start <= at for start in starts), 1) - 1]] += 1
    return History(every, tuple(lines), tuple(newest[record_id] for record_id in sorted(newest)), by_window)


@pytest.fixture(scope="module", params=list(WIDTHS))
def told(request: pytest.FixtureRequest) -> History:
    return history(request.param)


@pytest.fixture(scope="module")
def api(told: History) -> Iterator[SandboxControls]:
    with running_sandbox(RecordedFeed(told.lines, is_compacted=False)) as url:
        yield SandboxControls(url)


class Reading:
    """Runs of one collection against one table; remembers what they did."""

    def __init__(self, of: Collection, api_url: str, warehouse_url: str, *, page_records: int = PAGE_RECORDS) -> None:
        self._page_records = page_records
        self._collection = of
        self._api_url = api_url
        self._warehouse_url = warehouse_url
        self.outcomes: list[SyncOutcome] = []

    def live(self) -> None:
        self._run("live", WIDTHS[self._collection.windows.every])

    def backfill(self, keys: Sequence[str]) -> None:
        self._run("backfill", keys)

    def _run(self, mode: str, keys: Sequence[str]) -> None:
        windows = self._collection.windows
        run_config = RunConfig(
            self._collection,
            "live" if mode == "live" else "backfill",
            asked_window(windows, KeyRange(keys[0], keys[-1])),
            partition_keys=tuple(keys),
            window_starts=tuple(start_of(windows, key) for key in keys),
        )
        stream = RecordStream(run_config, SequinSource(self._api_url, page_size_records=self._page_records))
        self.outcomes.append(run_sync(stream, Warehouse(self._warehouse_url), run_id=f"{mode} {keys[0]}", batch_records=35))

    def fetched_by_window(self) -> Counter[str]:
        """Also of windows that were read several times."""
        fetched = Counter[str]()
        for outcome in self.outcomes:
            fetched.update({key: counts.fetched for key, counts in outcome.counts_by_window.items()})
        return +fetched

    def counts(self) -> Counts:
        return sum((outcome.counts for outcome in self.outcomes), Counts())

    def rows(self) -> tuple[tuple[object, ...], ...]:
        with psycopg.connect(self._warehouse_url) as connection:
            statement = "select id, updated_idx, deleted, status, amount, data, record_inserted_at from demo.thing order by id"
            return tuple(connection.execute(statement.encode()).fetchall())


@pytest.fixture
def reading(told: History, api: SandboxControls, warehouse_url: str) -> Reading:
    return Reading(told.collection, api.url, warehouse_url)


def fate_sum(counts: Counts) -> int:
    return (
        counts.inserted + counts.updated + counts.deleted + counts.unchanged + counts.stale + counts.duplicate + counts.rejected
    )


def check(reading: Reading, told: History, *, times_read: int) -> None:
    """The table, every version in its own window, and no record without a fate."""
    counts = reading.counts()
    assert reading.rows() == told.rows
    assert reading.fetched_by_window() == Counter({key: times_read * count for key, count in told.by_window.items()})
    assert (counts.fetched, fate_sum(counts), counts.created) == (times_read * VERSIONS, times_read * VERSIONS, len(told.rows))


def test_a_live_run_reads_all(reading: Reading, told: History) -> None:
    reading.live()

    check(reading, told, times_read=1)


def test_one_backfill_over_all_windows_comes_to_the_same(reading: Reading, told: History) -> None:
    reading.backfill(WIDTHS[told.every])

    check(reading, told, times_read=1)


def test_windows_backfilled_in_any_order_come_to_the_same(reading: Reading, told: History) -> None:
    for key in Random(1).sample(WIDTHS[told.every], k=5):
        reading.backfill([key])

    check(reading, told, times_read=1)


def test_windows_backfilled_after_a_live_run_change_nothing(reading: Reading, told: History) -> None:
    reading.live()
    before = reading.counts()
    for key in Random(3).sample(WIDTHS[told.every], k=5):
        reading.backfill([key])

    after = reading.counts()
    check(reading, told, times_read=2)
    assert (after.inserted, after.updated, after.deleted) == (before.inserted, before.updated, before.deleted)


def test_a_live_run_and_backfills_at_the_same_time_come_to_the_same(reading: Reading, told: History) -> None:
    order = Random(4).sample(WIDTHS[told.every], k=5)
    work = [reading.live, *(partial(reading.backfill, [key]) for key in order)]

    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        for done in [pool.submit(each) for each in work]:
            done.result()

    check(reading, told, times_read=2)


def test_a_late_window_is_read_from_the_position_before_it(warehouse_url: str) -> None:
    """Ten records a day, 1,520 in five months: 76 pages. The last position before May is that of 60 pages; 16 follow, and the end."""
    lines = [
        json.dumps(record(f"d{number}", number, inserted_at=(EPOCH + timedelta(days=1) * (number / 10)).isoformat())).encode()
        for number in range(1_520)
    ]
    of = replace(collection(), windows=Windows("month", EPOCH))
    with running_sandbox(RecordedFeed(lines)) as url:
        api, reading = SandboxControls(url), Reading(of, url, warehouse_url)
        reading.live()
        api.forget_requests()

        reading.backfill(["2024-05"])

        requests = api.page_requests()
    assert reading.outcomes[-1].counts.fetched == 310
    assert len(requests) == 17
    assert all("after_cursor" in query for query in requests)


def test_records_that_stand_out_of_order_are_found_in_the_window_of_their_time(warehouse_url: str) -> None:
    """Pages of one record: behind one that lies after a window, and on the very edge where a position was recorded, there is more."""
    times = ["00:10", "01:00", "01:10", "00:35", "02:05", "01:30", "03:20"]
    lines = [
        json.dumps(record(f"r{number}", number, inserted_at=f"2024-01-01T{time}:00Z")).encode()
        for number, time in enumerate(times)
    ]
    with running_sandbox(RecordedFeed(lines)) as url:
        reading = Reading(replace(collection(), windows=Windows("hour", EPOCH)), url, warehouse_url, page_records=1)
        reading.live()
        for key in WIDTHS["hour"][:4]:
            reading.backfill([key])

    assert [outcome.counts.fetched for outcome in reading.outcomes] == [7, 2, 3, 1, 1]


THINGS = """\
  provider: demo
  windows: {every: month, start: 2024-01-01}
  collections:
    thing:
      columns:
        status: {path: status, type: text}
        amount: {path: amount, type: bigint}
"""


def test_through_dagster_backfills_in_any_order_leave_nothing_for_the_live_run_to_write(
    make_project: MakeProject, command: Command
) -> None:
    told = history("month")
    with running_sandbox(RecordedFeed(told.lines, is_compacted=False), Settings(token=TOKEN)) as url:
        project = make_project(url).declare(demo=THINGS)
        for first, last in (("2024-03", "2024-05"), ("2024-01", "2024-02")):
            backfilled = command(project, "backfill", "demo/thing", "--from", first, "--to", last)
            assert backfilled.status == 0
        written = project.query("select id, ctid::text, xmin::text from demo.thing order by id")
        live = command(project, "sync", "--json")

    (landed,) = json.loads(live.stdout)
    stored = project.query(
        "select id, updated_idx, deleted, status, amount, data, record_inserted_at from demo.thing order by id"
    )
    assert tuple(stored) == told.rows
    assert landed["counts"]["fetched"] == VERSIONS
    assert project.query("select id, ctid::text, xmin::text from demo.thing order by id") == written
