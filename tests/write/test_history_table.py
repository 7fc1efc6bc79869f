"""A history table has one row for each version that was ever delivered, in any order, and a re-read writes nothing."""

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, given, note, settings

from sequin_pipeline.catalog import Collection, Column, HistoryTable, OnDelete, TableName, parse_path
from sequin_pipeline.errors import SourceUnavailable, TableRefused, TooManyRejects, WarehouseError
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.write.history_table import add_versions
from sequin_pipeline.write.merge import merge_rows
from tests.hostile.effort import EFFORT
from tests.support.builders import COLUMNS, EPOCH, ListSource, collection, live_run_config, record
from tests.support.racing import VERSIONS as REMEMBERED
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, query
from tests.support.versions import VERSIONS, Version, VersionsFold
from tests.support.ways import WAYS, going
from tests.write.test_fold import OBJECTS, UNFIT

EXAMPLES = 40
RARE = 0.05

SINCE = datetime(2024, 1, 3, tzinfo=UTC)


def kept(table: str = "demo.thing", since: datetime | None = None, on_delete: OnDelete = "mark") -> Collection:
    """A collection with a history table beside its own."""
    schema, name = table.split(".")
    history = HistoryTable(TableName(schema, f"{name}_history"), since)
    return replace(collection(table=table, on_delete=on_delete), history_table=history)


MARKED = kept("demo.marked")
REMOVED = kept("demo.removed", on_delete="remove")
SINCE_THEN = kept("demo.since_then", since=SINCE)
AS_IT_CAME = replace(kept("demo.as_it_came"), data_type="json")
LOGGED = replace(kept("demo.logged"), history=timedelta(days=30))
KINDS = (MARKED, REMOVED, SINCE_THEN, AS_IT_CAME, LOGGED)

TIMES = (None, *(f"2024-01-0{day}T00:00:00+00:00" for day in range(1, 6)))


def day(number: int) -> datetime:
    return EPOCH + timedelta(days=number - 1)


def dated(record_id: str, version: int, on: int, **overrides: object) -> dict[str, object]:
    """A version that holds from that day of January."""
    return record(record_id, version, upstream_updated_at=day(on).isoformat(), **overrides)


def gone(record_id: str, version: int, on: int) -> dict[str, object]:
    """A bare tombstone, that came on that day."""
    return record(record_id, version, deleted=True, data=None, inserted_at=day(on).isoformat())


def sync(url: str, of: Collection, *pages: Sequence[dict[str, object]]) -> None:
    """A run that reads these pages from the beginning."""
    config = live_run_config(of, full_refresh=True)
    with suppress(TooManyRejects):
        run_sync(RecordStream(config, ListSource(pages)), Warehouse(url), run_id=str(uuid4()))


def history(url: str, of: Collection) -> list[Version]:
    assert of.history_table is not None
    return query(url, VERSIONS.format(of.history_table.name))


def bounds(url: str, table: str = "demo.thing_history") -> list[tuple[object, ...]]:
    """Version, first and last day of each row; only for times that are days of January."""
    days = "(extract(epoch from {} - '2023-12-31T00:00Z'::timestamptz) / 86400)::int"
    return query(
        url,
        f"select id, updated_idx, {days.format('valid_from')}, {days.format('valid_to')} from {table} order by id, valid_from, updated_idx",
    )


def places(url: str, of: Collection) -> list[tuple[object, ...]]:
    """Where each row of both tables stands, and which transaction wrote it: whatever is written anew moves."""
    assert of.history_table is not None
    return query(
        url, f"select ctid::text, xmin::text from {of.table} union all select ctid::text, xmin::text from {of.history_table.name}"
    )


def random_version(chance: random.Random, of: Collection) -> dict[str, object]:
    """One of few versions of few records, whose time is the provider's, the stream's, or none; times meet, and go backwards.

    Where a history begins at a time, each version has one time: two contents of it at two times would leave what came first.
    """
    version = chance.randint(1, 6)
    has_one_time = of.history_table is not None and of.history_table.since is not None
    told, entered = (TIMES[1 + version * 2 % 5], None) if has_one_time else (chance.choice(TIMES), chance.choice(TIMES))
    deleted = chance.random() < 0.3
    data = chance.choice((None, {}, *OBJECTS) if deleted else (*OBJECTS, *OBJECTS, UNFIT[0]))
    return record(chance.choice("abc"), version, deleted=deleted, data=data, inserted_at=entered, upstream_updated_at=told)


