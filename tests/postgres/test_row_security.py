"""`row_security: tenant`: who reads whose rows, by real roles, through psycopg and an ORM; and what the pipeline does for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, event, func, select
from sqlalchemy.orm import Session

from sequin_pipeline.catalog import ChildTable, Collection, Column, HistoryTable, TableName, parse_path
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.warehouse import row_security, tables
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import model_table
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.row_security import security_statements
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query
from tests.support.syncing import sync

OPEN = collection()
SECURED = replace(OPEN, row_security="tenant")
Roles = tuple[str, str, str]
API = "http://demo"

BOTH = [
    record("a", 1, sync={"id": "s1", "external_id": "tenant-1"}),
    record("b", 2, sync={"id": "s2", "external_id": "tenant-2"}),
    record("n", 3, sync={"id": "s3", "external_id": None}),
    record("e", 4, sync={"id": "s4", "external_id": ""}),
]
STATEMENTS = (
    'create policy "sequin_pipeline_tenant" on "demo"."thing" for select using'
    " (\"internal_id\" = nullif(current_setting('app.tenant', true), ''))",
    'alter table "demo"."thing" enable row level security',
)


@contextmanager
def reading_as(url: str, tenant: str | None) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction of a reader who says its tenant, or none."""
    with psycopg.connect(url) as connection:
        if tenant is not None:
            connection.execute("select set_config('app.tenant', %s, true)", (tenant,))
        yield connection


def read(*pages: list[dict[str, object]]) -> ListSource:
    """The source that the doctor would open."""
    return ListSource(pages, SourceIdentity("sequin", API))


def seen(url: str, tenant: str | None, table: str = "demo.thing", *, column: str = "id") -> list[object]:
    with reading_as(url, tenant) as connection:
        return [one for (one,) in connection.execute(f"select {column} from {table} order by 1").fetchall()]


def policies(url: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "select tablename, policyname, cmd, qual from pg_policies where schemaname = 'demo' order by 1, 2",
    )


def doctor(url: str, of: Collection) -> list[Finding]:
    patient = Patient(
        Settings(url, url, Path("/nowhere"), frozenset(), {}, None),
        {"SEQUIN_API_URL": API, "SEQUIN_API_TOKEN": "any"},
        {of.label: of},
        API,
    )
    with Warehouse(url).connect() as connection:
        return [*tables(connection, patient), *row_security(connection, patient)]


OURS = (
    "thing",
    "sequin_pipeline_tenant",
    "SELECT",
    "(internal_id = NULLIF(current_setting('app.tenant'::text, true), ''::text))",
)


def test_a_reader_sees_the_rows_of_the_tenant_that_its_transaction_names(roles: Roles) -> None:
    _, writer, reader = roles

    sync(writer, source=read(BOTH), of=SECURED)

    # Nobody's, empty, which no row's tenant is taken for, unset, and a text that would be more than a value in a statement.
    tenants = ("tenant-1", "tenant-2", "tenant-3", "", None, "tenant-1' or '1'='1")
    assert [seen(reader, tenant) for tenant in tenants] == [["a"], ["b"], [], [], [], []]
    assert [seen(writer, tenant) for tenant in tenants] == [["a", "b", "e", "n"]] * 6


def test_the_tenant_ends_with_the_transaction_and_two_readers_of_one_pool_never_see_each_other(roles: Roles) -> None:
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)

    with psycopg.connect(reader) as connection:
        found = []
        for tenant in ("tenant-1", None, "tenant-2", None):
            with connection.transaction():
                if tenant:
                    connection.execute("select set_config('app.tenant', %s, true)", (tenant,))
                found.append(connection.execute("select id from demo.thing").fetchall())

    assert found == [[("a",)], [], [("b",)], []]


def test_sqlalchemy_reads_by_tenant_through_the_printed_classes(roles: Roles) -> None:
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)
    module = ModuleType("printed_models")
    exec(FORMATS["sqlalchemy"]([model_table(SECURED)]), module.__dict__)
    thing = module.__dict__["DemoThing"]
    engine = create_engine(reader.replace("postgresql://", "postgresql+psycopg://"), pool_size=1, max_overflow=0)

    class TenantSession(Session):
        """Names its tenant as each of its transactions begins."""

    @event.listens_for(TenantSession, "after_begin")
    def name_tenant(session: Session, transaction: object, connection: Connection) -> None:
        connection.execute(select(func.set_config("app.tenant", session.info["tenant"], True)))

    found: list[object] = []
    for tenant in ("tenant-1", "tenant-2"):
        with TenantSession(engine, info={"tenant": tenant}) as session:
            found.append([(row.id, row.internal_id) for row in session.scalars(select(thing))])
            session.commit()
            found.append(session.scalar(select(func.count()).select_from(thing)))
    with Session(engine) as nobody:
        found.append(nobody.scalars(select(thing)).all())
    engine.dispose()

    assert found == [[("a", "tenant-1")], 1, [("b", "tenant-2")], 1, []]


