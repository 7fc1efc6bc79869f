"""Child tables that belong to an application: what is mapped is written, and everything else there stays the application's."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import ChildTable, Column, TableName, UnmanagedTable, parse_path
from sequin_pipeline.errors import ConfigurationError, TableRefused
from sequin_pipeline.ledger.counts import ChildCounts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.explain import explain_record
from sequin_pipeline.operate.forgetting.forget import forget
from sequin_pipeline.operate.models.table import model_tables
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.forgotten import Subject
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query, rejects
from tests.support.syncing import sync

NAMES = {"parent_id": "invoiceId", "id": "id", "amount": "amount", "updated_at": "updatedAt"}
LINE = ChildTable(
    "line",
    TableName("app", "InvoiceLine"),
    parse_path("lines"),
    key=(Column("id", parse_path("id"), "text"),),
    columns=(Column("amount", parse_path("amount"), "numeric"),),
    unmanaged=UnmanagedTable(NAMES, key=("parent_id", "id")),
)
PLAIN = collection(columns=())
OF = replace(PLAIN, children=(LINE,))
TABLE = """create schema app; create table app."InvoiceLine" (
    "invoiceId" varchar(8) not null, id text not null, amount numeric(10, 2), note text not null default 'ours to write',
    "updatedAt" timestamp(3), primary key ("invoiceId", id))"""


def mapped(names: Mapping[str, str]) -> ChildTable:
    return replace(LINE, unmanaged=UnmanagedTable(names, key=("parent_id", "id")))


def invoice(record_id: str, version: int, *lines: object, **overrides: object) -> dict[str, object]:
    return record(record_id, version, data={"lines": list(lines)}, **overrides)


def lines(url: str) -> list[tuple[object, ...]]:
    return query(url, 'select "invoiceId", id, amount::text, note from app."InvoiceLine" order by 1, 2')


@pytest.fixture
def url(warehouse_url: str) -> str:
    execute(warehouse_url, TABLE)
    return warehouse_url


def test_columns_that_are_not_mapped_keep_what_the_application_wrote(url: str) -> None:
    sync(url, [invoice("r", 1, {"id": "a", "amount": 1}, {"id": "b", "amount": 2})], of=OF)
    execute(url, """update app."InvoiceLine" set note = 'seen' where id = 'a'""")

    outcome = sync(url, [], [invoice("r", 2, {"id": "a", "amount": 1.5}, {"id": "c"})], of=OF)

    assert lines(url) == [("r", "a", "1.50", "seen"), ("r", "c", None, "ours to write")]
    assert outcome.children == {"app.InvoiceLine": ChildCounts(inserted=1, updated=1, removed=1)}


def test_rows_of_parents_that_the_pipeline_does_not_know_stay(url: str) -> None:
    execute(url, """insert into app."InvoiceLine" ("invoiceId", id) values ('manual', 'a')""")
    sync(url, [invoice("r", 1, {"id": "a"})], of=PLAIN)

    sync(url, [], of=OF, full_refresh=True, run_id="filled")
    sync(url, [], [invoice("r", 2)], of=replace(OF, on_delete="remove"))

    assert lines(url) == [("manual", "a", None, "ours to write")]


def test_known_records_write_nothing(url: str) -> None:
    page = [invoice("r", 1, {"id": "a", "amount": 1})]
    sync(url, page, of=OF)
    before = query(url, 'select xmin::text, ctid::text, "updatedAt" from app."InvoiceLine"')

    for number in range(2):
        sync(url, page, of=OF, full_refresh=True, run_id=f"again {number}")

    assert query(url, 'select xmin::text, ctid::text, "updatedAt" from app."InvoiceLine"') == before


def test_rows_are_filled_from_the_objects_of_parents_that_are_there(url: str) -> None:
    sync(url, [invoice("r", 1, {"id": "a", "amount": 1}), invoice("s", 1, {"id": "a", "amount": 0.125})], of=PLAIN)

    sync(url, [], of=OF, run_id="later")

    assert lines(url) == [("r", "a", "1.00", "ours to write")]
    assert query(url, "select record_id, class from sequin_pipeline.rejects") == [("s", "refill")]


@pytest.mark.parametrize(
    ("line", "record_id", "reason"),
    [
        ({"id": "a", "amount": 0.125}, "r", "column 'amount' of table app.InvoiceLine takes at most 2 digits behind the point"),
        ({"id": "a"}, "much too long", "column 'invoiceId' of table app.InvoiceLine takes at most 8 characters"),
        ({"id": "a", "amount": 123456789.5}, "r", "Postgres refused the row: numeric field overflow"),
    ],
    ids=["digits that would be rounded", "a parent's id that is too long", "a number that is too large"],
)
def test_an_element_that_the_table_would_change_makes_its_record_a_reject(
    url: str, line: object, record_id: str, reason: str
) -> None:
    sync(url, [invoice(record_id, 1, {"id": "a", "amount": 1})] if record_id == "r" else [], of=OF)

    sync(url, [], [invoice(record_id, 2, line), invoice("s", 2, {"id": "b"})], of=OF)

    assert [(one[0], one[1]) for one in lines(url)] == [*([("r", "a")] if record_id == "r" else []), ("s", "b")]
    ((told, _),) = query(url, "select reason, record_id from sequin_pipeline.rejects")
    assert reason in told


def test_children_follow_their_parents_where_the_table_says_so(url: str) -> None:
    execute(url, 'alter table app."InvoiceLine" add "isDeleted" boolean not null default false, add "syncId" text')
    of = replace(OF, children=(mapped({**NAMES, "deleted": "isDeleted", "sync_id": "syncId"}),))
    sync(url, [invoice("r", 1, {"id": "a"})], of=of)

    sync(url, [], [record("r", 2, deleted=True, data=None, sync={"id": "s2", "external_id": "t", "metadata": {}})], of=of)

    assert query(url, 'select id, "isDeleted", "syncId" from app."InvoiceLine"') == [("a", True, "s2")]


def test_elements_go_with_a_parent_that_is_removed(url: str) -> None:
    of = replace(OF, on_delete="remove")
    sync(url, [invoice("r", 1, {"id": "a"}), invoice("s", 1, {"id": "a"})], of=of)

    sync(url, [], [record("r", 2, deleted=True, data=None)], of=of)

    assert [(one[0], one[1]) for one in lines(url)] == [("s", "a")]


def test_foreign_keys_of_the_application_that_are_looked_at_at_once_are_kept(url: str) -> None:
    tax = ChildTable(
        "line_tax",
        TableName("app", "Tax"),
        parse_path("taxes"),
        within=LINE,
        unmanaged=UnmanagedTable(
            {"parent_id": "invoiceId", "line_id": "lineId", "position": "position"}, ("parent_id", "line_id", "position")
        ),
    )
    execute(
        url,
        'create table app."Tax" ("invoiceId" varchar(8), "lineId" text, position int, primary key ("invoiceId", "lineId", position),'
        ' constraint "Tax_parent_fkey" foreign key ("invoiceId", "lineId") references app."InvoiceLine" ("invoiceId", id))',
    )
    of = replace(OF, children=(LINE, tax))
    sync(url, [invoice("r", 1, {"id": "a", "taxes": [{}, {}]}, {"id": "b", "taxes": [{}]})], of=of)

    sync(url, [], [invoice("r", 2, {"id": "b"}, {"id": "c", "taxes": [{}]})], of=of)

    assert query(url, 'select "lineId", position from app."Tax"') == [("c", 0)]
    assert [one[1] for one in lines(url)] == ["b", "c"]
    assert query(url, "select conname from pg_constraint where contype = 'f' and conrelid = 'app.\"Tax\"'::regclass") == [
        ("Tax_parent_fkey",)
    ]


@pytest.mark.parametrize(
    ("statement", "of", "message"),
    [
        (
            'drop table app."InvoiceLine"',
            OF,
            "table 'app.InvoiceLine' of 'demo/thing_line' does not exist, and `managed: false` says that an application creates it: "
            "run its migrations, or fix the name in the YAML (upper and lower case count)",
        ),
        (
            'alter table app."InvoiceLine" drop constraint "InvoiceLine_pkey"',
            OF,
            "table 'app.InvoiceLine' of 'demo/thing_line' has no primary key or unique index on exactly (invoiceId, id), by which versions "
            "of a record replace each other (a deferrable, partial or invalid one does not serve): add one, or name with `key` the columns "
            "that have one",
        ),
        (
            'alter table app."InvoiceLine" add place int not null',
            OF,
            "table 'app.InvoiceLine' of 'demo/thing_line' requires a value in column 'place', and nothing is mapped to it: map one of "
            "sync_id, internal_id, updated_idx, deleted, position, data, inserted_at or a declared column to it, give it a default, or "
            "drop its NOT NULL",
        ),
        (
            "select",
            replace(OF, children=(mapped({**NAMES, "amount": "total"}),)),
            "table 'app.InvoiceLine' of 'demo/thing_line' has no column 'total', to which 'amount' is mapped: its columns are 'invoiceId', "
            "'id', 'amount', 'note', 'updatedAt' (upper and lower case count)",
        ),
    ],
    ids=["no table", "no key", "a required column", "no such column"],
)
def test_a_table_that_does_not_take_the_rows_is_refused_before_anything_is_written(
    url: str, statement: str, of: object, message: str
) -> None:
    execute(url, statement)

    with pytest.raises(TableRefused) as refused:
        sync(url, [invoice("r", 1, {"id": "a"})], of=of)  # type: ignore[arg-type]  # a row of the parametrisation

    assert str(refused.value) == message
    assert query(url, "select count(*) from demo.thing") == [(0,)]


def test_plan_explanation_and_models_know_the_table(url: str) -> None:
    warehouse = Warehouse(url)
    planned = dry_run(ListSource([[invoice("r", 1, {"id": "a"})]]), warehouse, OF)
    sync(url, [invoice("r", 1, {"id": "a"})], of=OF)

    with warehouse.connect() as connection:
        explained = explain_record(connection, OF, Ledger("demo.thing", "demo/thing"), "r")

    assert (planned.child_changes, planned.children) == ({"app.InvoiceLine": ()}, {"app.InvoiceLine": ChildCounts(inserted=1)})
    assert explained.children == {"app.InvoiceLine": 1}
    assert [str(table.name) for table in model_tables(OF)] == ["demo.thing"]


def test_a_record_that_is_forgotten_takes_its_rows_along(url: str) -> None:
    sync(url, [invoice("r", 1, {"id": "a"}), invoice("s", 1, {"id": "a"})], of=OF)

    report = forget(Warehouse(url), Subject("record", "r", "demo/thing"), [OF])

    assert report.removed["rows of table app.InvoiceLine"] == 1
    assert [(one[0], one[1]) for one in lines(url)] == [("s", "a")]


def test_a_tenant_is_not_forgotten_in_part_in_silence(url: str) -> None:
    sync(url, [invoice("r", 1, {"id": "a"})], of=OF)

    with pytest.raises(ConfigurationError) as refused:
        forget(Warehouse(url), Subject("internal_id", "tenant-1"), [OF])

    assert (
        "table app.InvoiceLine: it belongs to an application, and no column of it is declared for internal_id, so that nobody can tell "
        "which rows these are"
    ) in str(refused.value)
    assert len(lines(url)) == 1
    assert rejects(url) == {}
