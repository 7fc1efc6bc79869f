"""Two writers of one table, stopped at every step and let go in every order: the table is the fold all the same."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import RunFenced
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest, TimeWindow
from sequin_pipeline.write.buckets import bucket_of
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record
from tests.support.racing import OpenBatch, holding, wait_for_activity, wait_until_blocked
from tests.support.reading import ids_and_versions, merges, query, rejects, row_count
from tests.support.waits import PATIENCE_SECONDS

MARKED = collection()
REMOVED = collection(on_delete="remove")

INSERTED = Counts(inserted=1, created=1)
UPDATED = Counts(updated=1)
DELETED = Counts(deleted=1)
GONE = Counts(deleted=1, removed=1)
STALE = Counts(stale=1)
UNCHANGED = Counts(unchanged=1)


def tombstone(record_id: str, version: int) -> dict[str, object]:
    return record(record_id, version, deleted=True, data=None)


def made(url: str, of: Collection, *stored: dict[str, object]) -> None:
    """The table with these rows in it."""
    run_sync(RecordStream(live_run_config(of), ListSource([stored])), Warehouse(url), run_id="before")


def remembered(url: str) -> list[tuple[object, ...]]:
    return query(url, "select id, updated_idx from sequin_pipeline.versions order by id")


@pytest.mark.parametrize("stored", [pytest.param([], id="never seen"), pytest.param([record("a", 1)], id="row there")])
def test_a_late_version_waits_for_an_open_removal_and_is_stale(warehouse_url: str, stored: list[dict[str, object]]) -> None:
    made(warehouse_url, REMOVED, *stored)
    with (
        OpenBatch(warehouse_url, REMOVED, tombstone("a", 5)) as removal,
        OpenBatch(warehouse_url, REMOVED, record("a", 4)) as late,
    ):
        removed = removal.write().result()
        waiting = late.write()
        wait_until_blocked(warehouse_url, [late.pid], by="advisory")
        removal.commit()
        written = waiting.result()
        late.commit()

    assert (removed, written) == (GONE if stored else DELETED, STALE)
    assert ids_and_versions(warehouse_url) == []
    assert remembered(warehouse_url) == [("a", 5)]


@pytest.mark.parametrize("stored", [pytest.param([], id="never seen"), pytest.param([record("a", 1)], id="row there")])
def test_a_removal_waits_for_an_open_late_version_and_removes_it(warehouse_url: str, stored: list[dict[str, object]]) -> None:
    made(warehouse_url, REMOVED, *stored)
    with (
        OpenBatch(warehouse_url, REMOVED, tombstone("a", 5)) as removal,
        OpenBatch(warehouse_url, REMOVED, record("a", 4)) as late,
    ):
        written = late.write().result()
        waiting = removal.write()
        wait_until_blocked(warehouse_url, [removal.pid], by="advisory")
        late.commit()
        removed = waiting.result()
        removal.commit()

    assert (written, removed) == (UPDATED if stored else INSERTED, GONE)
    assert ids_and_versions(warehouse_url) == []
    assert remembered(warehouse_url) == [("a", 5)]


@pytest.mark.parametrize("first", ["removal", "late"])
def test_a_late_version_and_a_removal_between_their_locks_and_their_merge_do_not_pass_each_other(
    warehouse_url: str, first: str
) -> None:
    made(warehouse_url, REMOVED, record("a", 1))
    with (
        OpenBatch(warehouse_url, REMOVED, tombstone("a", 5)) as removal,
        OpenBatch(warehouse_url, REMOVED, record("a", 4)) as late,
    ):
        ahead, behind = (removal, late) if first == "removal" else (late, removal)
        with holding(warehouse_url, "lock table demo.thing in access exclusive mode"):
            ahead_done = ahead.write()
            wait_until_blocked(warehouse_url, [ahead.pid], by="relation")
            behind_done = behind.write()
            wait_until_blocked(warehouse_url, [behind.pid], by="advisory")
        ahead_counts = ahead_done.result()
        wait_until_blocked(warehouse_url, [behind.pid], by="advisory")
        ahead.commit()
        behind_counts = behind_done.result()
        behind.commit()

    assert (ahead_counts, behind_counts) == ((GONE, STALE) if first == "removal" else (UPDATED, GONE))
    assert ids_and_versions(warehouse_url) == []


def test_a_removal_that_is_rolled_back_hides_nothing(warehouse_url: str) -> None:
    made(warehouse_url, REMOVED, record("a", 1))
    with (
        OpenBatch(warehouse_url, REMOVED, tombstone("a", 5)) as removal,
        OpenBatch(warehouse_url, REMOVED, record("a", 4)) as late,
    ):
        removal.write().result()
        waiting = late.write()
        wait_until_blocked(warehouse_url, [late.pid], by="advisory")
        removal.roll_back()
        written = waiting.result()
        late.commit()

    assert written == UPDATED
    assert ids_and_versions(warehouse_url) == [("a", 4, False)]
    assert remembered(warehouse_url) == []


def test_a_removal_makes_nobody_wait_whose_ids_are_in_other_buckets(warehouse_url: str) -> None:
    made(warehouse_url, REMOVED, record("a", 1))
    other = next(str(number) for number in range(100) if bucket_of(str(number)) != bucket_of("a"))
    with (
        OpenBatch(warehouse_url, REMOVED, tombstone("a", 5)) as removal,
        OpenBatch(warehouse_url, REMOVED, record(other, 1)) as beside,
    ):
        removal.write().result()
        written = beside.write().result(PATIENCE_SECONDS)
        beside.commit()
        removal.commit()

    assert written == INSERTED
    assert ids_and_versions(warehouse_url) == [(other, 1, False)]


OTHER = {"status": "other", "amount": 0}


@pytest.mark.parametrize("stored", [pytest.param([], id="never seen"), pytest.param([record("a", 1)], id="row there")])
@pytest.mark.parametrize(
    ("first", "second", "expected", "version"),
    [
        pytest.param(record("a", 5), record("a", 4), STALE, 5, id="older behind newer"),
        pytest.param(record("a", 4), record("a", 5), UPDATED, 5, id="newer behind older"),
        pytest.param(record("a", 5), record("a", 5), UNCHANGED, 5, id="the same twice"),
        pytest.param(record("a", 5), record("a", 5, data=OTHER), UPDATED, 5, id="other content at one version"),
        pytest.param(record("a", 5), tombstone("a", 6), DELETED, 6, id="tombstone behind object"),
        pytest.param(tombstone("a", 6), record("a", 5), STALE, 6, id="object behind its tombstone"),
        pytest.param(tombstone("a", 6), record("a", 7), UPDATED, 7, id="resurrection"),
        pytest.param(tombstone("a", 6), tombstone("a", 6), UNCHANGED, 6, id="the same tombstone twice"),
        pytest.param(tombstone("a", 6), tombstone("a", 5), STALE, 6, id="older tombstone behind newer"),
    ],
)
def test_the_guard_decides_between_racing_versions_and_their_counts_are_settled(
    warehouse_url: str,
    stored: list[dict[str, object]],
    first: dict[str, object],
    second: dict[str, object],
    expected: Counts,
    version: int,
) -> None:
    made(warehouse_url, MARKED, *stored)
    beside = [record("b", 1), record("z", 1)]
    with (
        OpenBatch(warehouse_url, MARKED, first) as ahead,
        OpenBatch(warehouse_url, MARKED, second, *beside) as behind,
    ):
        ahead.write().result()
        waiting = behind.write()
        wait_until_blocked(warehouse_url, [behind.pid], by="transactionid")
        ahead.commit()
        written = waiting.result()
        behind.commit()

    assert written == expected + INSERTED + INSERTED
    [(_, stands_at, deleted), *_] = ids_and_versions(warehouse_url)
    winner = first if first["updated_idx"] == version and second["updated_idx"] != version else second
    assert (stands_at, deleted) == (version, winner["deleted"])


def test_a_row_whose_first_writer_rolls_back_is_the_second_ones(warehouse_url: str) -> None:
    made(warehouse_url, MARKED)
    with (
        OpenBatch(warehouse_url, MARKED, record("a", 5)) as ahead,
        OpenBatch(warehouse_url, MARKED, record("a", 4)) as behind,
    ):
        ahead.write().result()
        waiting = behind.write()
        wait_until_blocked(warehouse_url, [behind.pid], by="transactionid")
        ahead.roll_back()
        written = waiting.result()
        behind.commit()

    assert written == INSERTED
    assert ids_and_versions(warehouse_url) == [("a", 4, False)]


def named(version: int) -> dict[str, object]:
    """A version whose object says which it is."""
    return record("a", version, data={"status": f"object {version}"})


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        pytest.param([named(3)], [tombstone("a", 5)], "object 3", id="behind a newer object"),
        pytest.param([named(3)], [named(2), tombstone("a", 5)], "object 3", id="carrying an older object"),
        pytest.param([named(3)], [named(4), tombstone("a", 5)], "object 4", id="carrying a newer object"),
        pytest.param([named(3)], [named(3), tombstone("a", 5)], "object 3", id="carrying the same object"),
        pytest.param([tombstone("a", 5)], [named(6)], "object 6", id="object behind tombstone"),
        pytest.param([tombstone("a", 5)], [named(3)], "object 1", id="late object behind tombstone"),
        pytest.param([tombstone("a", 4)], [tombstone("a", 5)], "object 1", id="tombstone behind tombstone"),
    ],
)
def test_a_racing_bare_tombstone_keeps_the_object_that_stands_when_it_gets_the_row(
    warehouse_url: str, first: list[dict[str, object]], second: list[dict[str, object]], status: str
) -> None:
    made(warehouse_url, MARKED, named(1))
    with (
        OpenBatch(warehouse_url, MARKED, *first) as ahead,
        OpenBatch(warehouse_url, MARKED, *second) as behind,
    ):
        ahead.write().result()
        waiting = behind.write()
        wait_until_blocked(warehouse_url, [behind.pid], by="transactionid")
        ahead.commit()
        waiting.result()
        behind.commit()

    assert query(warehouse_url, "select status, data ->> 'status' from demo.thing") == [(status, status)]


def test_writers_at_random_neither_deadlock_nor_lose_or_count_a_row_twice(warehouse_url: str) -> None:
    made(warehouse_url, MARKED)
    chance = random.Random(7)
    batches = [
        [
            record(record_id, version, deleted=version % 3 == 0, data=None if version % 3 == 0 else {"status": str(version)})
            for record_id in chance.sample("abcdef", 4)
            for version in [chance.randint(1, 12)]
        ]
        for _ in range(120)
    ]

    def work(lane: int) -> Counts:
        counts = Counts()
        for records in batches[lane::3]:
            with OpenBatch(warehouse_url, MARKED, *records) as batch:
                counts += batch.write().result()
                batch.commit()
        return counts

    with ThreadPoolExecutor(3) as threads:
        counts = sum(threads.map(work, range(3)), Counts())

    newest: dict[str, int] = {}
    for each in [each for records in batches for each in records]:
        newest[str(each["id"])] = max(newest.get(str(each["id"]), 0), int(str(each["updated_idx"])))
    assert ids_and_versions(warehouse_url) == [(key, version, version % 3 == 0) for key, version in sorted(newest.items())]
    assert counts.accounted == 120 * 4
    assert counts.created == len(newest)


@dataclass
class InterruptedSource(ListSource):
    """A source during whose first answer something else happens, in full."""

    meanwhile: list[RecordStream] = field(default_factory=list)
    url: str = ""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for number, stream in enumerate(self.meanwhile):
            run_sync(stream, Warehouse(self.url), run_id=f"rival {number}")
        yield from super().pages(request)


@pytest.mark.parametrize("has_cursor", [pytest.param(False, id="first runs ever"), pytest.param(True, id="from one cursor")])
def test_a_second_live_run_stops_at_its_first_batch_having_written_nothing(warehouse_url: str, has_cursor: bool) -> None:  # noqa: FBT001 - a case
    known = [record("a", 1)]
    if has_cursor:
        made(warehouse_url, MARKED, *known)
    pages = [known, [record("a", 2), record("b", 1, data=7)], [record("c", 3)]]
    rival = RecordStream(live_run_config(MARKED), ListSource(pages[:2]))
    source = InterruptedSource(pages, meanwhile=[rival], url=warehouse_url)
    before = len(merges(warehouse_url)) if has_cursor else 0

    with pytest.raises(RunFenced, match="run 'rival 0' has moved it") as caught:
        run_sync(RecordStream(live_run_config(MARKED), source), Warehouse(warehouse_url), run_id="second", batch_records=1)

    assert not caught.value.is_retryable
    assert source.commits == []
    assert len(merges(warehouse_url)) == before + 1
    assert merges(warehouse_url, "second") == []
    assert ids_and_versions(warehouse_url) == [("a", 2, False)]
    assert rejects(warehouse_url) == {"b": ("envelope", None)}
    assert query(warehouse_url, "select cursor, run_id from sequin_pipeline.cursors") == [("2", "rival 0")]
    assert query(warehouse_url, "select seen, run_id from sequin_pipeline.rejects") == [(1, "rival 0")]


def test_of_two_live_runs_at_once_the_later_waits_for_the_cursor_before_it_does_any_work(warehouse_url: str) -> None:
    made(warehouse_url, MARKED, record("a", 1))
    pages = [[record("a", 1)], [record("a", 2)]]

    def run(run_id: str) -> None:
        run_sync(RecordStream(live_run_config(MARKED), ListSource(pages)), Warehouse(warehouse_url), run_id=run_id)

    with ThreadPoolExecutor(2) as threads, ExitStack() as stack:
        stack.enter_context(holding(warehouse_url, "lock table demo.thing in share row exclusive mode"))
        first = threads.submit(run, "first")
        [writing] = _waiting(warehouse_url, "relation")
        second = threads.submit(run, "second")
        [fenced] = _waiting(warehouse_url, "transactionid")
        locks = query(warehouse_url, "select count(*) from pg_locks where pid = %s and relation = 'demo.thing'::regclass", fenced)
        stack.close()

        assert first.result() is None
        with pytest.raises(RunFenced, match="run 'first' has moved it"):
            second.result()

    assert writing != fenced
    assert locks == [(0,)]
    assert merges(warehouse_url, "second") == []


def _waiting(url: str, by: str) -> list[int]:
    return wait_for_activity(url, "application_name = 'sequin_pipeline' and wait_event_type = 'Lock' and wait_event = %s", [by])


def test_a_full_refresh_fences_the_live_run_under_way(warehouse_url: str) -> None:
    made(warehouse_url, MARKED, record("a", 1))
    refresh = RecordStream(live_run_config(MARKED, full_refresh=True), ListSource([[record("a", 1)]]))
    source = InterruptedSource([[record("a", 1)], [record("a", 2)]], meanwhile=[refresh], url=warehouse_url)

    with pytest.raises(RunFenced, match="run 'rival 0' has moved it"):
        run_sync(RecordStream(live_run_config(MARKED), source), Warehouse(warehouse_url), run_id="live")

    assert ids_and_versions(warehouse_url) == [("a", 1, False)]


def test_a_backfill_beside_a_live_run_disturbs_neither_the_rows_nor_the_cursor(warehouse_url: str) -> None:
    made(warehouse_url, MARKED, record("a", 1), record("b", 2))
    pages = [[record("a", 1), record("b", 2)], [record("a", 3), record("b", 4, deleted=True)]]
    live = RecordStream(live_run_config(MARKED), ListSource(pages))
    window = TimeWindow(None, EPOCH.replace(month=2))
    run_config = RunConfig(MARKED, "backfill", window, partition_keys=("2024-01",), window_starts=(EPOCH,))
    source = InterruptedSource(pages, meanwhile=[live], url=warehouse_url)

    outcome = run_sync(RecordStream(run_config, source), Warehouse(warehouse_url), run_id="backfill", batch_records=1)

    assert ids_and_versions(warehouse_url) == [("a", 3, False), ("b", 4, True)]
    assert merges(warehouse_url, "rival 0") == [{"fetched": 2, "updated": 1, "deleted": 1}]
    assert merges(warehouse_url, "backfill") == [{"fetched": 2, "stale": 2}, {"fetched": 2, "unchanged": 2}]
    assert outcome.counts.fetched == 4
    assert query(warehouse_url, "select cursor, run_id from sequin_pipeline.cursors") == [("2", "rival 0")]
    assert row_count(warehouse_url) == 2
