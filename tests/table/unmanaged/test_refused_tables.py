"""What cannot work is refused before the first row, with the column and its fix, and nothing is written."""

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import TableRefused
from tests.support.builders import record
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import deliver, unmanaged

MAPPING = {"id": "id", "updated_idx": "idx", "deleted": "gone"}
COLUMNS = (Column("status", parse_path("status"), "text"), Column("at", parse_path("at"), "timestamptz"))
SOUND = {"id": "text primary key", "idx": "bigint", "gone": "boolean", "status": "text", "at": "timestamptz"}

REFUSED = {
    "versions of 32 bits": (
        {"idx": "integer"},
        "has column 'idx' of type 'integer', in which 'updated_idx' of type 'bigint' cannot be kept: versions exceed 32 bits, so "
        '`alter table "app"."plain" alter column "idx" type bigint using "idx"::bigint`, or leave it out of the mapping',
    ),
    "no such column": (
        {"status": None, "Status": "text"},
        "has no column 'status', to which 'status' is mapped: its columns are 'id', 'idx', 'gone', 'at', 'Status' "
        "(upper and lower case count)",
    ),
    "no key": (
        {"id": "text"},
        "has no primary key or unique index on exactly (id), by which versions of a record replace each other "
        "(a deferrable, partial or invalid one does not serve): add one, or name with `key` the columns that have one",
    ),
    "deferrable key": (
        {"id": "text primary key deferrable"},
        "has no primary key or unique index on exactly (id), by which versions of a record replace each other "
        "(a deferrable, partial or invalid one does not serve): add one, or name with `key` the columns that have one",
    ),
    "another type": (
        {"status": "integer"},
        "has column 'status' of type 'integer', in which 'status' of type 'text' cannot be kept: declare it as 'integer', or map it to a "
        "column of type text, character varying",
    ),
    "padded text": (
        {"status": "char(10)"},
        "has column 'status' of type 'character(10)', in which 'status' of type 'text' cannot be kept: map it to a column of type text, "
        "character varying",
    ),
    "time of day": (
        {"at": "time"},
        "has column 'at' of type 'time without time zone', in which 'at' of type 'timestamptz' cannot be kept: map it to a column of type "
        "timestamp with time zone, timestamp without time zone",
    ),
    "tombstone that is a time": (
        {"gone": "timestamptz"},
        "has column 'gone' of type 'timestamp with time zone', in which 'deleted' of type 'boolean' cannot be kept: map it to a column of "
        "type boolean",
    ),
    "required and not mapped": (
        {"tenant": "text not null"},
        "requires a value in column 'tenant', and nothing is mapped to it: map one of upstream_id, internal_id, sync_id, "
        "record_inserted_at, upstream_created_at, upstream_updated_at, data, inserted_at, updated_at or a declared column to it, give it "
        "a default, or drop its NOT NULL",
    ),
    "required by its domain": (
        {"tenant": "app.required"},
        "requires a value in column 'tenant', and nothing is mapped to it: map one of upstream_id, internal_id, sync_id, "
        "record_inserted_at, upstream_created_at, upstream_updated_at, data, inserted_at, updated_at or a declared column to it, give it "
        "a default, or drop its NOT NULL",
    ),
    "generated": (
        {"status": "text generated always as ('x') stored"},
        "has column 'status', which Postgres fills by itself, and 'status' is mapped to it: take it out of the mapping",
    ),
    "identity": (
        {"idx": "bigint generated always as identity"},
        "has column 'idx', which Postgres fills by itself, and 'updated_idx' is mapped to it: take it out of the mapping",
    ),
}


def create(url: str, changes: dict[str, str | None]) -> None:
    columns = {name: kind for name, kind in {**SOUND, **changes}.items() if kind}
    execute(
        url,
        "create domain app.required as text not null",
        "create table app.plain (" + ", ".join(f'"{name}" {kind}' for name, kind in columns.items()) + ")",
    )


@pytest.mark.parametrize(("changes", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_table_that_cannot_work_is_refused_with_column_and_fix(
    app_url: str, changes: dict[str, str | None], sentence: str
) -> None:
    create(app_url, changes)
    of = unmanaged(MAPPING, table="app.plain", columns=COLUMNS)

    with pytest.raises(TableRefused) as refusal:
        deliver(app_url, of, [record("a", 1)])

    assert str(refusal.value) == f"table 'app.plain' of 'demo/thing' {sentence}"
    assert query(app_url, "select * from app.plain") == []
    assert query(app_url, "select * from sequin_pipeline.tables") == []


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("primary key", "has no primary key or unique index on exactly"),
        ("", "has key column 'id' with a collation that takes different texts for equal"),
    ],
    ids=["in its index", "in its column"],
)
def test_a_key_whose_collation_takes_different_texts_for_equal_is_refused(app_url: str, key: str, sentence: str) -> None:
    try:
        execute(app_url, "create collation app.folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this Postgres is built without ICU, and has no such collations")
    execute(
        app_url,
        f"create table app.plain (id text collate app.folding {key}, idx bigint, gone boolean)",
        'create unique index on app.plain (id collate "C")' if not key else "select",
    )
    of = unmanaged(MAPPING, table="app.plain", columns=())

    with pytest.raises(TableRefused, match=sentence):
        deliver(app_url, of, [record("a", 1)])


