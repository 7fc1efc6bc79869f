"""A table that is taken over from another source: which of its rows the new one does not have, and what becomes of them."""

from dataclasses import replace
from typing import Any, Literal

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import LedgerRefused, SourceUnavailable
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs import collection_run
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.leftovers import settle_leftovers
from sequin_pipeline.sources import SourceIdentity
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.reading import execute, query, row_count
from tests.support.syncing import sync
from tests.table.unmanaged.tables import unmanaged

OLD, NEW = SourceIdentity("list", "http://old"), SourceIdentity("list", "http://new")
FIRST = [record("both", 1), record("gone", 2), record("left", 3), record("left too", 4)]
TOMBSTONE = record("gone", 5, deleted=True, data=None)
SECOND = [record("both", 1), record("new", 1)]


def fill(url: str, **options: object) -> None:
    sync(url, source=ListSource([FIRST, [TOMBSTONE]], OLD), **options)  # type: ignore[arg-type]  # `of` and the like


def marked(url: str, table: str = "demo.thing") -> list[tuple[object, ...]]:
    """By id, whether each row is deleted."""
    return query(url, f"select id, deleted from {table} order by id")


def is_over(url: str) -> bool:
    """Nothing of a census is left in the ledger."""
    return query(url, "select (select count(*) from sequin_pipeline.census) + (select count(*) from sequin_pipeline.listed)") == [
        (0,)
    ]


def test_the_refusal_says_how_many_rows_there_are_and_what_can_become_of_them(warehouse_url: str) -> None:
    fill(warehouse_url)

    with pytest.raises(LedgerRefused) as refusal:
        sync(warehouse_url, source=ListSource([SECOND], NEW))

    assert str(refusal.value).endswith(
        "or take the table over with --adopt, which reads the new one from its beginning. Of its 4 rows, those that the new one does not "
        "have then stay; --adopt --others mark marks them as deleted"
    )


ALREADY = (
    "no row of table 'demo.thing' is marked as deleted for being another source's: it has been filled from list http://old before, and "
    "this run does not read that from its beginning. To have rows marked that it does not have: "
    "`sequin-pipeline sync --collection demo/thing --full-refresh --others mark`"
)


@pytest.mark.parametrize(
    "of", [collection(), replace(collection(), lanes=3), collection(on_delete="remove")], ids=["mark", "lanes", "remove"]
)
def test_to_take_over_a_table_that_is_the_sources_already_and_mark_its_others_says_that_nothing_is_marked(
    warehouse_url: str, of: Collection
) -> None:
    fill(warehouse_url, of=of)
    before = marked(warehouse_url)

    outcome = sync(warehouse_url, of=of, source=ListSource([FIRST, [TOMBSTONE]], OLD), adopt=True, others="mark")
    silent = sync(warehouse_url, of=of, source=ListSource([FIRST, [TOMBSTONE]], OLD), adopt=True)

    assert (outcome.notes, silent.notes) == ((ALREADY,), ())
    assert (outcome.counts, marked(warehouse_url)) == (Counts(), before)


def test_to_mark_others_says_nothing_where_there_are_none(warehouse_url: str) -> None:
    outcome = sync(warehouse_url, source=ListSource([FIRST], OLD), adopt=True, others="mark")

    assert outcome.notes == ()


def test_a_run_of_one_sync_that_takes_a_table_over_says_that_it_marks_nothing(warehouse_url: str) -> None:
    fill(warehouse_url)
    of_one = replace(live_run_config(collection(), adopt=True, others="mark"), mode="backfill", sync_id="s1")

    outcome = run_sync(RecordStream(of_one, ListSource([SECOND], NEW)), Warehouse(warehouse_url), run_id="of one")

    assert outcome.notes == (ALREADY.replace("http://old", "http://new"),)
    assert [one for one, is_deleted in marked(warehouse_url) if is_deleted] == ["gone"]


