"""The table and what happens to it: created, grown, filled again, refused; and a refusal leaves everything as it was."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import LedgerRefused, PipelineError, RunFenced, TableRefused
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.refill import REFILL_ROWS
from sequin_pipeline.sources import SourceIdentity
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, record
from tests.support.racing import OpenBatch, wait_for_activity
from tests.support.reading import execute, ids_and_versions, merges, query, rejects, row_count
from tests.support.syncing import sync

TWICE = Column("twice", parse_path("amount"), "text", description="the amount again")


def columns(url: str, table: str = "demo.thing") -> dict[object, object]:
    rows = query(
        url,
        "select attname, format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        table,
    )
    return dict(rows)


def everything(url: str) -> list[list[tuple[object, ...]]]:
    """All that a refusal must leave as it was."""
    catalog = query(
        url, "select attrelid::regclass::text, attname, atttypid from pg_attribute where attrelid >= 16384 order by 1, 2"
    )
    tables = query(
        url,
        "select format('%I.%I', table_schema, table_name) from information_schema.tables"
        " where table_schema in ('demo', 'sequin_pipeline') and table_type = 'BASE TABLE' order by 1",
    )
    return [catalog, *(query(url, f"select * from {name} t order by t::text") for (name,) in tables)]


def test_a_table_that_is_missing_is_created_as_declared(empty_url: str) -> None:
    of = replace(collection(columns=(*COLUMNS, TWICE)), description="Things of the demo.")

    sync(empty_url, of=of)

    assert columns(empty_url) == {
        "id": "text not null",
        "upstream_id": "text",
        "internal_id": "text",
        "sync_id": "text",
        "updated_idx": "bigint not null",
        "deleted": "boolean not null",
        "record_inserted_at": "timestamp with time zone",
        "upstream_created_at": "timestamp with time zone",
        "upstream_updated_at": "timestamp with time zone",
        "status": "text",
        "amount": "bigint",
        "twice": "text",
        "data": "jsonb",
        "content_hash": "uuid",
        "inserted_at": "timestamp with time zone not null",
        "updated_at": "timestamp with time zone not null",
    }
    [(key,)] = query(
        empty_url,
        "select pg_get_constraintdef(oid) from pg_constraint where contype = 'p' and conrelid = 'demo.thing'::regclass",
    )
    assert key == "PRIMARY KEY (id)"


def comments(url: str) -> dict[object, object]:
    rows = query(
        url,
        "select a.attname, d.description from pg_description d left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid"
        " and d.objsubid > 0 where d.objoid = 'demo.thing'::regclass",
    )
    return dict(rows)


def test_descriptions_become_comments_and_follow_the_declaration(warehouse_url: str) -> None:
    sync(warehouse_url, of=replace(collection(columns=(TWICE,)), description="Things of the demo."))
    first = comments(warehouse_url)

    sync(warehouse_url, of=replace(collection(columns=(replace(TWICE, description="'now' other"),)), description="Other things."))

    assert (first[None], first["twice"], first["updated_idx"]) == (
        "Things of the demo.",
        "the amount again",
        "version of the record: greater is newer",
    )
    assert (comments(warehouse_url)[None], comments(warehouse_url)["twice"]) == ("Other things.", "'now' other")


def test_data_is_compressed_with_lz4_where_the_server_has_it(warehouse_url: str) -> None:
    offered = query(warehouse_url, "select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'")

    sync(warehouse_url)

    [(compression,)] = query(
        warehouse_url,
        "select coalesce(to_jsonb(a) ->> 'attcompression', '') from pg_attribute a"
        " where attrelid = 'demo.thing'::regclass and attname = 'data'",
    )
    assert compression == ("l" if offered == [(True,)] else "")


def test_a_new_column_is_added_and_filled_for_rows_that_are_there(warehouse_url: str) -> None:
    pages = [[record("a", 1), record("b", 2, data={"status": "x"}), record("c", 3, deleted=True, data=None)]]
    sync(warehouse_url, *pages)
    times = query(warehouse_url, "select id, inserted_at, updated_at from demo.thing order by id")

    outcome = sync(warehouse_url, *pages, of=collection(columns=(*COLUMNS, TWICE)), run_id="second")

    assert query(warehouse_url, "select id, updated_idx, twice from demo.thing order by id") == [
        ("a", 1, "1"),
        ("b", 2, None),
        ("c", 3, None),
    ]
    assert outcome.refilled == 1
    assert merges(warehouse_url, "second") == [{"fetched": 2, "updated": 1, "unchanged": 1, "rewritten": 1}]
    after = query(warehouse_url, "select id, inserted_at, updated_at from demo.thing order by id")
    assert [row[:2] for row in after] == [row[:2] for row in times]
    assert [new[2] > old[2] for new, old in zip(after, times, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("before", "after", "filled"),
    [
        pytest.param(
            Column("x", parse_path("one"), "text"), Column("x", parse_path("two[0].three"), "text"), "deep", id="other path"
        ),
        pytest.param(
            Column("x", parse_path("seconds"), "timestamptz", time_format="epoch_seconds"),
            Column("x", parse_path("seconds"), "timestamptz", time_format="epoch_milliseconds"),
            "1970-01-01 00:00:07+00",
            id="other format",
        ),
    ],
)
def test_a_column_declared_in_another_way_is_filled_again(warehouse_url: str, before: Column, after: Column, filled: str) -> None:
    data = {"one": "flat", "two": [{"three": "deep"}], "seconds": 7000}
    sync(warehouse_url, [record("a", data=data)], of=collection(columns=(before,)))

    sync(warehouse_url, of=collection(columns=(after,)))

    assert query(warehouse_url, "select x::text from demo.thing") == [(filled,)]


def test_a_marked_row_keeps_its_object_and_has_its_new_column_filled_from_it(warehouse_url: str) -> None:
    pages = [[record("a", 1)], [record("a", 2, deleted=True, data=None)]]
    for count in (1, 2):
        sync(warehouse_url, *pages[:count])

    sync(warehouse_url, *pages, of=collection(columns=(*COLUMNS, TWICE)))
    sync(warehouse_url, *pages, of=collection(columns=(*COLUMNS, TWICE)), full_refresh=True, run_id="replay")

    assert query(warehouse_url, "select updated_idx, deleted, twice, data from demo.thing") == [
        (2, True, "1", {"status": "active", "amount": 1})
    ]
    assert merges(warehouse_url, "replay") == [{"fetched": 2, "unchanged": 1, "duplicate": 1}]


def test_a_value_that_does_not_fit_its_new_column_stays_null_with_an_open_reject_that_names_the_row(warehouse_url: str) -> None:
    pages = [[record("fits", 1, data={"n": 7}), record("unfit", 1, data={"n": "seven"})]]
    sync(warehouse_url, *pages)
    of = collection(columns=(Column("n", parse_path("n"), "integer"),))

    outcome = sync(warehouse_url, *pages, of=of, run_id="second")
    again = sync(warehouse_url, *pages, [record("unfit", 2, data={"n": 8})], of=of, run_id="third")

    assert (outcome.open_rejects, again.open_rejects) == (1, 0)
    assert query(warehouse_url, "select record_id, class, version, resolved_at is null from sequin_pipeline.rejects") == [
        ("unfit", "refill", 1, False)
    ]
    assert query(warehouse_url, "select id, n from demo.thing order by id") == [("fits", 7), ("unfit", 8)]


def test_a_value_that_does_not_fit_waits_as_long_as_no_newer_version_comes(warehouse_url: str) -> None:
    pages = [[record("unfit", 1, data={"n": "seven"})]]
    sync(warehouse_url, *pages)
    of = collection(columns=(Column("n", parse_path("n"), "integer"),))

    for run_id in ("second", "third"):
        sync(warehouse_url, *pages, of=of, run_id=run_id)

    assert rejects(warehouse_url) == {"unfit": ("refill", None)}
    assert query(warehouse_url, "select id, n, data from demo.thing") == [("unfit", None, {"n": "seven"})]


def test_a_refill_that_broke_off_goes_on_behind_its_last_batch(warehouse_url: str) -> None:
    rows = REFILL_ROWS + 500
    sync(warehouse_url, [record(f"r{number:05}", 1) for number in range(rows)])
    of = collection(columns=(*COLUMNS, TWICE))
    execute(
        warehouse_url,
        "create function demo.break_off() returns trigger language plpgsql as $$ begin"
        f" if new.id = 'r{REFILL_ROWS + 100:05}' then raise exception 'disk full' using errcode = '53100'; end if; return new; end $$",
        "create trigger break_off before update on demo.thing for each row execute function demo.break_off()",
    )
    with pytest.raises(PipelineError, match="its disk is full"):
        sync(warehouse_url, of=of, run_id="broken")
    halfway = query(warehouse_url, "select count(twice) from demo.thing")
    place = query(warehouse_url, "select refilled_after, refilled_at from sequin_pipeline.columns where column_name = 'twice'")
    execute(warehouse_url, "drop trigger break_off on demo.thing")

    outcome = sync(warehouse_url, of=of, run_id="resumed")

    assert (halfway, place) == ([(REFILL_ROWS,)], [(f"r{REFILL_ROWS - 1:05}", None)])
    assert outcome.refilled == 500
    assert merges(warehouse_url, "resumed") == [{"fetched": 500, "updated": 500, "rewritten": 500}]
    assert query(warehouse_url, "select count(twice) from demo.thing") == [(rows,)]


def test_a_row_that_changes_while_its_column_is_filled_wins(warehouse_url: str) -> None:
    pages = [[record("a", 1), record("b", 1)]]
    sync(warehouse_url, *pages)
    wide = collection(columns=(*COLUMNS, TWICE))
    execute(warehouse_url, "alter table demo.thing add column twice text")
    with OpenBatch(warehouse_url, wide, record("a", 2)) as newer, ThreadPoolExecutor(1) as threads:
        newer.write().result()
        running = threads.submit(sync, warehouse_url, *pages, of=wide, run_id="refill")
        wait_for_activity(warehouse_url, "pid <> %s and wait_event = 'transactionid'", [newer.pid])
        newer.commit()
        outcome = running.result()

    assert query(warehouse_url, "select id, updated_idx, twice from demo.thing order by id") == [("a", 2, "2"), ("b", 1, "1")]
    assert merges(warehouse_url, "refill") == [{"fetched": 2, "updated": 1, "unchanged": 1, "rewritten": 1}]
    assert outcome.refilled == 1


def test_a_type_that_differs_is_refused_with_the_alter_and_the_views_and_nothing_changes(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a")])
    execute(warehouse_url, "create view demo.sums as select sum(amount) from demo.thing")
    before = everything(warehouse_url)
    of = collection(columns=(COLUMNS[0], replace(COLUMNS[1], type="text"), TWICE))

    with pytest.raises(TableRefused) as caught:
        sync(warehouse_url, [record("a")], [record("b")], of=of)

    assert str(caught.value) == (
        "column 'amount' of table 'demo.thing' is of type 'bigint', and 'demo/thing' declares 'text': declare the type that is there, or "
        'run `alter table "demo"."thing" alter column "amount" type text using "amount"::text`; drop and create again what depends on it: '
        "demo.sums"
    )
    assert everything(warehouse_url) == before


@pytest.mark.parametrize(
    ("definition", "adopt", "message"),
    [
        pytest.param("(id text primary key)", False, "exists already, and this pipeline did not create it", id="not ours"),
        pytest.param("(name text)", True, "has no column 'id', which is its key", id="other shape"),
        pytest.param(
            "(id text)",
            True,
            r'no primary key or unique constraint on \(id\).*alter table "demo"."thing" add primary key \("id"\)',
            id="no key",
        ),
        pytest.param("(id text, b int, unique (id, b))", True, "no primary key or unique constraint", id="key of another table"),
        pytest.param("(id text unique deferrable)", True, "no primary key or unique constraint", id="deferrable key"),
        pytest.param(
            "(id uuid primary key)", True, "column 'id' of table 'demo.thing' is of type 'uuid'", id="key of another type"
        ),
        pytest.param(
            "(id text primary key, updated_idx integer)",
            True,
            "column 'updated_idx' of table 'demo.thing' is of type 'integer'",
            id="narrow",
        ),
        pytest.param("(id text primary key, status varchar(3))", True, "is of type 'character varying\\(3\\)'", id="cuts"),
    ],
)
def test_a_table_that_cannot_hold_the_records_is_refused_before_the_first_request(
    warehouse_url: str,
    definition: str,
    adopt: bool,  # noqa: FBT001 - a case
    message: str,
) -> None:
    execute(warehouse_url, "create schema demo", f"create table demo.thing {definition}")
    source = ListSource([[record("a")]])

    with pytest.raises(TableRefused, match=message):
        run_sync(RecordStream(live_run_config(collection(), adopt=adopt), source), Warehouse(warehouse_url), run_id="run")

    assert source.requests == []
    assert query(warehouse_url, "select * from demo.thing") == []
    assert query(warehouse_url, "select * from sequin_pipeline.tables") == []


def test_a_view_is_no_table(warehouse_url: str) -> None:
    execute(warehouse_url, "create schema demo", "create view demo.thing as select 'a'::text as id")

    with pytest.raises(TableRefused, match="is a view: name the table behind it"):
        sync(warehouse_url, [record("a")], adopt=True)


def test_an_adopted_table_keeps_its_rows_and_columns_and_gets_what_is_missing(warehouse_url: str) -> None:
    execute(
        warehouse_url,
        "create schema demo",
        "create table demo.thing (id text primary key, upstream_id text, sync_id text, updated_idx bigint, deleted boolean, own text,"
        " data jsonb)",
        "insert into demo.thing values ('old', 'u1', 's1', 1, false, 'kept', '{\"status\": \"s\"}')",
        "insert into demo.thing values ('new', 'u2', 's1', 1, false, 'kept', null)",
    )

    sync(warehouse_url, [record("new", 2), record("newer", 1)], adopt=True)

    assert query(warehouse_url, "select id, updated_idx, own, status from demo.thing order by id") == [
        ("new", 2, "kept", "active"),
        ("newer", 1, None, "active"),
        ("old", 1, "kept", "s"),
    ]
    assert row_count(warehouse_url) == 3


def test_a_table_that_vanished_while_the_ledger_knows_it_is_refused_and_filled_anew_only_when_told(warehouse_url: str) -> None:
    pages = [[record("a"), record("b")]]
    sync(warehouse_url, *pages)
    execute(warehouse_url, "drop table demo.thing")
    before = everything(warehouse_url)

    with pytest.raises(LedgerRefused, match=r"is gone, while the ledger says that it has 2 rows.*--full-refresh"):
        sync(warehouse_url, *pages)
    unchanged = everything(warehouse_url) == before
    sync(warehouse_url, *pages, full_refresh=True)

    assert unchanged
    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("b", 1, False)]
    assert row_count(warehouse_url) == 2


def test_rows_of_another_source_are_refused_naming_both_and_taken_over_from_the_beginning_when_told(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 5)], [record("b", 5)])
    before = everything(warehouse_url)
    other = SourceIdentity("list", "http://other", "west")

    with pytest.raises(
        LedgerRefused, match="has been filled from list http://demo, and this run would read list http://other stream 'west'"
    ):
        sync(warehouse_url, source=ListSource([[record("a", 6)]], identity=other))
    unchanged = everything(warehouse_url) == before
    sync(warehouse_url, source=ListSource([[record("a", 6)]], identity=other), adopt=True)

    assert unchanged
    assert ids_and_versions(warehouse_url) == [("a", 6, False), ("b", 5, False)]
    assert query(warehouse_url, "select cursor from sequin_pipeline.cursors") == [("1",)]
    assert row_count(warehouse_url) == 2


def test_a_ledger_of_a_newer_version_is_refused(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a")])
    execute(warehouse_url, "update sequin_pipeline.ledger set version = 1000")
    before = everything(warehouse_url)

    with pytest.raises(
        LedgerRefused, match="the ledger in schema 'sequin_pipeline' is of version 1000, and this pipeline knows versions up to "
    ):
        sync(warehouse_url, [record("a")], [record("b")])

    assert everything(warehouse_url) == before


def test_a_schema_of_the_ledgers_name_that_is_no_ledger_is_refused_whole(empty_url: str) -> None:
    execute(empty_url, "create schema sequin_pipeline", "create table sequin_pipeline.cursors (mine text)")
    before = everything(empty_url)

    with pytest.raises(TableRefused, match='relation "cursors" already exists'):
        sync(empty_url, [record("a")])

    assert everything(empty_url) == before


@pytest.mark.parametrize("round_number", range(3))
def test_six_runs_that_start_at_once_on_an_empty_database_create_everything_once(empty_url: str, round_number: int) -> None:
    names = [f"thing{number % 3}" for number in range(6)]

    def work(name: str) -> str:
        of = collection(name=name, table=f"demo.{name}")
        pages = [[record("a", collection_id=of.id), record("b", collection_id=of.id)]]
        try:
            sync(empty_url, *pages, of=of, run_id=f"{name} {id(pages)}")
        except RunFenced:
            return "fenced"
        return "landed"

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(work, names))

    assert results.count("landed") >= 3
    for name in set(names):
        assert row_count(empty_url, f"demo.{name}") == 2
        assert query(empty_url, "select count(*) from sequin_pipeline.columns where table_name = %s", f"demo.{name}") == [(2,)]
        assert query(empty_url, "select cursor from sequin_pipeline.cursors where table_name = %s", f"demo.{name}") == [("1",)]


def test_a_role_without_rights_is_told_which_one_it_lacks(empty_url: str) -> None:
    execute(empty_url, "create role powerless login")
    url = empty_url.replace("//postgres@", "//powerless@")

    try:
        with pytest.raises(TableRefused) as caught:
            sync(url, [record("a")])
    finally:
        execute(empty_url, "drop role powerless")

    database = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    assert str(caught.value) == (
        f"while preparing table 'demo.thing' of 'demo/thing', Postgres said 'permission denied for database {database}' "
        "(SQLSTATE 42501): grant the right that it names to this role."
    )


def test_a_role_that_may_not_write_the_table_is_refused_before_the_first_request(empty_url: str) -> None:
    sync(empty_url, [record("a")])
    execute(
        empty_url,
        "create role reader login",
        "grant usage on schema demo, sequin_pipeline to reader",
        "grant all on all tables in schema sequin_pipeline to reader",
        "grant select on demo.thing to reader",
    )
    url = empty_url.replace("//postgres@", "//reader@")

    try:
        with pytest.raises(
            TableRefused,
            match=r"role 'reader' lacks the right to insert, update on table 'demo.thing' of 'demo/thing': run `grant insert on",
        ):
            sync(url, [record("a")], [record("b")])
    finally:
        execute(empty_url, "drop owned by reader", "drop role reader")

    assert ids_and_versions(empty_url) == [("a", 1, False)]


def test_switching_to_remove_sweeps_the_marked_rows_and_remembers_them(empty_url: str) -> None:
    marked = [record("a", 1), record("b", 2, deleted=True), record("c", 3, deleted=True, data=None)]
    sync(empty_url, marked)

    outcome = sync(empty_url, marked, [record("b", 1), record("c", 4)], of=collection(on_delete="remove"), run_id="second")

    assert outcome.swept == 2
    assert ids_and_versions(empty_url) == [("a", 1, False), ("c", 4, False)]
    assert merges(empty_url, "second") == [{"fetched": 2, "inserted": 1, "stale": 1, "created": 1}]
    assert outcome.rows == row_count(empty_url) == 2


def test_switching_back_to_mark_changes_only_what_comes(empty_url: str) -> None:
    removing = collection(on_delete="remove")
    pages = [[record("a", 1), record("b", 2)], [record("a", 3, deleted=True)], [record("b", 4, deleted=True)]]
    sync(empty_url, *pages[:2], of=removing)
    before = ids_and_versions(empty_url)

    outcome = sync(empty_url, *pages, run_id="second")

    assert before == [("b", 2, False)]
    assert ids_and_versions(empty_url) == [("b", 4, True)]
    assert (outcome.swept, outcome.rows) == (0, 1)


def test_a_column_declared_no_longer_stays_with_its_values_and_is_filled_when_it_comes_back(empty_url: str) -> None:
    wide, narrow = collection(columns=(*COLUMNS, TWICE)), collection()
    pages = [[record("a", 1)], [record("b", 2)]]
    sync(empty_url, *pages[:1], of=wide)
    sync(empty_url, *pages, of=narrow)
    between = query(empty_url, "select id, twice from demo.thing order by id")

    sync(empty_url, *pages, of=wide)

    assert between == [("a", "1"), ("b", None)]
    assert query(empty_url, "select id, twice from demo.thing order by id") == [("a", "1"), ("b", "2")]


def test_a_column_that_somebody_dropped_is_added_and_filled_again(empty_url: str) -> None:
    """Also where the object came as jsonb writes it, so that the hash of what is read back equals the stored one."""
    pages = [record("a", 1), record("b", 2, data={"amount": 2, "status": "x"}), record("c", 3, deleted=True, data=None)]
    sync(empty_url, pages, run_id="first")
    execute(empty_url, "alter table demo.thing drop column amount")

    sync(empty_url, pages, run_id="second")

    assert query(empty_url, "select id, amount from demo.thing order by id") == [("a", 1), ("b", 2), ("c", None)]