def test_switched_on_later_plan_shows_it_the_next_run_does_it_and_further_ones_do_nothing(roles: Roles) -> None:
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=OPEN)
    before = seen(reader, None)

    planned = dry_run(read(BOTH), Warehouse(writer), SECURED)
    told = doctor(writer, SECURED)
    first = sync(writer, source=read(BOTH), of=SECURED, full_refresh=True, run_id="first")

    assert before == ["a", "b", "e", "n"]
    assert [(change.statement, change.lock) for change in planned.changes or ()] == [
        (one, "access exclusive") for one in STATEMENTS
    ]
    assert Finding("tables", "ok", "1 to be changed", "`sequin-pipeline plan` shows the statements and their locks") in told
    assert first.counts == Counts(fetched=4, unchanged=4)
    assert seen(reader, "tenant-1") == ["a"]
    assert policies(writer) == [OURS]
    assert dry_run(read(BOTH), Warehouse(writer), SECURED).changes == ()


def test_a_secured_table_is_written_by_every_way_as_an_open_one_is(roles: Roles) -> None:
    """The owner passes: rows that are new are copied, and no row is hidden from a merge."""
    _, writer, _ = roles

    copied = sync(writer, source=read(BOTH), of=SECURED)
    merged = sync(
        writer, source=read([record("a", 5, deleted=True), record("z", 6)]), of=SECURED, full_refresh=True, run_id="second"
    )

    assert copied.counts == Counts(fetched=4, inserted=4, created=4)
    assert merged.counts == Counts(fetched=2, inserted=1, deleted=1, created=1)
    assert "copy" in copied.seconds
    assert "merge" not in copied.seconds
    assert query(writer, "select relforcerowsecurity from pg_class where oid = 'demo.thing'::regclass") == [(False,)]


def test_declared_no_longer_the_policy_stays_and_is_told(roles: Roles) -> None:
    """Whoever loses a line of YAML must not show everybody's rows to everybody."""
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)

    planned, told = dry_run(read(BOTH), Warehouse(writer), OPEN), doctor(writer, OPEN)
    sync(writer, source=read([record("c", 9)]), of=OPEN, full_refresh=True, run_id="second")

    said = (
        "table 'demo.thing' of 'demo/thing' still shows readers the rows of one tenant only, by its policy 'sequin_pipeline_tenant', which "
        "its declaration does not ask for: say `row_security: tenant` again, or open it by `drop policy sequin_pipeline_tenant on "
        '"demo"."thing"; alter table "demo"."thing" disable row level security`'
    )
    assert planned.remarks == (said,)
    assert planned.changes == ()
    assert Finding("tables", "ok", said) in told
    assert seen(reader, None) == []
    execute(writer, said.split("`")[3])
    assert seen(reader, None) == ["a", "b", "c", "e", "n"]


@pytest.mark.parametrize(
    "change",
    [
        "alter policy sequin_pipeline_tenant on demo.thing using (true)",
        "drop policy sequin_pipeline_tenant on demo.thing",
        "alter table demo.thing disable row level security",
        "drop policy sequin_pipeline_tenant on demo.thing; create policy sequin_pipeline_tenant on demo.thing using (true)",
        "drop policy sequin_pipeline_tenant on demo.thing; create policy sequin_pipeline_tenant on demo.thing for select using"
        " (internal_id = current_setting('app.tenant', true))",
    ],
)
def test_what_somebody_has_changed_of_it_is_put_right_by_the_next_run(roles: Roles, change: str) -> None:
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)
    execute(writer, change)

    sync(writer, source=read(), of=SECURED, run_id="second")

    assert policies(writer) == [OURS]
    assert (seen(reader, None), seen(reader, ""), seen(reader, "tenant-2")) == ([], [], ["b"])


def test_a_reader_who_may_write_writes_nothing(roles: Roles) -> None:
    _, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)
    execute(writer, f"grant insert, update, delete on demo.thing to {urlsplit(reader).username}")

    with reading_as(reader, "tenant-1") as connection:
        updated = connection.execute("update demo.thing set deleted = true").rowcount
        removed = connection.execute("delete from demo.thing").rowcount
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into demo.thing select * from demo.thing")

    assert (updated, removed) == (0, 0)
    assert seen(writer, None) == ["a", "b", "e", "n"]