@pytest.mark.parametrize("first", ["keep", "mark"])
def test_a_table_that_a_broken_run_began_to_take_over_is_marked_by_the_next_one_if_that_asks_for_it(
    warehouse_url: str, first: Literal["keep", "mark"]
) -> None:
    fill(warehouse_url)
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, source=ListSource([SECOND, []], NEW, breaks_at=1), adopt=True, others=first)

    outcome = sync(warehouse_url, source=ListSource([SECOND, []], NEW), adopt=True, others="mark")

    assert [one for one, is_deleted in marked(warehouse_url) if is_deleted] == ["gone", "left", "left too"]
    assert outcome.notes[0].endswith("2 marked as deleted")
    assert is_over(warehouse_url)


def test_rows_of_the_other_source_stay_and_are_counted(warehouse_url: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(warehouse_url)

    outcome = sync(warehouse_url, source=ListSource([SECOND], NEW), adopt=True)

    said = (
        "list http://new does not have 2 rows of table 'demo.thing', which was filled from list http://old before: they stay as they are. "
        "To have them marked as deleted: `sequin-pipeline sync --collection demo/thing --full-refresh --others mark`"
    )
    assert outcome.notes == (said,)
    assert f"demo/thing: {said}" in caplog.messages
    assert marked(warehouse_url) == [("both", False), ("gone", True), ("left", False), ("left too", False), ("new", False)]
    assert is_over(warehouse_url)


@pytest.mark.parametrize("lanes", [1, 3])
def test_rows_of_the_other_source_are_marked_as_deleted_and_none_that_the_new_one_has(lanes: int, warehouse_url: str) -> None:
    fill(warehouse_url)
    pages = [[record("both", 1)], [record("new", 1)], [record(f"n{number:02}", number) for number in range(40)]]

    outcome = sync(warehouse_url, source=ListSource(pages, NEW), adopt=True, others="mark", lanes=lanes, batch_records=1)

    assert outcome.notes == (
        "list http://new does not have 2 rows of table 'demo.thing', which was filled from list http://old before: 2 marked as deleted",
    )
    assert [row for row in marked(warehouse_url) if row[1]] == [("gone", True), ("left", True), ("left too", True)]
    assert outcome.rows == row_count(warehouse_url) == 45
    assert is_over(warehouse_url)


def test_rows_that_stayed_are_marked_by_a_full_refresh_later(warehouse_url: str) -> None:
    fill(warehouse_url)
    sync(warehouse_url, source=ListSource([SECOND], NEW), adopt=True)
    before = query(warehouse_url, "select id, xmin::text from demo.thing where id in ('both', 'new') order by id")

    sync(warehouse_url, source=ListSource([SECOND], NEW), full_refresh=True, others="mark", run_id="later")

    assert [row for row in marked(warehouse_url) if not row[1]] == [("both", False), ("new", False)]
    assert query(warehouse_url, "select id, xmin::text from demo.thing where id in ('both', 'new') order by id") == before


def test_a_run_that_breaks_off_marks_nothing_and_the_next_one_goes_on_as_it_was_asked(warehouse_url: str) -> None:
    fill(warehouse_url)
    pages = [[record("both", 1)], [record("new", 1)]]
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, source=ListSource(pages, NEW, breaks_at=1), adopt=True, others="mark")
    between = marked(warehouse_url)

    sync(warehouse_url, source=ListSource(pages, NEW))

    assert [row for row in between if row[1]] == [("gone", True)]
    assert [row for row in marked(warehouse_url) if not row[1]] == [("both", False), ("new", False)]
    assert is_over(warehouse_url)


def test_a_run_that_ends_before_its_stream_does_leaves_the_rest_to_the_next(warehouse_url: str) -> None:
    """Its last page entered the stream after it began: what stood behind may have been moved there from before."""
    fill(warehouse_url)
    late = record("left", 9, inserted_at="2030-01-01T00:30:00Z")
    source = ListSource([[record("both", 1)], [record("new", 2, inserted_at="2030-01-01T00:30:00Z")], [late]], NEW)

    sync(warehouse_url, source=source, adopt=True, others="mark")
    between = marked(warehouse_url)
    sync(warehouse_url, source=source)
    sync(warehouse_url, source=source)

    assert [row for row in between if row[1]] == [("gone", True)]
    assert [row for row in marked(warehouse_url) if row[1]] == [("gone", True), ("left too", True)]


