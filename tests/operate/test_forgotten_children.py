"""Children of those who are forgotten go, and nobody else's."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import ChildTable, Collection, TableName, check_tables, parse_path
from sequin_pipeline.operate.forgetting.forget import forget, undo
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records.forgotten import Subject
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.table.unmanaged.tables import deliver, unmanaged

TAX = ChildTable("tax", TableName("demo", "invoice_line_tax"), parse_path("taxes"))
INVOICE = collection(columns=(), table="demo.invoice", name="invoice")
INVOICE_LINE = replace(collection(columns=(), table="demo.invoice_line", name="invoice_line"), children=(TAX,))

PLAIN = collection(columns=())
LINE, INNER, _ = with_children(PLAIN).children
HELD_LINE = replace(LINE, foreign_key=True)
HELD = replace(PLAIN, children=(HELD_LINE, replace(INNER, within=HELD_LINE, foreign_key=True)))


@pytest.mark.parametrize(
    "declared", [[INVOICE, INVOICE_LINE], [INVOICE], []], ids=["both declared", "one declared no longer", "none declared"]
)
def test_forgetting_a_record_leaves_children_of_a_collection_whose_name_begins_alike(
    warehouse_url: str, declared: Sequence[Collection]
) -> None:
    check_tables([INVOICE, INVOICE_LINE], "sequin_pipeline")
    sync(warehouse_url, [record("r", 1, collection_id="demo:invoice", data={"a": 1})], of=INVOICE)
    sync(warehouse_url, [record("r", 1, collection_id="demo:invoice_line", data={"taxes": [{"rate": 1}]})], of=INVOICE_LINE)

    report = forget(Warehouse(warehouse_url), Subject("record", "r", "demo/invoice"), declared)

    assert {name: count for name, count in report.removed.items() if name.startswith("rows")} == {"rows of table demo.invoice": 1}
    tables = ("invoice", "invoice_line", "invoice_line_tax")
    assert [query(warehouse_url, f"select count(*) from demo.{name}") for name in tables] == [[(0,)], [(1,)], [(1,)]]


@pytest.mark.parametrize(
    "declared",
    [[HELD], [replace(HELD, children=HELD.children[:1])], [PLAIN], []],
    ids=["declared", "the inner one declared no longer", "children declared no longer", "declared no longer"],
)
def test_a_foreign_key_keeps_nobody_who_is_forgotten(warehouse_url: str, declared: Sequence[Collection]) -> None:
    data = {"lines": {"data": [{"id": "a", "taxes": [{"rate": 1}]}]}}
    sync(warehouse_url, [record("r", 1, data=data), record("s", 1, data=data)], of=HELD)

    forget(Warehouse(warehouse_url), Subject("record", "r", "demo/thing"), declared)

    assert query(warehouse_url, "select id from demo.thing") == [("s",)]
    assert query(warehouse_url, "select parent_id from demo.thing_line") == [("s",)]
    assert query(warehouse_url, "select parent_id from demo.thing_line_tax") == [("s",)]


@pytest.mark.parametrize(
    "told", [["updated_idx", "internal_id"], ["internal_id"], ["updated_idx"]], ids=lambda told: " ".join(told)
)
def test_children_of_rows_that_are_left_are_left_with_them(warehouse_url: str, told: list[str]) -> None:
    execute(
        warehouse_url,
        "create schema app",
        "create table app.parent (id text primary key, v bigint, t text, gone bool, object jsonb)",
    )
    mapping = {"id": "id", "deleted": "gone", "data": "object"} | {
        name: {"updated_idx": "v", "internal_id": "t"}[name] for name in told
    }
    of = replace(unmanaged(mapping, table="app.parent", columns=()), children=(LINE,))
    page = [record("r", 1, data={"lines": {"data": [{"id": "a"}]}})]
    deliver(warehouse_url, of, page)
    warehouse, subject, rows = (
        Warehouse(warehouse_url),
        Subject("internal_id", "tenant-1"),
        "select parent_id from demo.thing_line",
    )

    left = forget(warehouse, subject, [of], leaves_applications=True).left
    undo(warehouse, subject)
    deliver(warehouse_url, of, page)
    kept = query(warehouse_url, rows)
    execute(warehouse_url, "delete from app.parent")
    forget(warehouse, subject, [of], leaves_applications=True)

    assert ([(one.table, one.rows) for one in left][-1], kept) == (("demo.thing_line", 1), [("r",)])
    assert query(warehouse_url, rows) == ([] if "internal_id" in told else [("r",)])
