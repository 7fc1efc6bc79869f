"""What docs/collections.md says of `data: json` is run as it stands there, on a table that has it."""

import re
from dataclasses import replace
from pathlib import Path

import psycopg

from sequin_pipeline.catalog import TableName
from tests.support.builders import collection, record
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