@pytest.mark.parametrize(
    "delivered",
    [
        pytest.param(record("left", 3), id="the same version"),
        pytest.param(record("left", 1), id="an older version"),
        pytest.param(record("left", 7, data={"amount": "x"}), id="a version that is rejected"),
    ],
)
def test_a_record_that_the_new_source_has_is_not_marked_whatever_becomes_of_it(
    delivered: dict[str, object], warehouse_url: str
) -> None:
    fill(warehouse_url)

    sync(warehouse_url, source=ListSource([[*SECOND, delivered]], NEW), adopt=True, others="mark")

    assert ("left", False) in marked(warehouse_url)


def test_a_marked_row_comes_back_with_its_version(warehouse_url: str) -> None:
    fill(warehouse_url)
    source = ListSource([SECOND], NEW)
    sync(warehouse_url, source=source, adopt=True, others="mark")

    outcome = sync(warehouse_url, source=replace(source, page_records=[SECOND, [record("left", 3)]]))

    assert outcome.counts.updated == 1
    assert ("left", False) in marked(warehouse_url)


def test_with_on_delete_remove_the_rows_are_removed_and_older_copies_stay_away(warehouse_url: str) -> None:
    of = collection(on_delete="remove")
    fill(warehouse_url, of=of)
    source = ListSource([SECOND], NEW)

    outcome = sync(warehouse_url, source=source, of=of, adopt=True, others="mark")
    sync(warehouse_url, source=replace(source, page_records=[SECOND, [record("left", 2)]]), of=of)

    assert outcome.swept == 2
    assert marked(warehouse_url) == [("both", False), ("new", False)]
    assert row_count(warehouse_url) == 2


def test_rows_of_a_table_that_somebody_made_are_counted_and_marked_like_others(warehouse_url: str) -> None:
    execute(
        warehouse_url,
        "create schema demo",
        "create table demo.thing (id text primary key)",
        "insert into demo.thing values ('mine'), ('both')",
    )

    outcome = sync(warehouse_url, SECOND, adopt=True, others="mark")

    assert outcome.notes == ("list http://demo does not have 1 row of table 'demo.thing': 1 marked as deleted",)
    assert marked(warehouse_url) == [("both", False), ("mine", True), ("new", False)]


@pytest.mark.parametrize(
    ("mapping", "gone", "note"),
    [
        pytest.param({"deleted": "deleted"}, ["left", "left too"], "2 marked as deleted", id="with a column for deletions"),
        pytest.param({}, [], "are not looked for in a table that has no column for deleted", id="without one"),
    ],
)
def test_an_applications_rows_are_marked_where_it_has_a_column_for_that(
    mapping: dict[str, str], gone: list[str], note: str, warehouse_url: str
) -> None:
    execute(
        warehouse_url,
        "create schema app",
        "create table app.plain (id text primary key, idx bigint, deleted boolean not null default false)",
    )
    of = unmanaged({"id": "id", "updated_idx": "idx", **mapping}, table="app.plain", columns=())
    sync(warehouse_url, source=ListSource([[*FIRST[:1], *FIRST[2:]]], OLD), of=of)

    outcome = sync(warehouse_url, source=ListSource([SECOND], NEW), of=of, adopt=True, others="mark")

    assert note in outcome.notes[0]
    assert [row[0] for row in marked(warehouse_url, "app.plain") if row[1]] == gone


def test_a_row_that_somebody_writes_beside_the_run_is_not_marked(warehouse_url: str) -> None:
    """A backfill of the same source, which this run knows nothing of."""
    fill(warehouse_url)
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, source=ListSource([SECOND, []], NEW, breaks_at=1), adopt=True, others="mark")
    execute(warehouse_url, "update demo.thing set updated_idx = 8, updated_at = now() where id = 'left'")

    sync(warehouse_url, source=ListSource([SECOND, []], NEW))

    assert [row for row in marked(warehouse_url) if row[1]] == [("gone", True), ("left too", True)]