SHAPES = {
    "missing": ([], "does not exist, and `managed: false` says that an application creates it"),
    "view": (["create table app.t (id text primary key)", "create view app.plain as select * from app.t"], "is a view"),
    "materialized view": (["create materialized view app.plain as select 1 as id"], "is a materialized view"),
    "inherited from": (
        ["create table app.plain (id text primary key)", "create table app.child () inherits (app.plain)"],
        "has tables that inherit from it",
    ),
    "rules": (
        ["create table app.plain (id text primary key)", "create rule quiet as on update to app.plain do instead nothing"],
        "has rules for inserts, updates or deletes",
    ),
}


@pytest.mark.parametrize(("statements", "sentence"), SHAPES.values(), ids=SHAPES.keys())
def test_what_is_no_plain_table_is_refused(app_url: str, statements: list[str], sentence: str) -> None:
    execute(app_url, *statements)
    of = unmanaged({"id": "id"}, table="app.plain", columns=(), on_delete="remove")

    with pytest.raises(TableRefused, match=f"table 'app.plain' of 'demo/thing' {sentence}"):
        deliver(app_url, of, [record("a", 1)])


@pytest.fixture
def guest_url(app_url: str) -> str:
    """As a role that may do no more than it was given, and that makes the ledger."""
    execute(
        app_url,
        "drop schema sequin_pipeline cascade",
        "create table app.plain (id text primary key, idx bigint, gone boolean)",
        "do $$ begin execute format('grant create, temporary on database %I to guest', current_database()); end $$",
    )
    return psycopg.conninfo.make_conninfo(app_url, user="guest")


@pytest.fixture(autouse=True)
def guest(warehouse_url: str) -> None:
    """Roles are the server's, so that the first test makes it for all."""
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        if connection.execute("select from pg_roles where rolname = 'guest'").fetchone() is None:
            connection.execute("create role guest login")


def test_a_right_that_is_lacking_is_named_with_the_grant(app_url: str, guest_url: str) -> None:
    of = unmanaged(MAPPING, table="app.plain", columns=())
    execute(app_url, "grant select on app.plain to guest")

    with pytest.raises(TableRefused) as refusal:
        deliver(guest_url, of, [record("a", 1)])

    assert str(refusal.value) == (
        "role 'guest' lacks the right to insert, update, usage on table 'app.plain' of 'demo/thing': run "
        '`grant insert on "app"."plain" to "guest"; grant update on "app"."plain" to "guest"; grant usage on schema "app" to "guest"`'
    )


def test_the_rights_that_it_names_are_enough(app_url: str, guest_url: str) -> None:
    of = unmanaged(MAPPING, table="app.plain", columns=())
    execute(app_url, "grant usage on schema app to guest", "grant select, insert, update on app.plain to guest")

    deliver(guest_url, of, [record("a", 1)], [record("a", 2, deleted=True, data=None)], batch_records=1)

    assert query(app_url, "select * from app.plain") == [("a", 2, True)]


def test_a_policy_that_hides_rows_from_us_is_refused(app_url: str, guest_url: str) -> None:
    of = unmanaged(MAPPING, table="app.plain", columns=())
    execute(
        app_url,
        "grant usage on schema app to guest",
        "grant select, insert, update on app.plain to guest",
        "alter table app.plain enable row level security",
        "create policy own on app.plain using (id like 'own%')",
    )

    with pytest.raises(TableRefused, match="has row-level security that applies to role 'guest'"):
        deliver(guest_url, of, [record("a", 1)])

    assert query(app_url, "select * from app.plain") == []


def test_a_policy_that_does_not_apply_to_us_is_left_as_it_is(app_url: str, guest_url: str) -> None:
    assert guest_url
    of = unmanaged(MAPPING, table="app.plain", columns=())
    execute(app_url, "alter table app.plain enable row level security", "create policy own on app.plain using (id like 'own%')")

    deliver(app_url, of, [record("a", 1)])

    assert query(app_url, "select id from app.plain") == [("a",)]
    assert query(app_url, "select polname::text from pg_policy") == [("own",)]
