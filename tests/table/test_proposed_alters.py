"""Every ALTER that a message proposes runs as it is printed, on a table with rows, and what stood in the way is gone after it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sequin_pipeline.catalog import Column, ColumnType, DataType, TableName, parse_path
from sequin_pipeline.errors import PipelineError, TableRefused
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.postgres.session_limits import limits_in_force
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import Page, ReadRequest
from sequin_pipeline.table.conversions import change_type
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.table.unmanaged.tables import deliver, unmanaged

TYPES: tuple[ColumnType, ...] = (
    "integer",
    "bigint",
    "numeric",
    "double precision",
    "boolean",
    "timestamptz",
    "date",
    "jsonb",
    "text",
)


def proposed(error: PipelineError) -> str:
    """The first ALTER in the message, without its quotes."""
    found = re.search(r"`(alter [^`]*)`", str(error))
    assert found is not None, str(error)
    return found[1]


CONVERSIONS = [
    ("text", "'12'", "integer", "12"),
    ("text", "'12'", "bigint", "12"),
    ("text", "'0.10'", "numeric", "0.10"),
    ("text", "'1.5'", "double precision", "1.5"),
    ("text", "'true'", "boolean", "true"),
    ("text", "'2024-02-29'", "date", "2024-02-29"),
    ("text", "'2024-02-29T01:00:00Z'", "timestamptz", "2024-02-29 01:00:00+00"),
    ("text", "'0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11'", "uuid", "0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11"),
    ("text", "'one'", "text[]", "{one}"),
    ("text", "'{\"a\": 1}'", "jsonb", '{"a": 1}'),
    ("varchar(9)", "'seven'", "text", "seven"),
    ("integer", "7", "bigint", "7"),
    ("bigint", "7", "integer", "7"),
    ("bigint", "7", "text", "7"),
    ("bigint", "7", "numeric", "7"),
    ("bigint", "1", "boolean", "true"),
    ("bigint", "1700000000", "timestamptz", "2023-11-14 22:13:20+00"),
    ("bigint", "1700000000", "date", "2023-11-14"),
    ("bigint", "7", "jsonb", "7"),
    ("numeric", "7.0", "bigint", "7"),
    ("numeric(12,2)", "7.10", "numeric", "7.10"),
    ("double precision", "7", "integer", "7"),
    ("boolean", "true", "bigint", "1"),
    ("boolean", "true", "numeric", "1"),
    ("boolean", "true", "text", "true"),
    ("date", "'2024-02-29'", "timestamptz", "2024-02-29 00:00:00+00"),
    ("date", "'2024-02-29'", "text", "2024-02-29"),
    ("timestamp", "'2024-02-29 01:00'", "timestamptz", "2024-02-29 01:00:00+00"),
    ("timestamp", "'2024-02-29 01:00'", "date", "2024-02-29"),
    ("timestamptz", "'2024-02-29 23:30:00-05'", "date", "2024-03-01"),
    ("timestamptz", "'2023-11-14 22:13:20+00'", "bigint", "1700000000"),
    ("timestamptz", "'2023-11-14 22:13:20.5+00'", "numeric", "1700000000.500000"),
    ("uuid", "'0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11'", "text", "0b8e7b3c-7d8f-4f0e-9f6c-0d9a2f0f1c11"),
    ("text[]", "'{a,b}'", "jsonb", '["a", "b"]'),
    ("varchar(9)[]", "'{a,b}'", "text[]", "{a,b}"),
    ("jsonb", "'\"seven\"'", "text", "seven"),
    ("jsonb", "'7'", "bigint", "7"),
    ("jsonb", "'true'", "boolean", "true"),
    ("jsonb", '\'["a", "b c"]\'', "text[]", '{a,"b c"}'),
    ("json", "'{\"a\":1}'", "jsonb", '{"a": 1}'),
    ("jsonb", '\'{"b":1,"a":"x"}\'', "json", '{"a": "x", "b": 1}'),
    ("text", "'{\"b\" :1}'", "json", '{"b" :1}'),
    ("bigint", "7", "json", "7"),
]


@pytest.mark.parametrize(
    ("found", "value", "wanted", "expected"), [pytest.param(*row, id=f"{row[0]} to {row[2]}") for row in CONVERSIONS]
)
def test_a_column_is_turned_into_the_declared_type_with_its_values_and_nulls(
    found: str, value: str, wanted: str, expected: str, warehouse_url: str
) -> None:
    execute(
        warehouse_url,
        'create schema "Odd Name"',
        f'create table "Odd Name"."T" (id int primary key, "C" {found} default {value})',
        f'insert into "Odd Name"."T" values (1, {value}), (2, null)',
    )
    shown = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = '\"Odd Name\".\"T\"'::regclass and attname = 'C'"
    ((was,),) = query(warehouse_url, shown)

    execute(warehouse_url, change_type(TableName("Odd Name", "T"), "C", str(was), wanted, has_default=True).as_string())

    spelled = {"timestamptz": "timestamp with time zone"}.get(wanted, wanted)
    assert query(warehouse_url, shown) == [(spelled,)]
    with psycopg.connect(warehouse_url, options="-c timezone=UTC") as connection:
        if connection.info.server_version < 140000 and (found, wanted) == ("timestamptz", "numeric"):
            expected = "1700000000.5"  # extract() gives numeric from 14 on
        assert connection.execute('select "C"::text from "Odd Name"."T" order by id').fetchall() == [(expected,), (None,)]


@pytest.mark.parametrize(
    "found",
    ["smallint", "numeric", "real", "boolean", "date", "timestamp", "timestamptz", "text", "jsonb", "uuid", "text[]", "inet"],
)
def test_whatever_the_two_types_are_the_statement_is_one_that_postgres_understands(found: str, warehouse_url: str) -> None:
    """Whether the values can be turned is theirs to say; an empty table has none that could not."""
    for wanted in TYPES:
        execute(warehouse_url, "drop table if exists public.t", f"create table public.t (c {found})")
        ((shown,),) = query(
            warehouse_url,
            "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 't'::regclass and attname = 'c'",
        )

        execute(warehouse_url, change_type(TableName("public", "t"), "c", str(shown), wanted).as_string())


@pytest.mark.parametrize(
    ("found", "value", "wanted"),
    [
        ("numeric", "1.5", "bigint"),
        ("double precision", "0.5", "integer"),
        ("bigint", "3000000000", "integer"),
        ("text", "'x'", "bigint"),
    ],
)
def test_a_value_that_would_be_rounded_or_cut_ends_the_statement_and_leaves_the_column(
    found: str, value: str, wanted: ColumnType, warehouse_url: str
) -> None:
    execute(warehouse_url, f"create table public.t (c {found})", f"insert into t values ({value})")

    with pytest.raises(psycopg.DataError):
        execute(warehouse_url, change_type(TableName("public", "t"), "c", found, wanted).as_string())

    assert query(warehouse_url, "select pg_typeof(c)::text from t") == [(found,)]


def declared(kind: ColumnType) -> Column:
    return Column("amount", parse_path("amount"), kind)


@pytest.mark.parametrize(
    ("before", "value", "after", "stored"),
    [
        pytest.param("text", "12", "bigint", "12", id="text to bigint"),
        pytest.param("bigint", 12, "text", "12", id="bigint to text"),
        pytest.param("jsonb", ["a"], "text[]", "{a}", id="jsonb to text[]"),
        pytest.param("text", "2024-02-29T01:00:00Z", "timestamptz", "2024-02-29 01:00:00+00", id="text to timestamptz"),
    ],
)
def test_a_type_that_was_declared_anew_is_taken_after_the_alter_that_the_run_proposed(
    before: ColumnType, value: object, after: ColumnType, stored: str, warehouse_url: str
) -> None:
    records = [record("a", 1, data={"amount": value}), record("b", 2, data={})]
    sync(warehouse_url, records, of=collection(columns=(declared(before),)))
    of = collection(columns=(declared(after),))
    with pytest.raises(TableRefused) as refusal:
        sync(warehouse_url, records, of=of)

    execute(warehouse_url, proposed(refusal.value))
    outcome = sync(warehouse_url, records, of=of, full_refresh=True)

    assert outcome.counts.rejected == 0
    with psycopg.connect(warehouse_url, options="-c timezone=UTC") as connection:
        assert connection.execute("select id, amount::text from demo.thing order by id").fetchall() == [
            ("a", stored),
            ("b", None),
        ]


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param("(id text, status text)", id="no key"),
        pytest.param("(id text primary key, updated_idx integer default 0)", id="versions of 32 bits with a default"),
        pytest.param("(id varchar(40) primary key)", id="a key that is cut"),
        pytest.param("(id text primary key, deleted text)", id="tombstones as text"),
    ],
)
def test_a_table_that_somebody_made_can_be_adopted_after_the_alter_that_was_proposed(definition: str, warehouse_url: str) -> None:
    execute(
        warehouse_url, "create schema demo", f"create table demo.thing {definition}", "insert into demo.thing (id) values ('old')"
    )
    with pytest.raises(TableRefused) as refusal:
        sync(warehouse_url, [record("a")], adopt=True)

    execute(warehouse_url, proposed(refusal.value))
    sync(warehouse_url, [record("a")], adopt=True)

    assert query(warehouse_url, "select id from demo.thing order by id") == [("a",), ("old",)]


def test_an_applications_table_takes_versions_after_the_alter_that_was_proposed(warehouse_url: str) -> None:
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.plain", columns=())
    execute(
        warehouse_url,
        "create schema app",
        "create table app.plain (id text primary key, idx integer, gone boolean)",
        "insert into app.plain values ('old', 1)",
    )
    with pytest.raises(TableRefused) as refusal:
        deliver(warehouse_url, of, [record("a", 5)])

    execute(warehouse_url, proposed(refusal.value))
    deliver(warehouse_url, of, [record("a", 5)])

    assert query(warehouse_url, "select id, idx from app.plain order by id") == [("a", 5), ("old", 1)]


@pytest.mark.parametrize("of", ["role {role}", "database {database}", "role {role} in database {database}"])
def test_a_limit_of_time_is_lifted_by_the_alter_that_is_told(of: str, warehouse_url: str) -> None:
    parts = urlsplit(warehouse_url)
    database = parts.path.strip("/")
    role = f"limited_{database}"
    execute(
        warehouse_url,
        f"create role {role} login",
        f"alter {of.format(role=role, database=database)} set statement_timeout = '7s'",
    )
    url = urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    with psycopg.connect(url) as connection:
        (limit,) = limits_in_force(connection)

    execute(warehouse_url, limit.fix.split("`")[1])

    with psycopg.connect(url) as connection:
        assert list(limits_in_force(connection)) == []
    execute(warehouse_url, f"drop owned by {role}", f"alter database {database} reset all", f"drop role {role}")


def test_what_a_plan_says_that_a_run_would_begin_with_runs_on_a_table_with_rows(warehouse_url: str) -> None:
    sync(warehouse_url, [record("a", 1)])
    added = replace(declared("bigint"), name="more", description="It's 100 % new.")
    of = collection(columns=(*collection().columns, added))
    found = dry_run(ListSource([[record("a", 1)]]), Warehouse(warehouse_url), of)

    execute(warehouse_url, *(change.statement for change in found.changes or ()))

    assert query(warehouse_url, "select id, more from demo.thing") == [("a", None)]
    assert dry_run(ListSource([[record("a", 1)]]), Warehouse(warehouse_url), of).changes == ()


SENT = '{"b": 1e1, "a": "x", "b": 2.50}'
"""An object of which jsonb keeps the value only."""


@pytest.mark.parametrize(
    ("before", "after", "at_once", "once_read_again"),
    [
        pytest.param("jsonb", "json", '{"a": "x", "b": 2.50}', SENT, id="jsonb to json"),
        pytest.param("json", "jsonb", '{"a": "x", "b": 2.50}', '{"a": "x", "b": 2.50}', id="json to jsonb"),
    ],
)
def test_another_type_of_data_is_refused_and_taken_after_the_alter_that_was_proposed(
    before: DataType, after: DataType, at_once: str, once_read_again: str, warehouse_url: str
) -> None:
    def source(*ids: str) -> ListSource:
        return TextSource([[record(each, 1, data="#") for each in ids]])

    of = {kind: replace(collection(), data_type=kind) for kind in (before, after)}
    sync(warehouse_url, of=of[before], source=source("r1"))
    stored = "select id, data::text, xmin::text from demo.thing order by id"
    rows = query(warehouse_url, stored)
    with pytest.raises(TableRefused) as refusal:
        sync(warehouse_url, of=of[after], source=source("r1", "r2"), run_id="refused")
    assert str(refusal.value) == (
        f"column 'data' of table 'demo.thing' is of type '{before}', and 'demo/thing' declares '{after}': declare the type that is "
        f'there, or run `alter table "demo"."thing" alter column "data" type {after} using "data"::{after}`'
    )
    assert query(warehouse_url, stored) == rows

    execute(warehouse_url, proposed(refusal.value))
    known = query(warehouse_url, "select data::text from demo.thing")
    again = sync(warehouse_url, of=of[after], source=source("r1", "r2"), run_id="again", full_refresh=True)
    third = sync(warehouse_url, of=of[after], source=source("r1", "r2"), run_id="third", full_refresh=True)

    assert known == [(at_once,)]
    assert [row[1] for row in query(warehouse_url, stored)] == [once_read_again] * 2
    assert (again.counts.inserted, again.counts.updated) == (1, int(after == "json"))
    assert (third.counts.unchanged, third.counts.fetched) == (2, 2)


class TextSource(ListSource):
    """Writes SENT in place of `"#"`, as it stands."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for page in super().pages(request):
            yield replace(page, records=page.records.replace(b'"#"', SENT.encode()))
