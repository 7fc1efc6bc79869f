"""Columns may have any name that a declaration takes, also those that the pipeline uses for itself on the way."""

import psycopg
import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.collection_run import run_sync
from tests.support.builders import collection, live_stream, record


@pytest.mark.parametrize("name", ["position", "object_version", "verdict", "tid", "window_index", "excluded", "user"])
def test_a_column_of_this_name_keeps_its_values(warehouse_url: str, name: str) -> None:
    """A product's image has a `position`, as has a comment on a line of code."""
    declared = collection(columns=(Column(name, parse_path("rank"), "bigint"),))
    stream = live_stream(
        declared,
        [record("a", 1, data={"rank": 70}), record("b", 2, data={"rank": 80})],
        [record("b", 3, deleted=True, data=None), record("c", 4, data={"rank": 90})],
    )

    run_sync(stream, Warehouse(warehouse_url), run_id="run-1")

    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute(f'select id, "{name}" from demo.thing order by id'.encode()).fetchall()
    assert rows == [("a", 70), ("b", 80), ("c", 90)]
