"""A table without a column for versions: the ledger keeps them, and the guard works all the same."""

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from tests.support.builders import record
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import deliver, unmanaged

MARKED = unmanaged({"id": "id", "deleted": "gone"}, table="app.bare")
REMOVED = unmanaged({"id": "id"}, table="app.bare", on_delete="remove")
ROWS = "select id, status, amount, gone from app.bare order by id"


@pytest.fixture
def url(app_url: str) -> str:
    execute(app_url, "create table app.bare (id text primary key, status text not null, amount bigint, gone boolean)")
    return app_url


def versions(url: str) -> list[tuple[object, ...]]:
    return query(url, "select id, updated_idx from sequin_pipeline.versions where table_name = 'app.bare' order by id")


@pytest.mark.parametrize("of", [MARKED, REMOVED], ids=["mark", "remove"])
def test_a_late_older_copy_changes_nothing(url: str, of: Collection) -> None:
    deliver(url, of, [record("a", 5)])

    outcome = deliver(url, of, [record("a", 4)])

    assert outcome.counts == Counts(fetched=1, stale=1)
    assert [row[:3] for row in query(url, ROWS)] == [("a", "active", 5)]
    assert versions(url) == [("a", 5)]


@pytest.mark.parametrize("of", [MARKED, REMOVED], ids=["mark", "remove"])
def test_a_replay_writes_neither_rows_nor_versions(url: str, of: Collection) -> None:
    history = [[record("a", 1), record("b", 2)], [record("b", 3, deleted=True, data=None)]]
    deliver(url, of, *history)
    before = query(url, "select ctid, xmin, xmax, * from app.bare"), query(url, "select xmin, * from sequin_pipeline.versions")

    outcome = deliver(url, of, *history)

    after = query(url, "select ctid, xmin, xmax, * from app.bare"), query(url, "select xmin, * from sequin_pipeline.versions")
    assert outcome.counts == Counts(fetched=3, unchanged=2, duplicate=1)
    assert after == before


def test_a_row_that_the_application_overwrote_is_repaired_at_its_own_version(url: str) -> None:
    deliver(url, MARKED, [record("a", 5)])
    execute(url, "update app.bare set status = 'mine'")

    outcome = deliver(url, MARKED, [record("a", 5)])

    assert outcome.counts == Counts(fetched=1, updated=1, rewritten=1)
    assert query(url, ROWS) == [("a", "active", 5, False)]


def test_a_row_gone_without_our_tombstone_is_inserted_again_and_not_by_an_older_copy(url: str) -> None:
    deliver(url, REMOVED, [record("a", 5)])
    execute(url, "delete from app.bare")

    outcome = deliver(url, REMOVED, [record("a", 4)], [record("a", 5)], batch_records=1)

    assert outcome.counts == Counts(fetched=2, inserted=1, stale=1, created=1)
    assert query(url, ROWS) == [("a", "active", 5, None)]


def test_a_removed_row_stays_removed_until_a_greater_version_comes(url: str) -> None:
    tombstone = record("a", 6, deleted=True, data=None)
    deliver(url, REMOVED, [record("a", 5)])

    outcome = deliver(url, REMOVED, [tombstone], [record("a", 5)], [tombstone], [record("a", 7)], batch_records=1)

    assert outcome.counts == Counts(fetched=4, inserted=1, deleted=1, unchanged=1, stale=1, created=1, removed=1)
    assert query(url, ROWS) == [("a", "active", 7, None)]


def test_a_bare_tombstone_keeps_the_object_of_the_newest_version_before_it(url: str) -> None:
    deliver(url, MARKED, [record("a", 5)])

    deliver(url, MARKED, [record("a", 4, data={"status": "old", "amount": 0}), record("a", 6, deleted=True, data=None)])
    kept = query(url, ROWS)
    deliver(url, MARKED, [record("a", 7, data={"status": "new", "amount": 0}), record("a", 8, deleted=True, data=None)])

    assert kept == [("a", "active", 5, True)]
    assert query(url, ROWS) == [("a", "new", 0, True)]


def test_a_row_that_the_application_made_is_older_than_every_record(url: str) -> None:
    execute(url, "insert into app.bare values ('a', 'mine', null, true)")

    outcome = deliver(url, MARKED, [record("a", 1)])

    assert outcome.counts == Counts(fetched=1, updated=1)
    assert query(url, ROWS) == [("a", "active", 1, False)]


@pytest.mark.parametrize("deleted", [False, True], ids=["live", "tombstone"])
def test_of_two_writers_at_the_same_time_the_greater_version_stays(url: str, *, deleted: bool) -> None:
    deliver(url, REMOVED, [record("a", 1)])
    older, newer = record("a", 2), record("a", 3, deleted=deleted, data=None if deleted else {"status": "last", "amount": 3})
    with OpenBatch(url, REMOVED, newer) as first, OpenBatch(url, REMOVED, older) as second:
        first.write().result()

        waiting = second.write()
        wait_until_blocked(url, [second.pid])
        first.commit()
        counts = waiting.result()
        second.commit()

    assert counts.stale == 1
    assert [row[:3] for row in query(url, ROWS)] == ([] if deleted else [("a", "last", 3)])
    assert versions(url) == [("a", 3)]
