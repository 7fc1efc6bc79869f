"""What stands in a writer's way is told by doctor, plan and run alike, before any request, and nothing is written."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.warehouse import tables
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.postgres.warehouse import Warehouse, explain
from sequin_pipeline.runs.replay_rejects import replay
from sequin_pipeline.sources import SourceIdentity
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, ids_and_versions, query
from tests.support.syncing import sync

API = "http://127.0.0.1:1"
IDENTITY = SourceIdentity("sequin", API)
FIRST = [record("a", 1), record("hidden", 1)]
SECOND = [record("hidden", 2, deleted=True), record("new", 1)]


@pytest.fixture
def warehouse_url(empty_url: str) -> str:
    """Of an empty database: the ledger, too, is made by the role that writes."""
    return empty_url


@pytest.fixture
def writer(warehouse_url: str) -> Iterator[str]:
    """The URL of a role that has made the table and written its first rows, and that owns nothing but what it makes."""
    parts = urlsplit(warehouse_url)
    role = f"writer_{parts.path.strip('/')}"
    execute(
        warehouse_url,
        f"create role {role} login",
        f"grant create, temporary on database {parts.path.strip('/')} to {role}",
    )
    url = urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    sync(url, source=ListSource([FIRST], IDENTITY))
    yield url
    execute(warehouse_url, f"drop owned by {role} cascade", f"drop role {role}")


def role_of(url: str) -> str:
    return urlsplit(url).username or ""


def doctor(url: str, of: Collection) -> list[Finding]:
    settings = Settings(url, url, Path("/nowhere"), frozenset(), {}, None)
    environment = {"SEQUIN_API_URL": API, "SEQUIN_API_TOKEN": "any"}
    with Warehouse(url).connect() as connection:
        return list(tables(connection, Patient(settings, environment, {of.label: of}, API)))


NOT_OURS = (
    "alter table demo.thing owner to postgres",
    "grant select, insert, update, delete on demo.thing to {role}",
)
POLICY = (
    "alter table demo.thing enable row level security",
    "create policy p on demo.thing for all to {role} using (id <> 'hidden') with check (true)",
)
PARTITIONED = (
    "is partitioned, and of such a table Postgres does not tell which rows an upsert inserted: let a plain table of that name take "
    "its place, or declare it with `managed: false` and its columns (docs/your-tables.md), which may be partitioned"
)


def partitioned(by: str, part: str, *, key: str = "id") -> tuple[str, ...]:
    """As somebody does it to a table that is there: a new one in its place, with the rows of the old one."""
    return (
        "alter table demo.thing rename to plain",
        f"create table demo.thing (like demo.plain including defaults including comments) partition by {by}",
        f"alter table demo.thing add primary key ({key})",
        f"create table demo.part partition of demo.thing {part}",
        "insert into demo.thing select * from demo.plain",
        "drop table demo.plain",
        "alter table demo.thing owner to {role}",
    )


OBSTACLES = [
    pytest.param(
        partitioned("hash (id)", "for values with (modulus 1, remainder 0)"), PARTITIONED, id="partitioned by hash of the key"
    ),
    pytest.param(partitioned("range (id)", "default"), PARTITIONED, id="partitioned by range of the key"),
    pytest.param(
        partitioned("list (sync_id)", "for values in ('s1')", key="id, sync_id"),
        PARTITIONED,
        id="partitioned by list of the syncs",
    ),
    pytest.param(partitioned("range (updated_at)", "default", key="id, updated_at"), PARTITIONED, id="partitioned by time"),
    pytest.param(
        (*NOT_OURS, *POLICY),
        "has row-level security that applies to role '{role}', so that rows it hides would be taken for missing, and no grant changes "
        'that: let the pipeline connect as a role with BYPASSRLS, as in `alter role "{role}" bypassrls`, or as the owner of the table',
        id="a policy on a table of another owner",
    ),
    pytest.param(
        (*POLICY, "alter table demo.thing force row level security"),
        "has row-level security that applies to role '{role}', so that rows it hides would be taken for missing, and no grant changes "
        'that: run `alter table "demo"."thing" no force row level security`, or `alter role "{role}" bypassrls`',
        id="a policy that is forced on the owner",
    ),
    pytest.param(
        ("create rule keep as on delete to demo.thing do instead nothing",),
        "has rules for inserts, updates or deletes, with which Postgres allows no upsert or reports no row: use triggers in their place",
        id="a rule for deletes",
    ),
    pytest.param(
        ("create rule keep as on update to demo.thing do instead nothing",),
        "has rules for inserts, updates or deletes, with which Postgres allows no upsert or reports no row: use triggers in their place",
        id="a rule for updates",
    ),
    pytest.param(
        ("create table demo.child () inherits (demo.thing)",),
        "has tables that inherit from it, in which no unique index is shared: name one of them",
        id="a table that inherits from it",
    ),
    pytest.param(
        ("alter table demo.thing owner to postgres", "grant select, insert, update on demo.thing to {role}"),
        "role '{role}' lacks the right to delete on table 'demo.thing' of 'demo/thing': run "
        '`grant delete on "demo"."thing" to "{role}"`',
        id="a right that is lacking",
    ),
    pytest.param(
        (*NOT_OURS, "alter table demo.thing drop column amount"),
        "has to be changed first, which only its owner may do, and role '{role}' is not: run as its owner "
        '`alter table "demo"."thing" add column if not exists "amount" bigint`',
        id="a column to be added by another role than the owner",
    ),
]


@pytest.mark.parametrize(("statements", "sentence"), OBSTACLES)
def test_doctor_plan_and_run_refuse_a_managed_table_in_the_same_words_before_any_request(
    warehouse_url: str, writer: str, statements: tuple[str, ...], sentence: str
) -> None:
    role, of = role_of(writer), collection(on_delete="remove")
    execute(warehouse_url, *(statement.format(role=role) for statement in statements))
    before = query(warehouse_url, "select * from demo.thing t order by t::text")
    source = ListSource([FIRST, SECOND], IDENTITY)
    refusals = []

    found = doctor(writer, of)
    for act in (lambda: dry_run(source, Warehouse(writer), of), lambda: sync(writer, of=of, source=source, full_refresh=True)):
        with pytest.raises(TableRefused) as refusal:
            act()
        refusals.append(str(refusal.value))

    said = sentence.format(role=role)
    expected = said if said.startswith("role") else f"table 'demo.thing' of 'demo/thing' {said}"
    assert refusals == [expected, expected]
    assert found == [Finding("tables", "problem", expected, "the message says what to do")]
    assert source.requests == []
    assert query(warehouse_url, "select * from demo.thing t order by t::text") == before
    if fixes := re.findall("`((?:alter|grant) [^`]*)`", said):
        execute(warehouse_url, *fixes)
        sync(writer, of=of, source=ListSource([FIRST, SECOND], IDENTITY), full_refresh=True)
        assert ids_and_versions(warehouse_url) == [("a", 1, False), ("new", 1, False)]


def test_a_policy_that_does_not_apply_to_the_owner_changes_nothing(warehouse_url: str, writer: str) -> None:
    execute(warehouse_url, *(statement.format(role=role_of(writer)) for statement in POLICY))

    sync(writer, of=collection(on_delete="remove"), source=ListSource([FIRST, SECOND], IDENTITY), full_refresh=True)

    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("new", 1, False)]


def test_a_replay_of_rejects_looks_at_a_managed_table_first(warehouse_url: str, writer: str) -> None:
    execute(warehouse_url, *(each.format(role=role_of(writer)) for each in (*NOT_OURS, *POLICY)))

    with pytest.raises(TableRefused, match="has row-level security that applies to role"):
        replay(Warehouse(writer), collection(), Ledger("demo.thing", "demo/thing"), run_id="replay")


def test_a_trigger_that_may_leave_rows_out_is_told_by_doctor_and_plan(warehouse_url: str, writer: str) -> None:
    execute(
        warehouse_url,
        "create function demo.f() returns trigger language plpgsql as $$ begin return new; end $$",
        "create trigger looks before insert or update on demo.thing for each row execute function demo.f()",
        "create trigger later after insert on demo.thing for each row execute function demo.f()",
        "create trigger off before delete on demo.thing for each row execute function demo.f()",
        "alter table demo.thing disable trigger off",
    )
    told = "trigger 'looks' of table 'demo.thing' runs before rows are written: a row that it leaves out becomes a reject"

    found, planned = doctor(writer, collection()), dry_run(ListSource([FIRST], IDENTITY), Warehouse(writer), collection())

    assert found == [Finding("tables", "ok", told), Finding("tables", "ok", "1 ready")]
    assert planned.remarks == (told,)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        pytest.param("permission denied for table audit", "grant the right that it names to this role", id="a right"),
        pytest.param(
            'new row violates row-level security policy for table "thing"',
            "no grant changes that; let the pipeline connect as a role with BYPASSRLS, or as the owner of the table",
            id="a policy",
        ),
        pytest.param(
            "must be owner of table thing",
            "no grant changes that; let the owner do it, or make this role a member of the owner's",
            id="an owner",
        ),
        pytest.param(
            'permission denied: "pg_class" is a system catalog',
            "give this role what it asks for, or let the pipeline connect as another one",
            id="what nobody grants",
        ),
    ],
)
def test_a_grant_is_advised_only_where_one_helps(warehouse_url: str, said: str, advice: str) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(f"do $$ begin raise exception using message = '{said}', errcode = '42501'; end $$")

    assert str(explain(caught.value, "writing")) == f"while writing, Postgres said {said!r} (SQLSTATE 42501): {advice}."