def test_any_deliveries_leave_the_versions_that_came(warehouse_url: str) -> None:
    met: Counter[str] = Counter()
    for of in KINDS:
        sync(warehouse_url, of)

    with psycopg.connect(warehouse_url, autocommit=True) as connection:

        @given(st.randoms(use_true_random=True))
        @settings(
            max_examples=EXAMPLES * EFFORT,
            derandomize=EFFORT == 1,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
        )
        def check(chance: random.Random) -> None:
            of = chance.choice(KINDS)
            fold = VersionsFold(of.history_table.since if of.history_table else None)
            stream: list[list[dict[str, object]]] = []
            _empty(connection, of)
            for number in range(chance.randint(1, 3)):
                stream += [
                    [random_version(chance, of) for _ in range(chance.choice((1, 3, 6)))] for _ in range(chance.randint(1, 3))
                ]
                start = 0 if chance.random() < 0.5 else _cursor(connection)
                ends = chance.choice((len(stream), len(stream), chance.randint(start, len(stream))))
                lanes, way, batch = chance.choice((1, 1, 2, 3)), chance.choice(WAYS), chance.randint(1, 7)
                note(f"{of.table} run {number}: from {start} to {ends}, {lanes} lanes, {way}, {batch} a batch: {stream}")
                source = ListSource(stream, breaks_at=None if ends == len(stream) else ends)
                stream_of_run = RecordStream(live_run_config(of, full_refresh=start == 0), source)
                with suppress(TooManyRejects, SourceUnavailable), going(way, seed=batch):
                    run_sync(stream_of_run, Warehouse(warehouse_url), run_id=f"{number}", batch_records=batch, lanes=lanes)
                for each in (each for page in stream[start:ends] for each in page if each["data"] not in UNFIT):
                    met[_case(fold, each)] += 1
                    fold.deliver(each)

                assert history(warehouse_url, of) == fold.rows()
            met["examples"] += 1

        check()

    shares = {case: count / met["examples"] for case, count in met.items() if case != "examples"}
    assert set(shares) == {"again", "late", "other content", "newest"}
    assert {case: share for case, share in shares.items() if share <= RARE} == {}


def _case(fold: VersionsFold, incoming: dict[str, object]) -> str:
    record_id, version = str(incoming["id"]), int(str(incoming["updated_idx"]))
    known = fold.versions.get((record_id, version))
    if known is not None:
        return "again" if known == incoming else "other content"
    return "late" if any(one == record_id and other > version for one, other in fold.versions) else "newest"


def _empty(connection: psycopg.Connection[tuple[object, ...]], of: Collection) -> None:
    connection.execute(
        f"truncate {of.table}, {of.history_table.name if of.history_table else ''}, sequin_pipeline.rejects, sequin_pipeline.versions,"
        " sequin_pipeline.cursors, sequin_pipeline.positions, sequin_pipeline.history"
    )


def _cursor(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("select min(coalesce(cursor::int, 0)) from sequin_pipeline.cursors").fetchone()
    return int(str(row[0] or 0)) if row else 0


@pytest.mark.parametrize("way", [way for way in WAYS if way != "by chance"])
@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_versions_that_are_read_again_write_no_row_of_either_table(warehouse_url: str, on_delete: OnDelete, way: str) -> None:
    of = kept(on_delete=on_delete)
    pages = [[dated("a", 1, 1), dated("a", 2, 2), dated("b", 1, 1)], [gone("b", 2, 3), dated("c", 1, 2), dated("a", 1, 1)]]
    sync(warehouse_url, of, *pages)
    before = places(warehouse_url, of)

    with going(way):
        sync(warehouse_url, of, *pages)
        sync(warehouse_url, of, *pages[::-1])

    assert places(warehouse_url, of) == before


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (3, 2, 1), (2, 3, 1), (1, 3, 2)], ids=str)
def test_a_late_version_is_put_where_it_belongs(warehouse_url: str, order: tuple[int, ...]) -> None:
    for version in order:
        sync(warehouse_url, kept(), [dated("a", version, on=version * 2)])

    assert bounds(warehouse_url) == [("a", 1, 2, 4), ("a", 2, 4, 6), ("a", 3, 6, None)]


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param([(1, 2), (2, 2), (3, 5)], id="equal times go by version"),
        pytest.param([(3, 5), (2, 2), (1, 2)], id="so they do backwards"),
        pytest.param([(2, 2), (3, 5), (1, 2)], id="and in any order"),
    ],
)
def test_equal_times_go_by_version(warehouse_url: str, versions: list[tuple[int, int]]) -> None:
    for version, on in versions:
        sync(warehouse_url, kept(), [dated("a", version, on)])

    assert bounds(warehouse_url) == [("a", 1, 2, 2), ("a", 2, 2, 5), ("a", 3, 5, None)]


