"""A good guest: what hangs on the table goes on working, and its parents are waited for."""

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import LedgerRefused
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import SourceIdentity
from tests.support.builders import COLUMNS, ListSource, live_run_config, record
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, query, rejects
from tests.table.unmanaged.tables import MAPPING, SUBSCRIPTION, deliver, unmanaged

FIRST, SECOND = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"

DEFINITION = """
    select 'column', attname::text, format_type(atttypid, atttypmod), attnotnull::text, attacl::text, col_description(attrelid, attnum)
    from pg_attribute where attrelid = 'app."Subscription"'::regclass and attnum > 0
    union all select 'table', relname::text, relacl::text, relowner::regrole::text, reloptions::text, obj_description(oid)
    from pg_class where oid = 'app."Subscription"'::regclass
    union all select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), null, null, null
    from pg_index where indrelid = 'app."Subscription"'::regclass
    union all select 'constraint', conname::text, pg_get_constraintdef(oid), null, null, null
    from pg_constraint where conrelid = 'app."Subscription"'::regclass
    union all select 'trigger', tgname::text, pg_get_triggerdef(oid), null, null, null
    from pg_trigger where tgrelid = 'app."Subscription"'::regclass
    union all select 'view', oid::regclass::text, pg_get_viewdef(oid), null, null, null from pg_class where relname = 'live'
    order by 1, 2"""


def test_triggers_fire_and_comments_grants_and_views_stay(app_url: str) -> None:
    execute(
        app_url,
        SUBSCRIPTION,
        "create table app.seen (what text, id text)",
        "create function app.note() returns trigger language plpgsql as $$ begin"
        ' insert into app.seen values (tg_op, new."recordId"); return new; end $$',
        'create trigger note after insert or update on app."Subscription" for each row execute function app.note()',
        """comment on table app."Subscription" is 'the application''s own'""",
        """comment on column app."Subscription".plan is 'free or gold'""",
        'grant select (plan) on app."Subscription" to public',
        'create view app.live as select "recordId" from app."Subscription" where not "isDeleted"',
    )
    before = query(app_url, DEFINITION)

    deliver(
        app_url, unmanaged(MAPPING), [record("a", 1), record("b", 1)], [record("b", 2, deleted=True, data=None)], batch_records=1
    )

    assert query(app_url, DEFINITION) == before
    assert query(app_url, "select * from app.live") == [("a",)]
    assert query(app_url, "select * from app.seen order by 1, 2") == [("INSERT", "a"), ("INSERT", "b"), ("UPDATE", "b")]


def test_a_row_whose_parent_is_missing_is_tried_again_by_later_runs(app_url: str) -> None:
    execute(
        app_url,
        "create table app.customer (id text primary key)",
        "create table app.orders (id uuid primary key, idx bigint, gone boolean, status text references app.customer, amount bigint)",
    )
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.orders")
    deliver(app_url, of, [record(FIRST, 1, data={"status": "c1", "amount": 1}), record(SECOND, 1, data={"status": None})])
    waiting = rejects(app_url)
    execute(app_url, "insert into app.customer values ('c1')")
    # A run that changes no row tries what was last tried an hour ago.
    execute(app_url, "update sequin_pipeline.rejects set last_seen_at = last_seen_at - interval '1 hour'")

    deliver(app_url, of)

    assert waiting == {FIRST: ("parent", "23503")}
    assert rejects(app_url) == {}
    assert query(app_url, "select id::text, status from app.orders order by id") == [(FIRST, "c1"), (SECOND, None)]


def test_two_rows_that_a_second_unique_index_keeps_apart_cost_one_of_them(app_url: str) -> None:
    execute(app_url, "create table app.unique (id text primary key, idx bigint, gone boolean, status text unique, amount bigint)")
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.unique")

    deliver(app_url, of, [record("a", 1), record("b", 2), record("c", 3, data={"status": "other"})])

    assert query(app_url, "select id from app.unique order by id") == [("a",), ("c",)]
    assert rejects(app_url) == {"b": ("conflict", "23505")}


def test_a_check_over_a_column_of_the_applications_own_looks_at_the_row_that_is_there(app_url: str) -> None:
    """An upsert would check the row that it proposes, in which `plan` has its default."""
    execute(
        app_url,
        "create table app.checked (id text primary key, idx bigint, gone boolean, status text, amount bigint,"
        " plan text not null default 'free', check (plan = 'gold' or amount < 10))",
    )
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.checked")
    deliver(app_url, of, [record("a", 1), record("b", 2)])
    execute(app_url, "update app.checked set plan = 'gold' where id = 'a'")

    deliver(app_url, of, [record("a", 20), record("b", 20)])

    assert query(app_url, "select id, amount, plan from app.checked order by id") == [("a", 20, "gold"), ("b", 2, "free")]
    assert rejects(app_url) == {"b": ("postgres", "23514")}


