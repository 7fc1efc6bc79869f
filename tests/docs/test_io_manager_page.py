"""The page about the IO manager: its examples run as they are printed, and its tables say what the code does."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import dagster as dg
import pandas as pd
import psycopg
import pyarrow as pa
import pytest

from sequin_pipeline.catalog import MAX_COLUMNS
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.orchestration import io_manager
from sequin_pipeline.orchestration.run_metadata import frame_metadata
from sequin_pipeline.runs.frame_run import FrameOutcome
from sequin_pipeline.table.frame_columns import Misfit, arrow_values
from sequin_pipeline.table.frame_target import VERSION_TYPES
from sequin_pipeline.table.frame_values import frame_type, new_type
from tests.support.checkout import CHECKOUT

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

PAGE = (CHECKOUT / "docs" / "io-manager.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_has_two_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 2


@pytest.mark.parametrize(("program", "printed"), EXAMPLES, ids=["a table", "partitions"])
def test_an_example_of_the_page_prints_what_the_page_says(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, printed: str
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    namespace: dict[str, Any] = {"__name__": "__main__"}

    exec(compile(program, "docs/io-manager.md", "exec"), namespace)

    assert capsys.readouterr().out == printed


def test_the_first_example_writes_nothing_the_second_time(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    program = compile(EXAMPLES[0][0], "docs/io-manager.md", "exec")

    for _ in range(2):
        exec(program, {"__name__": "__main__"})

    assert capsys.readouterr().out.splitlines()[2:] == ["marts.plans 0 2", "marts.large_plans 0 1"]
    assert "`marts.plans 0 2` and `marts.large_plans 0 1`" in PAGE
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select count(*) from marts.large_plans").fetchone() == (1,)


# ---- the tables of the page

ROWS = re.findall(r"^\| (.*?) \|(.*)\|$", PAGE, flags=re.MULTILINE)

SAMPLES: Mapping[str, Mapping[str, "pd.Series[Any]"]] = {
    "`str`, `string`": {
        "`str`": pd.Series(["1"], dtype="str"),
        "`string`": pd.Series(["00000000-0000-0000-0000-000000000001"], dtype="string"),
        "`large_string`": pd.Series(["{}"], dtype=pd.ArrowDtype(pa.large_string())),
        "`string_view`": pd.Series(["1"], dtype=pd.ArrowDtype(pa.string_view())),
        "objects of `str`": pd.Series(["1"], dtype=object),
        "categories of them": pd.Series(["1"], dtype="category"),
    },
    "`bool`": {
        "`bool`": pd.Series([True]),
        "`boolean`": pd.Series([True], dtype="boolean"),
        "`bool8`": pd.Series(pd.arrays.ArrowExtensionArray(pa.array([True]).cast(pa.bool8()))),
    },
    "`int8`": {f"`{name}`": pd.Series([1], dtype=name) for name in ("int8", "int16", "int32", "uint8", "uint16")},
    "`int64`": {f"`{name}`": pd.Series([1], dtype=name) for name in ("int64", "uint32", "uint64")},
    "`float16`": {f"`{name}`": pd.Series([1.0], dtype=name) for name in ("float16", "float32", "float64")},
    "`decimal32`": {
        "`decimal32`": pd.Series([Decimal("1.0")], dtype=pd.ArrowDtype(pa.decimal32(5, 1))),
        "`decimal256`": pd.Series([Decimal("1.0")], dtype=pd.ArrowDtype(pa.decimal256(50, 1))),
        "objects of `Decimal`": pd.Series([Decimal("1.0")]),
    },
    "`date32`": {
        "`date32`": pd.Series([date(2026, 1, 1)], dtype=pd.ArrowDtype(pa.date32())),
        "`date64`": pd.Series([date(2026, 1, 1)], dtype=pd.ArrowDtype(pa.date64())),
        "objects of `date`": pd.Series([date(2026, 1, 1)]),
    },
    "times with a zone": {"of any unit": pd.Series([datetime(2026, 1, 1, tzinfo=UTC)])},
    "times without zone": {"times": pd.Series([datetime(2026, 1, 1)])},  # noqa: DTZ001 - without zone is what the row is about
    "`uuid`": {
        "`uuid`": pd.Series(pd.arrays.ArrowExtensionArray(pa.array([UUID(int=1).bytes], pa.binary(16)).cast(pa.uuid()))),
        "objects of `UUID`": pd.Series([UUID(int=1)]),
    },
    "lists of strings": {
        "lists of strings": pd.Series([["a"]]),
        "large": pd.Series([["a"]], dtype=pd.ArrowDtype(pa.large_list(pa.string()))),
        "of fixed size": pd.Series([["a"]], dtype=pd.ArrowDtype(pa.list_(pa.string(), 1))),
    },
    "lists of integers": {
        "integers": pd.Series([[1]]),
        "lists": pd.Series([[1]], dtype=pd.ArrowDtype(pa.list_(pa.int32()))),
    },
    "complex numbers": {
        "complex numbers": pd.Series([1j]),
        "bytes": pd.Series([b"a"]),
        "times of day": pd.Series([time(1)]),
        "spans": pd.Series([timedelta(1)]),
        "intervals": pd.Series([pd.Interval(1, 2)]),
        "periods": pd.Series([pd.Period("2026-01")]),
        "structs": pd.Series([{"a": 1}]),
        "lists of other values": pd.Series([[1.5]]),
        "sparse columns": pd.Series(pd.arrays.SparseArray([1.5])),
    },
    "objects of several types": {"objects of several types": pd.Series([date(2026, 1, 1), time(1)])},
}
"""Values of each dtype that a row of the page names, small enough for every type that takes them at all."""

SHORT = {
    "character varying": "varchar",
    "character varying[]": "varchar[]",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}
TYPES = (*SHORT, "text", "boolean", "smallint", "integer", "bigint", "numeric", "real", "double precision", "date", "uuid")
LISTS = ("text[]", "smallint[]", "integer[]", "bigint[]", "jsonb")


def row_of(beginning: str) -> tuple[str, list[str]]:
    """The first cell and the others; a cell that says "as above" is that of the row before."""
    (position,) = [position for position, (first, _) in enumerate(ROWS) if first.startswith(beginning)]
    first, others = ROWS[position]
    above = ROWS[position - 1][1].split("|")
    return first, [above[i] if cell.strip() == "as above" else cell for i, cell in enumerate(others.split("|"))]


def new_types(values: "pd.Series[Any]") -> set[str]:
    try:
        return {str(new_type(arrow_values(values)))}
    except Misfit:
        return set()


def takes(type_name: str, values: "pd.Series[Any]") -> bool:
    try:
        frame_type(type_name).take(arrow_values(values))
    except Misfit:
        return False
    return True


@pytest.mark.parametrize("beginning", SAMPLES)
def test_each_dtype_makes_the_column_that_its_row_says(beginning: str) -> None:
    first, (makes, *_) = row_of(beginning)
    samples = SAMPLES[beginning]

    assert [word for word in samples if word not in first] == [], (
        f"the row {first!r} no longer names these: change SAMPLES with it"
    )
    made = set().union(*(new_types(values) for values in samples.values()))
    assert made == set(re.findall(r"`([^`]+)`", makes))


@pytest.mark.parametrize("beginning", SAMPLES)
def test_each_dtype_fits_the_columns_that_its_row_says(beginning: str) -> None:
    _, (_, there, *_) = row_of(beginning)
    fitting = {name for name in (*TYPES, *LISTS) if any(takes(name, values) for values in SAMPLES[beginning].values())}

    assert {SHORT.get(name, name) for name in fitting} == {
        name.partition("(")[0] for name in re.findall(r"`([a-z][^`]*)`", there)
    }


def test_every_key_of_metadata_is_named() -> None:
    told = frame_metadata(FrameOutcome(Counts(), 0, ("x",)))
    read = (io_manager.KEY, io_manager.VERSION, io_manager.TAKES_OVER, io_manager.LIVE_ONLY, io_manager.COLUMNS)

    missing = [name for name in ("dagster/table_name", *told, *read) if not re.search(rf"`{name}(: true)?`", PAGE)]
    assert missing == [], "docs/io-manager.md does not name these keys"
    assert f"the {MAX_COLUMNS:,} that a table" in PAGE
    assert set(VERSION_TYPES) == {"smallint", "integer", "bigint"}


def test_every_setting_is_named() -> None:
    assert set(io_manager.PostgresMergeIOManager.model_fields) - set(dg.ConfigurableIOManager.model_fields) == {
        "warehouse",
        "ledger_schema",
    }
    assert "`PostgresMergeIOManager(warehouse=…, ledger_schema=" in PAGE