def test_a_version_whose_time_is_corrected_moves_and_its_neighbours_close_up(warehouse_url: str) -> None:
    sync(warehouse_url, kept(), [dated("a", version, on=version) for version in (1, 2, 3)])

    sync(warehouse_url, kept(), [dated("a", 2, on=6)])

    assert bounds(warehouse_url) == [("a", 1, 1, 3), ("a", 3, 3, 6), ("a", 2, 6, None)]


def test_a_removed_record_ends_in_its_history_and_may_come_back(warehouse_url: str) -> None:
    of = kept(on_delete="remove")
    sync(warehouse_url, of, [dated("a", 1, 1)])
    sync(warehouse_url, of, [gone("a", 2, 3)])

    ended, rows = bounds(warehouse_url), query(warehouse_url, "select id from demo.thing")
    sync(warehouse_url, of, [dated("a", 3, 5)])

    assert ended == [("a", 1, 1, 3), ("a", 2, 3, None)]
    assert rows == []
    assert bounds(warehouse_url) == [("a", 1, 1, 3), ("a", 2, 3, 5), ("a", 3, 5, None)]


def test_the_function_tells_the_rows_of_a_time_and_is_planned_with_the_query_around_it(warehouse_url: str) -> None:
    sync(warehouse_url, kept(), [dated("a", 1, 1), dated("a", 2, 4), gone("a", 3, 6), dated("b", 1, 5)])
    asking = "select id, updated_idx from demo.thing_as_of(%s) order by id"

    told = [query(warehouse_url, asking, day(on)) for on in (1, 3, 4, 5, 6)]
    plan = "\n".join(line for (line,) in query(warehouse_url, "explain select * from demo.thing_as_of(now()) where id = 'a'"))

    assert told == [[("a", 1)], [("a", 1)], [("a", 2)], [("a", 2), ("b", 1)], [("b", 1)]]
    assert "Function Scan" not in plan
    assert "Index" in plan


def test_rows_that_were_there_before_are_the_first_known_versions(warehouse_url: str) -> None:
    sync(warehouse_url, collection(), [dated("a", 3, 3), dated("b", 1, 1), gone("b", 2, 4)])

    sync(warehouse_url, kept(), [dated("a", 3, 3), dated("c", 1, 2)])
    seeded = bounds(warehouse_url)
    sync(warehouse_url, kept(), [dated("a", 1, 1), dated("a", 2, 2), dated("b", 1, 1)])

    assert seeded == [("a", 3, 3, None), ("b", 2, 4, None), ("c", 1, 2, None)]
    assert bounds(warehouse_url) == [
        ("a", 1, 1, 2),
        ("a", 2, 2, 3),
        ("a", 3, 3, None),
        ("b", 1, 1, 4),
        ("b", 2, 4, None),
        ("c", 1, 2, None),
    ]


def test_a_history_that_was_not_kept_for_a_while_goes_on_with_the_rows_as_they_are(warehouse_url: str) -> None:
    sync(warehouse_url, kept(), [dated("a", 1, 1), dated("b", 1, 1)])
    sync(warehouse_url, collection(), [dated("a", 2, 2), dated("a", 3, 3)])

    sync(warehouse_url, kept(), [dated("b", 1, 1)])
    resumed = bounds(warehouse_url)
    sync(warehouse_url, kept(), [dated("a", 2, 2)])

    assert resumed == [("a", 1, 1, 3), ("a", 3, 3, None), ("b", 1, 1, None)]
    assert bounds(warehouse_url)[:3] == [("a", 1, 1, 2), ("a", 2, 2, 3), ("a", 3, 3, None)]


@pytest.mark.parametrize("way", ["asked first", "staged"])
def test_a_version_that_only_the_history_lacks_is_written_when_it_comes_again(warehouse_url: str, way: str) -> None:
    pages = [dated("a", 1, 1), dated("b", 1, 1)]
    sync(warehouse_url, kept(), pages)
    execute(warehouse_url, "delete from demo.thing_history where id = 'b'")

    with going(way):
        sync(warehouse_url, kept(), pages)

    assert bounds(warehouse_url) == [("a", 1, 1, None), ("b", 1, 1, None)]
    assert query(warehouse_url, "select unchanged from sequin_pipeline.merges order by committed_at") == [(0,), (2,)]