def test_each_partition_is_secured_and_one_that_comes_later_too(roles: Roles) -> None:
    """Readers may name a partition, where the policies of the whole do not count."""
    _, writer, reader = roles
    execute(
        writer,
        "create table demo.parted (id text, internal_id text) partition by hash (id)",
        "create table demo.part_0 partition of demo.parted for values with (modulus 2, remainder 0)",
    )

    def secure() -> list[str]:
        with Warehouse(writer).connect() as connection:
            statements = security_statements(connection, TableName("demo", "parted"))
            for statement in statements:
                connection.execute(statement)
            return [statement.as_string() for statement in statements]

    first = secure()
    execute(
        writer,
        "create table demo.part_1 partition of demo.parted for values with (modulus 2, remainder 1)",
        "insert into demo.parted select 'r' || n, 'tenant-' || n % 2 from generate_series(1, 6) n",
    )
    later, again = secure(), secure()

    assert (len(first), len(later), again) == (4, 2, [])
    assert seen(reader, "tenant-1", "demo.parted") == ["r1", "r3", "r5"]
    assert sorted(map(str, (*seen(reader, "tenant-1", "demo.part_0"), *seen(reader, "tenant-1", "demo.part_1")))) == [
        "r1",
        "r3",
        "r5",
    ]
    assert (seen(reader, None, "demo.part_0"), seen(reader, None, "demo.part_1")) == ([], [])


def test_doctor_names_the_ways_around_it(roles: Roles) -> None:
    admin, writer, reader = roles
    sync(writer, source=read(BOTH), of=SECURED)
    quiet = doctor(writer, SECURED)
    other = urlsplit(reader).username
    execute(
        writer,
        "create view demo.leaking as select * from demo.thing",
        "create view demo.leaking_too as select id from demo.leaking",
        "create materialized view demo.kept as select * from demo.thing",
        "create policy everybody on demo.thing for select using (true)",
        f"create policy analysts on demo.thing for select to {other} using (false)",
    )
    # A view of a role that reads as tenants do shows what they may see.
    execute(admin, f"grant create on schema demo to {other}")
    execute(reader, "create view demo.sound as select * from demo.thing")
    has_invokers = query(writer, "select current_setting('server_version_num')::int >= 150000") == [(True,)]
    if has_invokers:
        execute(writer, "create view demo.invoking with (security_invoker = true) as select * from demo.thing")

    told = [finding for finding in doctor(writer, SECURED) if finding.check == "row security"]

    assert quiet == [Finding("tables", "ok", "1 ready")]
    fix = "close it, or keep tenants away from it"
    assert told == [
        Finding(
            "row security", "warning", "policy 'everybody' of table 'demo.thing' adds rows to those of the reader's tenant", fix
        ),
        Finding(
            "row security",
            "warning",
            "materialized view demo.kept holds rows of table 'demo.thing', and no policy applies to it: let no tenant read it",
            fix,
        ),
        *(
            Finding(
                "row security",
                "warning",
                f"view demo.{view} reads table 'demo.thing' with the rights of its owner, to whom no policy applies: run `alter view "
                f"demo.{view} set (security_invoker = true)` (Postgres 15 and later), or give it to a role that reads as tenants do",
                fix,
            )
            for view in ("leaking", "leaking_too")
        ),
    ]
    assert len(seen(reader, None, "demo.leaking")) == 4
    assert not has_invokers or len(seen(writer, "tenant-1", "demo.invoking")) == 4


def test_tables_beside_it_are_secured_and_watched_as_it_is(roles: Roles) -> None:
    _, writer, reader = roles
    line = Column("amount", parse_path("amount"), "bigint")
    child = ChildTable("line", TableName("demo", "thing_line"), parse_path("lines"), (line,))
    of = replace(SECURED, children=(child,), history_table=HistoryTable(TableName("demo", "thing_history")))
    lined = [{**one, "data": {"lines": [{"amount": 1}, {"amount": 2}]}} for one in BOTH]

    sync(writer, source=read(lined), of=of)
    execute(writer, *(f"create view demo.leaking_{name} as select * from demo.thing_{name}" for name in ("history", "line")))

    assert [seen(reader, tenant, "demo.thing_line", column="parent_id") for tenant in ("tenant-1", None)] == [["a", "a"], []]
    assert [seen(reader, tenant, "demo.thing_history") for tenant in ("tenant-1", None)] == [["a"], []]
    assert [seen(reader, tenant, "demo.thing_as_of(now())") for tenant in ("tenant-1", None)] == [["a"], []]
    assert [finding.said.split()[1] for finding in doctor(writer, of) if finding.check == "row security"] == [
        "demo.leaking_line",
        "demo.leaking_history",
    ]


def test_a_role_that_does_not_own_the_table_is_refused_with_the_statements(roles: Roles) -> None:
    admin, writer, _ = roles
    sync(writer, source=read(BOTH), of=OPEN)
    role = urlsplit(writer).username
    execute(admin, "alter table demo.thing owner to postgres", f"grant select, insert, update, delete on demo.thing to {role}")

    with pytest.raises(TableRefused) as raised:
        sync(writer, source=read(BOTH), of=SECURED, run_id="second")

    assert str(raised.value) == (
        f"table 'demo.thing' of 'demo/thing' has to be changed first, which only its owner may do, and role {role!r} is not: "
        f"run as its owner `{'; '.join(STATEMENTS)}`"
    )
    assert policies(admin) == []
