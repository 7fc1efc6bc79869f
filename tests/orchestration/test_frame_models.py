"""The printed models include the tables of assets that return frames."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sequin_pipeline.catalog import TableName
from sequin_pipeline.defs.active_subscriptions_per_plan import active_subscriptions_per_plan
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import ModelColumn, ModelTable
from sequin_pipeline.orchestration.frame_models import frame_models
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import write_frame
from tests.orchestration.files import write
from tests.support.reading import execute, query

SHAPE = (
    "select attname::text, format_type(atttypid, atttypmod), attnotnull from pg_attribute where attnum > 0"
    " and attrelid = 'stripe.active_subscriptions_per_plan'::regclass order by attnum"
)
ASSET = """
import dagster as dg
import pandas as pd

@dg.asset(key=["marts", "{name}"], metadata={{"sequin_pipeline/key": {key}{schema}}})
def {name}() -> pd.DataFrame: ...
"""
SCHEMA = ', "dagster/column_schema": dg.TableSchema([{columns}])'
ID = 'dg.TableColumn("id", type="bigint")'


def test_the_shipped_asset_declares_the_columns_of_its_table(warehouse_url: str, make_database: Callable[[], str]) -> None:
    model = frame_models({}).tables["stripe/active_subscriptions_per_plan"]
    columns = {"plan_id": ["a"], "status": ["active"], "currency": ["eur"], "quantity": [1], "deleted": [False]}
    frame = active_subscriptions_per_plan(pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"))
    assert isinstance(frame, pd.DataFrame)
    write_frame(Warehouse(warehouse_url), model.name, frame, key=("plan_id",), version=None, run_id="r")
    theirs = make_database()

    execute(theirs, FORMATS["sql"]([model]))

    assert query(theirs, SHAPE) == query(warehouse_url, SHAPE)
    assert [row[0] for row in query(theirs, SHAPE)] == ["plan_id", "currency", "subscriptions", "quantity"]


@pytest.mark.parametrize(
    ("key", "key_columns"), [('"id"', {"id"}), ('["id", "of"]', {"id", "of"})], ids=["one column", "two columns"]
)
def test_an_asset_in_a_folder_of_ones_own_is_told_if_it_declares_its_columns(
    tmp_path: Path, key: str, key_columns: set[str]
) -> None:
    environment = write(tmp_path, demo="  provider: demo\n  collections: {thing: {}}\n")
    columns = f'{ID}, dg.TableColumn("of", type="text"), dg.TableColumn("tags", type="text[]")'
    for name, schema in (("told", SCHEMA.format(columns=columns)), ("untold", "")):
        (tmp_path / f"{name}.py").write_text(ASSET.format(name=name, key=key, schema=schema))

    found = frame_models(environment)

    expected = [("id", "bigint"), ("of", "text"), ("tags", "text[]")]
    assert (dict(found.tables), found.untold) == (
        {
            "marts/told": ModelTable(
                TableName("marts", "told"),
                tuple(
                    ModelColumn(name, kind, name not in key_columns, name in key_columns, "", holds_nulls=kind == "text[]")
                    for name, kind in expected
                ),
                "",
            )
        },
        ["marts/untold"],
    )


def test_a_type_that_no_column_has_is_refused(tmp_path: Path) -> None:
    environment = write(tmp_path, demo="  provider: demo\n  collections: {thing: {}}\n")
    schema = SCHEMA.format(columns='dg.TableColumn("id", type="int64")')
    (tmp_path / "wrong.py").write_text(ASSET.format(name="wrong", key='"id"', schema=schema))

    with pytest.raises(
        ConfigurationError, match="asset 'marts/wrong' declares column 'id' of type 'int64' in dagster/column_schema"
    ):
        frame_models(environment)


def test_collections_are_no_frames() -> None:
    found = frame_models({})

    assert ([*found.tables], [*found.untold]) == (["stripe/active_subscriptions_per_plan"], [])