def test_a_batch_that_fails_behind_its_versions_leaves_none_of_them(warehouse_url: str) -> None:
    sync(warehouse_url, kept(), [dated("a", 1, 1)])
    execute(
        warehouse_url,
        "create function public.fails() returns trigger language plpgsql as"
        " $$ begin raise exception 'no space' using errcode = '53100'; end $$",
        "create trigger fails before insert on sequin_pipeline.merges for each row execute function public.fails()",
    )

    with pytest.raises(WarehouseError):
        sync(warehouse_url, kept(), [dated("a", 2, 2), dated("a", 3, 3)])
    failed = bounds(warehouse_url)
    execute(warehouse_url, "drop trigger fails on sequin_pipeline.merges")
    sync(warehouse_url, kept(), [dated("a", 2, 2), dated("a", 3, 3)])

    assert failed == [("a", 1, 1, None)]
    assert bounds(warehouse_url) == [("a", 1, 1, 2), ("a", 2, 2, 3), ("a", 3, 3, None)]


@pytest.mark.parametrize("way", ["asked first", "staged"])
def test_a_version_that_only_the_history_table_refuses_becomes_a_reject(warehouse_url: str, way: str) -> None:
    sync(warehouse_url, kept())
    execute(warehouse_url, "alter table demo.thing_history add constraint small check (amount < 100)")
    refused = dated("a", 1, 1, data={"status": "active", "amount": 200})

    with going(way):
        sync(warehouse_url, kept(), [refused, dated("a", 2, 2), dated("b", 1, 1)])

    assert bounds(warehouse_url) == [("a", 2, 2, None), ("b", 1, 1, None)]
    assert query(warehouse_url, "select id from demo.thing order by id") == [("a",), ("b",)]
    assert query(warehouse_url, "select record_id, version, class, sqlstate from sequin_pipeline.rejects") == [
        ("a", 1, "postgres", "23514")
    ]


class OpenVersions(OpenBatch):
    """A batch that can be held open behind its versions."""

    def write(self) -> "Future[Counts]":
        def work() -> Counts:
            self.connection.execute("begin isolation level read committed")
            merged = merge_rows(self.connection, self._encoded, window_starts=(), versions=REMEMBERED)
            merged = add_versions(self.connection, self._encoded, merged, in_parts=False)
            return sum(merged.counts.values(), Counts())

        return self.threads.submit(work)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(dated("a", 2, 2), dated("a", 3, 3), id="both late, in order"),
        pytest.param(dated("a", 3, 3), dated("a", 2, 2), id="both late, backwards"),
        pytest.param(dated("a", 4, 4), dated("a", 6, 6), id="one late, one newest"),
        pytest.param(dated("a", 6, 6), dated("a", 4, 4), id="one newest, one late"),
        pytest.param(dated("a", 6, 6), dated("a", 7, 7), id="both newest"),
        pytest.param(dated("a", 3, 3), dated("a", 3, 3), id="the same version"),
    ],
)
def test_two_writers_of_one_record_leave_its_versions_in_their_places(
    warehouse_url: str, first: dict[str, object], second: dict[str, object]
) -> None:
    sync(warehouse_url, kept(), [dated("a", 1, 1), dated("a", 5, 5)])
    with OpenVersions(warehouse_url, kept(), first) as one, OpenVersions(warehouse_url, kept(), second) as other:
        one.write().result()
        waiting = other.write()
        wait_until_blocked(warehouse_url, [other.pid])
        one.commit()
        waiting.result()
        other.commit()

    versions = sorted({1, 5, int(str(first["updated_idx"])), int(str(second["updated_idx"]))})
    ends = [*versions[1:], None]
    assert bounds(warehouse_url) == [("a", version, version, end) for version, end in zip(versions, ends, strict=True)]


def test_writers_of_new_records_do_not_wait_for_each_other(warehouse_url: str) -> None:
    sync(warehouse_url, kept())
    many = [record(f"r{number}", 1) for number in range(100)]
    with OpenVersions(warehouse_url, kept(), *many[:50]) as one, OpenVersions(warehouse_url, kept(), *many[50:]) as other:
        one.write().result()
        other.write().result(timeout=30)
        other.commit()
        one.commit()

    assert len(bounds(warehouse_url)) == 100


