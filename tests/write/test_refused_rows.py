"""Rows that only Postgres refuses: exactly those become rejects, and everything else lands."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from sequin_pipeline.errors import TableRefused, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.reading import execute, ids_and_versions, merges, query, raw, rejects
from tests.support.syncing import sync

MANY = 40
GOOD = [record(f"good{number:02}", 1) for number in range(MANY)]


def made(url: str, *statements: str) -> None:
    """The table, empty, with what its users have put on it."""
    sync(url, run_id="before")
    execute(url, *statements)


RAISING_TRIGGER = (
    "create function demo.refuse() returns trigger language plpgsql as $$ begin"
    " if new.status = 'bad' then raise exception 'no % here', new.id; end if; return new; end $$",
    "create trigger refuse before insert or update on demo.thing for each row execute function demo.refuse()",
)


@pytest.mark.parametrize(
    ("statements", "bad", "expected"),
    [
        pytest.param(
            ["alter table demo.thing add constraint modest check (amount < 1000)"],
            {"status": "x", "amount": 1000},
            ("postgres", "23514"),
            id="check",
        ),
        pytest.param(["alter table demo.thing alter status set not null"], {"amount": 1}, ("postgres", "23502"), id="not null"),
        pytest.param(
            [
                "create unique index on demo.thing (status) where status <> 'active'",
                "insert into demo.thing values"
                " ('other', 'u', null, 's', 1, false, null, null, null, 'taken', 1, null, null, now(), now())",
            ],
            {"status": "taken"},
            ("conflict", "23505"),
            id="second unique index",
        ),
        pytest.param(
            [
                "create table demo.parent (status text primary key)",
                "insert into demo.parent values ('active')",
                "alter table demo.thing add foreign key (status) references demo.parent",
            ],
            {"status": "orphan"},
            ("parent", "23503"),
            id="foreign key",
        ),
        pytest.param(
            [
                "create table demo.parent (status text primary key)",
                "insert into demo.parent values ('active')",
                "alter table demo.thing add foreign key (status) references demo.parent deferrable initially deferred",
            ],
            {"status": "orphan"},
            ("parent", "23503"),
            id="deferred foreign key",
        ),
        pytest.param(RAISING_TRIGGER, {"status": "bad"}, ("postgres", "P0001"), id="trigger"),
        pytest.param(
            ["create index on demo.thing (status)"],
            {"status": "".join(chr(0x4E00 + 37 * number % 20000) for number in range(3000))},
            ("postgres", "54000"),
            id="value too long for an index",
        ),
    ],
)
def test_exactly_the_refused_record_is_rejected_and_its_older_good_version_stored(
    warehouse_url: str, statements: Sequence[str], bad: dict[str, object], expected: tuple[str, str]
) -> None:
    made(warehouse_url, *statements)
    refused = record("victim", 2, data=bad)

    outcome = sync(warehouse_url, [*GOOD, record("victim", 1), refused, record("victim", 0)])

    stored = [row for row in ids_and_versions(warehouse_url) if row[0] != "other"]
    assert stored == [*((f"good{number:02}", 1, False) for number in range(MANY)), ("victim", 1, False)]
    assert rejects(warehouse_url) == {"victim": expected}
    assert query(warehouse_url, "select raw, version from sequin_pipeline.rejects") == [(raw(refused), 2)]
    # One that waits for another row is tried again at the end of the run.
    assert merges(warehouse_url, "run")[:1] == [
        {"fetched": MANY + 3, "inserted": MANY + 1, "duplicate": 1, "rejected": 1, "created": MANY + 1}
    ]
    assert outcome.counts.rejected == 1
    assert outcome.rows == MANY + 1


def huge(*records: dict[str, object]) -> list[bytes]:
    """The records' bytes, with a number beyond jsonb's limits where they say "huge"."""
    return [raw(each).replace(b'"huge"', b"1e200000") for each in records]


def sync_bytes(url: str, records: Sequence[bytes]) -> None:
    """One page of these records."""
    page = Page(b"[" + b",".join(records) + b"]", "1", datetime(2030, 1, 1, tzinfo=UTC))
    run_sync(RecordStream(live_run_config(collection()), PageSource(page)), Warehouse(url), run_id="run")


class PageSource(ListSource):
    """A stream of one page, whatever its bytes."""

    def __init__(self, page: Page) -> None:
        super().__init__([])
        self._page = page

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield self._page


def test_a_number_beyond_the_limits_of_jsonb_is_a_reject_with_its_own_bytes(warehouse_url: str) -> None:
    page = huge(record("a", 1), record("a", 2, data={"more": "huge"}), record("b", 1))

    sync_bytes(warehouse_url, page)

    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("b", 1, False)]
    assert rejects(warehouse_url) == {"a": ("postgres", "22003")}
    assert query(warehouse_url, "select raw from sequin_pipeline.rejects") == [(page[1],)]


def test_a_bare_tombstone_is_not_refused_for_the_object_it_would_carry(warehouse_url: str) -> None:
    tombstone = record("a", 3, deleted=True, data=None)
    page = huge(record("a", 1), record("a", 2, data={"more": "huge"}), tombstone, record("b", 1))

    sync_bytes(warehouse_url, page)

    assert query(warehouse_url, "select id, updated_idx, deleted, amount from demo.thing order by id") == [
        ("a", 3, True, 1),
        ("b", 1, False, 1),
    ]
    assert query(warehouse_url, "select raw from sequin_pipeline.rejects") == [(page[1],)]
    assert merges(warehouse_url) == [{"fetched": 4, "inserted": 1, "deleted": 1, "duplicate": 1, "rejected": 1, "created": 2}]


def test_a_bare_tombstone_that_is_refused_itself_leaves_the_object_it_carried(warehouse_url: str) -> None:
    made(warehouse_url, "alter table demo.thing add check (not deleted)")

    sync(warehouse_url, [record("a", 2), record("a", 3, deleted=True, data=None), record("b", 1)])

    assert ids_and_versions(warehouse_url) == [("a", 2, False), ("b", 1, False)]
    assert query(warehouse_url, "select record_id, version, sqlstate from sequin_pipeline.rejects") == [("a", 3, "23514")]


def test_an_id_too_long_for_its_index_stops_nobody_else(warehouse_url: str) -> None:
    long_id = "".join(chr(0x4E00 + 37 * number % 20000) for number in range(3000))

    sync(warehouse_url, [record("a"), record(long_id), record("b")])

    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("b", 1, False)]
    assert rejects(warehouse_url) == {long_id: ("postgres", "54000")}


def test_an_object_nested_too_deeply_for_postgres_stops_nobody_else(warehouse_url: str) -> None:
    nested = raw(record("deep", data={"more": "deep"})).replace(b'"deep"}', b"[" * 50_000 + b"]" * 50_000 + b"}")

    sync_bytes(warehouse_url, [raw(record("a")), nested])

    assert ids_and_versions(warehouse_url) == [("a", 1, False)]
    assert query(warehouse_url, "select raw from sequin_pipeline.rejects") == [(nested,)]


def test_a_key_of_an_object_may_be_longer_than_any_index_takes(warehouse_url: str) -> None:
    key = "".join(chr(0x4E00 + 37 * number % 20000) for number in range(3000))

    sync(warehouse_url, [record("a", data={key: 1})])

    assert query(warehouse_url, "select data from demo.thing") == [({key: 1},)]


def test_of_two_rows_that_conflict_only_together_one_lands_and_one_is_rejected(warehouse_url: str) -> None:
    made(warehouse_url, "create unique index on demo.thing (status) where status <> 'active'")
    twins = [record("twin1", 1, data={"status": "same"}), record("twin2", 1, data={"status": "same"})]

    sync(warehouse_url, [*GOOD, *twins])

    assert [row[0] for row in ids_and_versions(warehouse_url)] == [*(each["id"] for each in GOOD), "twin1"]
    assert rejects(warehouse_url) == {"twin2": ("conflict", "23505")}
    assert merges(warehouse_url, "run") == [
        {"fetched": MANY + 2, "inserted": MANY + 1, "rejected": 1, "created": MANY + 1},
        {"fetched": 1, "rejected": 1},
    ]


def test_every_version_of_a_record_that_is_refused_is_a_reject_of_its_own(warehouse_url: str) -> None:
    made(warehouse_url, "alter table demo.thing add check (amount < 2)")

    sync(warehouse_url, [record("a", version) for version in (1, 2, 3, 4)])

    assert ids_and_versions(warehouse_url) == [("a", 1, False)]
    assert query(warehouse_url, "select version from sequin_pipeline.rejects order by 1") == [(2,), (3,), (4,)]
    assert merges(warehouse_url, "run") == [{"fetched": 4, "inserted": 1, "rejected": 3, "created": 1}]


def test_a_batch_of_nothing_but_bad_rows_keeps_them_all_moves_on_and_fails_the_run(warehouse_url: str) -> None:
    made(warehouse_url, "alter table demo.thing add check (amount < 0)")

    with pytest.raises(TooManyRejects, match="40 of 40 records of 'demo/thing' were rejected"):
        sync(warehouse_url, GOOD)

    assert ids_and_versions(warehouse_url) == []
    assert len(rejects(warehouse_url)) == MANY
    assert merges(warehouse_url, "run") == [{"fetched": MANY, "rejected": MANY}]
    assert query(warehouse_url, "select cursor from sequin_pipeline.cursors") == [("1",)]


def test_rows_that_wait_for_their_parent_do_not_fail_the_run(warehouse_url: str) -> None:
    made(warehouse_url, "create table demo.parent (status text primary key)")
    execute(warehouse_url, "alter table demo.thing add foreign key (status) references demo.parent")

    outcome = sync(warehouse_url, GOOD)

    assert (outcome.counts.rejected, outcome.missing_parents) == (MANY, MANY)
    assert set(rejects(warehouse_url).values()) == {("parent", "23503")}


def test_a_record_that_was_refused_is_stored_once_postgres_takes_it(warehouse_url: str) -> None:
    made(warehouse_url, "alter table demo.thing add constraint modest check (amount < 2)")
    pages = [[record("a", 1), record("b", 2)]]
    sync(warehouse_url, *pages)
    execute(warehouse_url, "alter table demo.thing drop constraint modest")

    stream = RecordStream(live_run_config(collection(), full_refresh=True), ListSource(pages))
    run_sync(stream, Warehouse(warehouse_url), run_id="again")

    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("b", 2, False)]
    assert rejects(warehouse_url) == {}


def test_a_missing_right_is_not_taken_for_a_bad_row(warehouse_url: str) -> None:
    made(
        warehouse_url,
        "create table demo.audit (id text)",
        "create function demo.audited() returns trigger language plpgsql security invoker as $$ begin"
        " insert into demo.audit values (new.id); return new; end $$",
        "create trigger audited after insert on demo.thing for each row execute function demo.audited()",
        "create role limited_writer login",
        "grant usage, create on schema demo, sequin_pipeline to limited_writer",
        "grant all on all tables in schema sequin_pipeline to limited_writer",
        "grant select, insert, update, delete on demo.thing to limited_writer",
    )
    url = warehouse_url.replace("//postgres@", "//limited_writer@")

    try:
        with pytest.raises(TableRefused, match=r"permission denied for table audit.*grant the right") as caught:
            sync(url, GOOD)
    finally:
        execute(warehouse_url, "drop owned by limited_writer", "drop role limited_writer")

    assert not caught.value.is_retryable
    assert ids_and_versions(warehouse_url) == []
    assert rejects(warehouse_url) == {}
    assert merges(warehouse_url, "run") == []