def test_enums_arrays_domains_and_json_take_what_is_theirs(app_url: str) -> None:
    execute(
        app_url,
        "create type app.\"Mood\" as enum ('good', 'bad')",
        "create domain app.short as varchar(4) check (value <> 'evil')",
        'create table app.typed (id text primary key, idx bigint, gone boolean, mood app."Mood", moods app."Mood"[], tags text[],'
        " short app.short, doc json, object jsonb)",
    )
    columns = (
        Column("mood", parse_path("mood"), "text"),
        Column("moods", parse_path("moods"), "text[]"),
        Column("tags", parse_path("tags"), "text[]"),
        Column("short", parse_path("short"), "text"),
        Column("doc", parse_path("doc"), "jsonb"),
    )
    mapping = {"id": "id", "updated_idx": "idx", "deleted": "gone", "data": "object"}
    of = unmanaged(mapping, table="app.typed", columns=columns)
    good: dict[str, object] = {
        "mood": "good",
        "moods": ["bad", None],
        "tags": ['a"b', "{}"],
        "short": "four",
        "doc": {"b": 1, "a": [1.50]},
    }
    unfit: dict[str, dict[str, object]] = {
        "mood": {"mood": "sad"},
        "moods": {"moods": ["sad"]},
        "long": {"short": "fives"},
        "domain": {"short": "evil"},
    }
    records = [record("good", 1, data=good), *(record(name, 1, data=good | change) for name, change in unfit.items())]

    deliver(app_url, of, records)
    again = deliver(app_url, of, records[:1])

    assert query(app_url, "select id, mood::text, moods::text, tags, short, doc::text, object from app.typed") == [
        ("good", "good", "{bad,NULL}", ['a"b', "{}"], "four", '{"a": [1.5], "b": 1}', {**good, "doc": {"b": 1, "a": [1.5]}})
    ]
    assert rejects(app_url) == {
        "mood": ("postgres", "22P02"),
        "moods": ("postgres", "22P02"),
        "long": ("value", None),
        "domain": ("postgres", "23514"),
    }
    assert again.counts == Counts(fetched=1, unchanged=1)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("""update app."Subscription" set "Status" = 'theirs', "updatedIdx" = 3""", ("theirs", 3, False)),
        ("""update app."Subscription" set plan = 'gold'""", ("active", 2, True)),
    ],
    ids=["to a newer version", "in a column of its own"],
)
def test_a_row_that_the_application_changed_while_we_waited_for_it_is_looked_at_again(
    app_url: str, statement: str, expected: tuple[object, ...]
) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING), [record("a", 1)])
    with psycopg.connect(app_url) as application, OpenBatch(app_url, unmanaged(MAPPING), record("a", 2)) as batch:
        application.execute(statement)

        waiting = batch.write()
        wait_until_blocked(app_url, [batch.pid])
        application.commit()
        counts = waiting.result()
        batch.commit()

    [(status, version)] = query(app_url, """select "Status", "updatedIdx" from app."Subscription" """)
    assert (status, version, counts.updated == 1) == expected
    assert counts.updated + counts.stale == 1


def test_a_row_that_the_application_inserts_while_we_do_is_outranked_by_the_greater_version(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    deliver(app_url, unmanaged(MAPPING))
    insert = """insert into app."Subscription" values (%s, 'up', %s, false, 'theirs')"""
    records = (record("newer", 2), record("older", 2))
    with psycopg.connect(app_url) as application, OpenBatch(app_url, unmanaged(MAPPING), *records) as batch:
        application.execute(insert, ("newer", 3))
        application.execute(insert, ("older", 1))

        waiting = batch.write()
        wait_until_blocked(app_url, [batch.pid])
        application.commit()
        counts = waiting.result()
        batch.commit()

    rows = query(app_url, """select "recordId", "updatedIdx", "Status" from app."Subscription" order by 1""")
    assert rows == [("newer", 3, "theirs"), ("older", 2, "active")]
    assert (counts.updated, counts.stale, counts.created) == (1, 1, 0)


def test_windows_are_told_apart_where_the_table_has_no_column_for_their_time(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    records = [
        record("a", 1, inserted_at="2024-01-10T00:00:00Z"),
        record("b", 1, inserted_at="2024-03-10T00:00:00Z"),
        record("c", 1, inserted_at="2024-01-11T00:00:00Z"),
    ]

    outcome = deliver(app_url, unmanaged(MAPPING, columns=COLUMNS), records)

    assert {window: counts.inserted for window, counts in outcome.counts_by_window.items()} == {"2024-01": 2, "2024-03": 1}


def test_a_table_that_was_filled_from_elsewhere_is_refused_until_it_is_adopted(app_url: str) -> None:
    execute(app_url, SUBSCRIPTION)
    of = unmanaged(MAPPING)
    deliver(app_url, of, [record("a", 1)])
    elsewhere = ListSource([[record("b", 1)]], identity=SourceIdentity("list", "http://elsewhere"))

    with pytest.raises(LedgerRefused, match="has been filled from"):
        run_sync(RecordStream(live_run_config(of), elsewhere), Warehouse(app_url), run_id="refused")
    run_sync(RecordStream(live_run_config(of, adopt=True), elsewhere), Warehouse(app_url), run_id="adopted")

    assert query(app_url, 'select "recordId" from app."Subscription" order by 1') == [("a",), ("b",)]