def test_a_listing_that_brings_nothing_new_adds_no_version(warehouse_url: str) -> None:
    of = replace(kept(), observes_time=True)
    at_times = [
        [dated("a", number, 1, inserted_at=day(number).isoformat(), data={"status": status, "amount": 1})]
        for number, status in [(1, "one"), (2, "one"), (3, "two"), (4, "two"), (5, "one")]
    ]
    for page in at_times:
        sync(warehouse_url, of, page)
    before = places(warehouse_url, of)

    sync(warehouse_url, of, [dated("a", 6, 1, inserted_at=day(6).isoformat(), data={"status": "one", "amount": 1})])

    assert [(row[1], row[5]) for row in history(warehouse_url, of)] == [(1, "one"), (3, "two"), (5, "one")]
    assert places(warehouse_url, of) == before


def test_rows_of_another_source_that_are_marked_end_in_their_history_and_hold_again_when_they_come(warehouse_url: str) -> None:
    sync(warehouse_url, kept(), [dated("a", 1, 1), dated("b", 1, 1)])
    other = ListSource([[dated("b", 1, 1)]], identity=SourceIdentity("list", "http://other"))

    run_sync(RecordStream(live_run_config(kept(), adopt=True, others="mark"), other), Warehouse(warehouse_url), run_id="other")
    ended = query(warehouse_url, "select id, deleted, valid_to is null from demo.thing_history order by id")
    again = ListSource([[dated("a", 1, 1)]], identity=SourceIdentity("list", "http://other"))
    run_sync(RecordStream(live_run_config(kept(), full_refresh=True), again), Warehouse(warehouse_url), run_id="again")

    assert ended == [("a", False, False), ("b", False, True)]
    assert bounds(warehouse_url) == [("a", 1, 1, None), ("b", 1, 1, None)]


def test_a_column_that_is_declared_later_is_added_and_filled_by_what_is_read_again(warehouse_url: str) -> None:
    versions = [
        dated("a", 1, 1, data={"status": "one", "amount": 1, "more": "x"}),
        dated("a", 2, 2, data={"status": "two", "more": "y"}),
    ]
    sync(warehouse_url, kept(), versions)
    grown = replace(kept(), columns=(*COLUMNS, Column("more", parse_path("more"), "text")))

    sync(warehouse_url, grown)
    added = query(warehouse_url, "select updated_idx, more from demo.thing_history order by 1")
    sync(warehouse_url, grown, versions)

    assert added == [(1, None), (2, None)]
    assert query(warehouse_url, "select updated_idx, more from demo.thing_history order by 1") == [(1, "x"), (2, "y")]


def test_a_table_of_that_name_that_is_not_ours_is_refused_and_left_alone(warehouse_url: str) -> None:
    execute(warehouse_url, "create schema if not exists demo", "create table demo.thing_history (id text primary key, note text)")

    with pytest.raises(TableRefused) as refusal:
        sync(warehouse_url, kept(), [dated("a", 1, 1)])

    assert str(refusal.value) == (
        "history table 'demo.thing_history' of 'demo/thing' exists already, and this pipeline did not create it: name another one in the "
        "YAML with `history_table: {name: schema.table}`, or let the pipeline take it over with --adopt"
    )
    assert query(warehouse_url, "select count(*) from demo.thing_history") == [(0,)]


def test_two_tables_do_not_share_a_history(warehouse_url: str) -> None:
    sync(warehouse_url, kept())
    other = replace(kept("demo.other"), history_table=kept().history_table)

    with pytest.raises(TableRefused, match=r"and it is the history of table 'demo\.thing': name another one"):
        sync(warehouse_url, other, [dated("a", 1, 1)])


@pytest.mark.parametrize("is_later", [False, True], ids=["from the beginning", "declared later"])
def test_readers_see_the_versions_of_their_tenant_only_where_they_see_its_rows_only(warehouse_url: str, is_later: bool) -> None:  # noqa: FBT001 - a case
    secured = replace(kept(), row_security="tenant")
    if is_later:
        sync(warehouse_url, kept(), [dated("a", 1, 1)])

    sync(warehouse_url, secured, [dated("a", 1, 1)])

    policies = query(warehouse_url, "select tablename::text, policyname::text from pg_policies order by 1")
    assert policies == [("thing", "sequin_pipeline_tenant"), ("thing_history", "sequin_pipeline_tenant")]
    assert query(warehouse_url, "select relname::text from pg_class where relrowsecurity order by 1") == [
        ("thing",),
        ("thing_history",),
    ]
