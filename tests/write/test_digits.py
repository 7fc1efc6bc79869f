"""Numbers that are equal and have other digits: what was delivered last is stored, and what is stored already is not written again."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pandas as pd
import pytest

from sequin_pipeline.catalog import Collection, Column, TableName, parse_path
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import write_frame
from sequin_pipeline.sources import Page, ReadRequest
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.table.unmanaged.tables import unmanaged

COLUMNS = (
    Column("price", parse_path("price"), "numeric"),
    Column("plan", parse_path("plan"), "jsonb"),
    Column("rate", parse_path("rate"), "double precision"),
)
UNMANAGED = unmanaged({"id": "id", "updated_idx": "v", "data": "data"}, table="app.thing", columns=COLUMNS)
VERSIONLESS = unmanaged({"id": "id", "data": "data"}, table="app.thing", columns=COLUMNS)
MANAGED = collection(columns=COLUMNS)
KINDS = [
    pytest.param(MANAGED, "", "", id="managed"),
    pytest.param(replace(MANAGED, on_delete="remove"), "", "", id="managed, remove"),
    pytest.param(replace(MANAGED, observes_time=True), "", "", id="managed, times of observation"),
    pytest.param(replace(MANAGED, data_type="json"), "", "", id="managed, data as json"),
    pytest.param(UNMANAGED, "numeric", "jsonb", id="unmanaged"),
    pytest.param(UNMANAGED, "app.money", "app.document", id="unmanaged, domains"),
    pytest.param(UNMANAGED, "numeric", "json", id="unmanaged, json"),
    pytest.param(replace(VERSIONLESS, observes_time=True), "numeric", "jsonb", id="unmanaged, times of observation"),
    pytest.param(VERSIONLESS, "numeric", "jsonb", id="unmanaged, versions in the ledger"),
]


class DigitSource(ListSource):
    """Writes the text `#1.10#` of a record as the number 1.10."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for page in super().pages(request):
            yield replace(page, records=page.records.replace(b'"#', b"").replace(b'#"', b""))


def told(price: str, plan: str, rate: str = "0.0", version: int = 1) -> ListSource:
    data = {"price": f"#{price}#", "plan": {"rates": [f"#{plan}#"]}, "rate": f"#{rate}#"}
    return DigitSource([[record("a", version, data=data), record("b", 1, data={"price": 1, "plan": None})]])


def made(url: str, of: Collection, price: str, plan: str) -> None:
    if of.unmanaged is not None:
        rate = "app.factor" if plan.startswith("app.") else "double precision"
        version = "v bigint not null, " if "updated_idx" in of.unmanaged.columns else ""
        execute(
            url,
            "create schema app",
            "create domain app.money as numeric",
            "create domain app.document as jsonb",
            "create domain app.factor as double precision",
            f"create table app.thing (id text primary key, {version}price {price}, plan {plan}, rate {rate}, data jsonb)",
        )
    sync(url, of=of, source=told("1.1", "1.1"), run_id="first")


@pytest.mark.parametrize(("of", "price", "plan"), KINDS)
@pytest.mark.parametrize(
    "digits", [("1.10", "1.1", "0.0"), ("1.1", "1.10", "0.0"), ("1.1", "1.1", "-0.0"), ("1.100", "1.10000", "-0.0")]
)
def test_equal_numbers_with_other_digits_are_written_and_then_known(
    warehouse_url: str, of: Collection, price: str, plan: str, digits: tuple[str, str, str]
) -> None:
    made(warehouse_url, of, price, plan)
    version = 2 if of.observes_time else 1

    second = sync(warehouse_url, of=of, source=told(*digits, version=version), run_id="second", full_refresh=True)
    third = sync(warehouse_url, of=of, source=told(*digits, version=version), run_id="third", full_refresh=True)

    stored = query(warehouse_url, f"select price::text, plan::text, rate::text from {of.table} where id = 'a'")
    assert stored == [(digits[0], f'{{"rates": [{digits[1]}]}}', digits[2].removesuffix(".0"))]
    assert (second.counts.updated, second.counts.unchanged) == (1, 1)
    assert third.counts == Counts(fetched=2, unchanged=2)


@pytest.mark.parametrize("of", [UNMANAGED, VERSIONLESS])
def test_digits_that_the_column_has_by_its_own_type_are_no_change(warehouse_url: str, of: Collection) -> None:
    made(warehouse_url, of, "numeric(10,3)", "jsonb")

    again = sync(warehouse_url, of=of, source=told("1.10", "1.1"), run_id="again", full_refresh=True)

    assert query(warehouse_url, "select price::text from app.thing where id = 'a'") == [("1.100",)]
    assert again.counts == Counts(fetched=2, unchanged=1, updated=1, rewritten=1)


@pytest.mark.parametrize("version", [None, "v"])
def test_digits_of_a_frame_s_decimals_are_no_change(warehouse_url: str, version: str | None) -> None:
    """They are those of the column's longest value, and so change with rows beside."""
    table = TableName("app", "prices")

    def write(*prices: str) -> Counts:
        frame = pd.DataFrame({"id": range(len(prices)), "v": 1, "price": list(map(Decimal, prices))})
        return write_frame(Warehouse(warehouse_url), table, frame, key=("id",), version=version, run_id="r").counts

    write("1.1")
    second = write("1.1", "2.225")

    assert query(warehouse_url, "select price::text from app.prices order by id") == [("1.1",), ("2.225",)]
    assert second == Counts(fetched=2, inserted=1, unchanged=1, created=1)
