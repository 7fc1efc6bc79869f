"""What docs/collections.md says of `data: json` is run as it stands there, on a table that has it."""

import re
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.catalog import DataType, TableName
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.source_lookup import is_as_stored
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query
from tests.support.syncing import sync

PAGE = Path(__file__).parents[2] / "docs" / "collections.md"


def test_an_index_and_a_view_bring_containment_back_to_a_table_whose_data_is_json(warehouse_url: str) -> None:
    section = PAGE.read_text().split("## `data` as json\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    index, view, question = block.strip().split(";\n")
    of = replace(collection(columns=()), table=TableName("stripe", "charge"), data_type="json")
    objects = {"r1": {"disputed": True}, "r2": {"disputed": False}, "r3": {"disputed": True}}
    records = [record(name, 1, data=data, deleted=name == "r3") for name, data in objects.items()]
    sync(warehouse_url, records, of=of)

    execute(warehouse_url, index, view)
    sync(warehouse_url, [*records, record("r4", 2, data={"disputed": True})], of=of, run_id="with the index", full_refresh=True)

    assert query(warehouse_url, question) == [("r1",), ("r4",)]
    assert query(warehouse_url, "select distinct pg_typeof(data)::text from stripe.charge") == [("json",)]
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("set local enable_seqscan = off")
        plan = connection.execute(f"explain (costs off) {question}".encode()).fetchall()
    assert ("  ->  Bitmap Index Scan on charge_is_disputed",) in plan


@pytest.mark.parametrize(
    ("data_type", "found", "expected"),
    [
        ("jsonb", '{"b": 1, "a": 2}', True),
        ("jsonb", '{"a":2,"b":1}', True),
        ("json", '{"b": 1, "a": 2}', True),
        ("json", '{"a":2,"b":1}', False),
        ("json", '{"b": 1, "a": 2, "b": 1}', False),
    ],
)
def test_the_source_s_object_is_as_it_is_stored_by_its_value_or_by_its_text(
    data_type: DataType, found: str, expected: object
) -> None:
    of = replace(collection(), data_type=data_type)

    assert is_as_stored(of, found, {"data": '{"b": 1, "a": 2}'}) is expected


def test_the_rows_that_a_plan_shows_name_the_keys_of_a_json_object_that_change(warehouse_url: str) -> None:
    of = replace(collection(), data_type="json")
    sync(warehouse_url, [record("r1", 1, data={"status": "old", "amount": 1})], of=of)
    source = ListSource([[record("r1", 1)], [record("r1", 2, data={"status": "new", "amount": 1})]])

    found = dry_run(source, Warehouse(warehouse_url), of)

    (difference,) = found.differences
    changes = {name: (old, new) for name, old, new in difference.changes}
    assert changes["data.status"] == ('"old"', '"new"')
    assert "data.amount" not in changes