EIGHTY = [record(f"r{number:03}", number + 1) for number in range(80)]
PARTS = [f"create table app.plain_{n} partition of app.plain for values with (modulus 4, remainder {n})" for n in range(4)]


def test_in_a_partitioned_table_only_rows_that_the_new_source_does_not_have_are_marked(warehouse_url: str) -> None:
    """A row's place in its part is the place of another row in another part."""
    execute(
        warehouse_url,
        "create schema app",
        "create table app.plain (id text primary key, idx bigint, deleted boolean not null default false) partition by hash (id)",
        *PARTS,
    )
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "deleted"}, table="app.plain", columns=())
    sync(warehouse_url, source=ListSource([EIGHTY], OLD), of=of)

    sync(warehouse_url, source=ListSource([EIGHTY[::2]], NEW), of=of, adopt=True, others="mark")

    assert marked(warehouse_url, "app.plain") == [(f"r{number:03}", number % 2 == 1) for number in range(80)]


THREE = [[record("a", 1)], [record("b", 1)], [record("c", 1)]]
NONE_MARKED = [("a", False), ("b", False), ("c", False)]


def test_a_run_that_settles_after_another_has_begun_anew_marks_nothing(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(warehouse_url, source=ListSource(THREE, NEW))
    others: list[str] = []

    def settle_late(*arguments: Any) -> str | None:
        if not others:
            others.append("two")
            with pytest.raises(SourceUnavailable):
                sync(
                    warehouse_url,
                    source=ListSource(THREE, NEW, breaks_at=1),
                    full_refresh=True,
                    others="mark",
                    run_id="two",
                    batch_records=1,
                )
        return settle_leftovers(*arguments)

    monkeypatch.setattr(collection_run, "settle_leftovers", settle_late)

    outcome = sync(warehouse_url, source=ListSource(THREE, NEW), full_refresh=True, others="mark", run_id="one")

    assert (others, outcome.notes) == (["two"], ())
    assert marked(warehouse_url) == NONE_MARKED


def test_a_run_that_settles_after_another_has_settled_marks_nothing(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found what a killed run had left behind."""
    sync(warehouse_url, source=ListSource(THREE, NEW))
    monkeypatch.setattr(collection_run, "settle_leftovers", lambda *arguments: None)
    sync(warehouse_url, source=ListSource(THREE, NEW), full_refresh=True, others="mark", run_id="killed")
    others: list[str] = []

    def settle_late(*arguments: Any) -> str | None:
        if not others:
            others.append("two")
            sync(warehouse_url, source=ListSource([], NEW), run_id="two")
        return settle_leftovers(*arguments)

    monkeypatch.setattr(collection_run, "settle_leftovers", settle_late)

    outcome = sync(warehouse_url, source=ListSource([], NEW), run_id="one")

    assert (others, outcome.notes) == (["two"], ())
    assert marked(warehouse_url) == NONE_MARKED
    assert is_over(warehouse_url)


def test_rows_that_the_adopting_run_refills_itself_are_still_the_other_sources(warehouse_url: str) -> None:
    fill(warehouse_url, of=collection(columns=()))

    outcome = sync(warehouse_url, source=ListSource([SECOND], NEW), adopt=True, others="mark")

    assert outcome.refilled == 4
    assert [row for row in marked(warehouse_url) if row[1]] == [("gone", True), ("left", True), ("left too", True)]


def test_a_full_refresh_marks_the_others_also_after_one_that_failed_at_its_first_page(warehouse_url: str) -> None:
    fill(warehouse_url)
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, source=ListSource([FIRST], OLD, breaks_at=0), full_refresh=True, run_id="one")

    sync(warehouse_url, source=ListSource([FIRST[:1]], OLD), full_refresh=True, others="mark", run_id="two")

    assert marked(warehouse_url) == [("both", False), ("gone", True), ("left", True), ("left too", True)]
