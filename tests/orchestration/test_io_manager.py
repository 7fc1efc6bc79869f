"""The IO manager in somebody else's small Dagster project, and under the asset of a collection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pyarrow as pa
import pytest

from sequin_pipeline.catalog import Collection, Column, TableName, Windows, parse_path
from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.orchestration.assets import build_asset
from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.partitions import build_partitions
from sequin_pipeline.orchestration.resources import IO_MANAGER, SOURCE, WarehouseResource
from sequin_pipeline.orchestration.run_metadata import COUNT_DESCRIPTIONS
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.sources import Page, ReadRequest, SourceIdentity
from sequin_pipeline.windows import start_of, windows_between
from tests.support.builders import ListSource, record

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

KEY = "sequin_pipeline/key"
VERSION = "sequin_pipeline/version"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass
class Shop:
    """A project with one table, `shop.orders`, and one reader of it."""

    warehouse_url: str
    instance: dg.DagsterInstance
    loaded: list[pd.DataFrame] = field(default_factory=list)

    @property
    def resources(self) -> dict[str, object]:
        io_manager = PostgresMergeIOManager(warehouse=WarehouseResource(url=self.warehouse_url))
        return {"io_manager": io_manager, IO_MANAGER: io_manager}

    def orders(
        self, returned: object, partitions: dg.PartitionsDefinition | None = None, **metadata: object
    ) -> dg.AssetsDefinition:
        @dg.asset(key=["shop", "orders"], metadata=metadata, partitions_def=partitions)
        def orders() -> Any:  # whatever a test has it return
            return returned

        return orders

    def reader(self, partitions: dg.PartitionsDefinition | None = None, **metadata: object) -> dg.AssetsDefinition:
        @dg.asset(
            ins={"orders": dg.AssetIn(["shop", "orders"], metadata=metadata)}, partitions_def=partitions, io_manager_key="memory"
        )
        def reader(orders: pd.DataFrame) -> None:
            self.loaded.append(orders)

        return reader

    def deliver(self, returned: object, *, partition_key: str | None = None, **arguments: Any) -> dg.ExecuteInProcessResult:
        """Materializes `shop.orders` with what is returned; arguments are those of `orders`."""
        return self.materialize([self.orders(returned, **arguments)], partition_key=partition_key)

    def load(self, writer: dg.AssetsDefinition, reader: dg.AssetsDefinition, **arguments: Any) -> pd.DataFrame:
        """What the reader is given."""
        result = self.materialize([writer, reader], selection=[reader], **arguments)
        assert result.success, failure(result)
        return self.loaded[-1]

    def materialize(self, assets: Sequence[dg.AssetsDefinition], **arguments: Any) -> dg.ExecuteInProcessResult:
        resources = {**self.resources, "memory": dg.mem_io_manager}
        return dg.materialize(assets, resources=resources, instance=self.instance, raise_on_error=False, **arguments)

    def rows(self, statement: str = "select * from shop.orders order by 1") -> list[tuple[object, ...]]:
        with psycopg.connect(self.warehouse_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.warehouse_url) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def shop(warehouse_url: str) -> Iterator[Shop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(warehouse_url, instance)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None, event.step_failure_data.error
    return str(data.description)


def retries(result: dg.ExecuteInProcessResult) -> int:
    return len(result.filter_events(lambda event: event.is_step_up_for_retry))


FATES = ("fetched", "inserted", "updated", "deleted", "unchanged", "stale", "duplicate", "rejected")


def written(result: dg.ExecuteInProcessResult) -> dict[str, int]:
    """The counts of the one materialization that are not 0, and the table's rows."""
    assert result.success, failure(result)
    (materialization,) = result.asset_materializations_for_node("shop__orders")
    counts = {name: materialization.metadata[name].value for name in FATES if materialization.metadata[name].value}
    return counts | {"rows": materialization.metadata["dagster/row_count"].value}  # type: ignore[return-value]  # integers


@pytest.mark.parametrize(
    ("values", "sql_type", "stored", "loaded"),
    [
        pytest.param(pd.Series(["a", "", None]), "text", ["a", "", None], None, id="text"),
        pytest.param(pd.Series([2**53 + 1, -(2**63), 0]), "bigint", [2**53 + 1, -(2**63), 0], None, id="64 bits"),
        pytest.param(pd.Series([1, 2, 3], dtype="int32"), "integer", [1, 2, 3], None, id="32 bits"),
        pytest.param(pd.Series([1, None, 3], dtype="Int64"), "bigint", [1, None, 3], None, id="nullable integers"),
        pytest.param(pd.Series([0.1, None, 1e300]), "double precision", [0.1, None, 1e300], None, id="doubles"),
        pytest.param(pd.Series([True, False, None], dtype="boolean"), "boolean", [True, False, None], None, id="booleans"),
        pytest.param(
            pd.Series([date(2024, 2, 29), None, date(1, 1, 1)]),
            "date",
            [date(2024, 2, 29), None, date(1, 1, 1)],
            None,
            id="dates",
        ),
        pytest.param(
            pd.Series(pd.to_datetime(["2024-05-01 14:00:00.000000", None, "2024-05-01 14:00:00.000001"])).dt.tz_localize(
                "Europe/Berlin"
            ),
            "timestamp with time zone",
            [NOON, None, NOON.replace(microsecond=1)],
            None,
            id="times of a zone",
        ),
        pytest.param(
            pd.Series([Decimal("12345678901234567890.12345678901234567"), None, Decimal("-0.10")]),
            "numeric",
            [Decimal("12345678901234567890.12345678901234567"), None, Decimal("-0.10000000000000000")],
            ["12345678901234567890.12345678901234567", None, "-0.10000000000000000"],
            id="decimals",
        ),
        pytest.param(
            pd.Series([["a,b", 'say "no"', "{}", "NULL", "", "\\"], [], [None]]),
            "text[]",
            [["a,b", 'say "no"', "{}", "NULL", "", "\\"], [], [None]],
            None,
            id="lists of strings",
        ),
    ],
)
def test_a_column_comes_back_as_it_was(
    shop: Shop, values: "pd.Series[Any]", sql_type: str, stored: list[object], loaded: list[object] | None
) -> None:
    frame = pd.DataFrame({"id": ["1", "2", "3"], "value": values})
    writer = shop.orders(frame, **{KEY: "id"})

    result = shop.materialize([writer])
    found = shop.load(writer, shop.reader())

    assert result.success, failure(result)
    assert shop.rows("select pg_typeof(value)::text, value from shop.orders order by id") == [
        (sql_type, value) for value in stored
    ]
    assert pa.array(found.sort_values("id")["value"]).to_pylist() == (loaded or stored)


SIMPLE = pd.DataFrame({"id": [1, 2], "total": [10, 20]})


@pytest.mark.parametrize(
    ("returned", "metadata", "message"),
    [
        pytest.param(
            SIMPLE,
            {},
            "asset 'shop/orders' returned a DataFrame without saying which columns identify a row: give it the metadata "
            '"sequin_pipeline/key", as in metadata={"sequin_pipeline/key": ["id"]}',
            id="no key",
        ),
        pytest.param(
            {"id": 1},
            {KEY: "id"},
            "asset 'shop/orders' returned a dict, and this IO manager writes a RecordStream or a pandas DataFrame: return one of them, "
            "or give the asset another IO manager",
            id="no frame",
        ),
        pytest.param(
            SIMPLE,
            {KEY: ["id", "shop_id"]},
            "the frame for table 'shop.orders' has no column 'shop_id', which its metadata names as key: its columns are 'id', 'total'",
            id="key that is no column",
        ),
        pytest.param(
            pd.DataFrame({"id": ["a", None]}),
            {KEY: "id"},
            "1 rows of the frame for table 'shop.orders' have no value in the key (id): a row without a key cannot be found again; "
            "fill it or drop those rows",
            id="null key",
        ),
        pytest.param(
            pd.DataFrame({"id": [1, 2, 1], "total": [1, 2, 3]}),
            {KEY: "id"},
            "the frame for table 'shop.orders' holds the key ('1',) more than once, and no version says which is newest: "
            "drop the duplicates, or name a version column with the metadata sequin_pipeline/version",
            id="repeated key without version",
        ),
        pytest.param(
            pd.DataFrame({"id": [1], "version": ["7"]}),
            {KEY: "id", VERSION: "version"},
            "the version column 'version' of table 'shop.orders' is not an integer column: give it dtype int64",
            id="version that is no integer",
        ),
        pytest.param(
            pd.DataFrame({"id": [1, 2], "version": pd.array([7, None], "Int64")}),
            {KEY: "id", VERSION: "version"},
            "some rows of the frame for table 'shop.orders' have no version in 'version': fill it",
            id="row without version",
        ),
        pytest.param(
            pd.DataFrame({"id": [1], "at": pd.to_datetime(["2024-05-01 12:00"])}),
            {KEY: "id"},
            "column 'at' of the frame for table 'shop.orders' holds times without zone: say which with dt.tz_localize",
            id="times without zone",
        ),
        pytest.param(
            pd.DataFrame({"id": [1, 2], "value": pd.Series([1, "two"], dtype=object)}),
            {KEY: "id"},
            "column 'value' of the frame for table 'shop.orders' holds values of several types (integers, strings): give it one",
            id="mixed objects",
        ),
        pytest.param(
            pd.DataFrame([[1, 2]], columns=["id", 0]),
            {KEY: "id"},
            "the frame for table 'shop.orders' has a column named 0: name each column with a string",
            id="column without a name",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_and_nothing_is_made(
    shop: Shop, returned: object, metadata: dict[str, object], message: str
) -> None:
    result = shop.deliver(returned, **metadata)

    assert failure(result) == message
    assert retries(result) == 0
    assert shop.rows("select to_regclass('shop.orders')") == [(None,)]


def test_rows_are_merged_by_key_and_absent_ones_left_alone(shop: Shop) -> None:
    first = shop.deliver(pd.DataFrame({"id": [1, 2, 3], "total": [10, 20, 30]}), **{KEY: "id"})
    again = shop.deliver(pd.DataFrame({"id": [2, 3, 4], "total": [20, 33, 40]}), **{KEY: "id"})

    assert written(first) == {"fetched": 3, "inserted": 3, "rows": 3}
    assert written(again) == {"fetched": 3, "inserted": 1, "updated": 1, "unchanged": 1, "rows": 4}
    assert shop.rows() == [(1, 10), (2, 20), (3, 33), (4, 40)]


def test_the_greatest_version_wins_within_a_frame_and_across_frames(shop: Shop) -> None:
    metadata = {KEY: ["id"], VERSION: "v"}
    first = shop.deliver(pd.DataFrame({"id": [1, 1, 2], "v": [5, 4, 5], "total": [15, 14, 25]}), **metadata)
    again = shop.deliver(pd.DataFrame({"id": [1, 2, 3], "v": [4, 6, 1], "total": [0, 26, 31]}), **metadata)

    assert written(first) == {"fetched": 3, "inserted": 2, "duplicate": 1, "rows": 2}
    assert written(again) == {"fetched": 3, "inserted": 1, "updated": 1, "stale": 1, "rows": 3}
    assert shop.rows() == [(1, 5, 15), (2, 6, 26), (3, 1, 31)]


def test_a_key_may_have_several_columns(shop: Shop) -> None:
    metadata = {KEY: ["shop", "number"]}
    shop.deliver(pd.DataFrame({"shop": ["a", "a", "b"], "number": [1, 2, 1], "total": [1, 2, 3]}), **metadata)

    result = shop.deliver(pd.DataFrame({"shop": ["b", "b"], "number": [1, 2], "total": [33, 4]}), **metadata)

    assert written(result) == {"fetched": 2, "inserted": 1, "updated": 1, "rows": 4}
    assert shop.rows() == [("a", 1, 1), ("a", 2, 2), ("b", 1, 33), ("b", 2, 4)]


def test_a_column_called_position_keeps_its_values(shop: Shop) -> None:
    shop.deliver(pd.DataFrame({"id": [1, 2], "position": [70, 80]}), **{KEY: "id"})

    assert shop.rows() == [(1, 70), (2, 80)]


def test_an_empty_frame_makes_its_table_and_writes_nothing(shop: Shop) -> None:
    result = shop.deliver(SIMPLE.head(0), **{KEY: "id"})

    assert written(result) == {"rows": 0}
    assert shop.rows() == []


def test_a_table_of_somebody_else_is_written_where_its_key_is_unique(shop: Shop) -> None:
    shop.execute("create schema shop; create table shop.orders (id bigint unique, total bigint, note text default 'theirs')")
    shop.execute("insert into shop.orders values (1, 1, 'kept')")

    result = shop.deliver(SIMPLE, **{KEY: "id"})

    assert written(result) == {"fetched": 2, "inserted": 1, "updated": 1, "rows": 2}
    assert shop.rows() == [(1, 10, "kept"), (2, 20, "theirs")]


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        pytest.param(
            "create table shop.orders (id bigint, total bigint)",
            "table 'shop.orders' of 'shop.orders' has no primary key or unique constraint on (id), by which versions of a row replace "
            'each other: add one, as in `alter table "shop"."orders" add primary key ("id")`',
            id="no key",
        ),
        pytest.param(
            "create table shop.orders (id bigint primary key)",
            "table 'shop.orders' exists already, this pipeline did not create it, and it has no column 'total': add the column, or leave "
            "it out of the frame",
            id="a column less",
        ),
        pytest.param(
            "create table shop.orders (id bigint primary key, total text)",
            "column 'total' of the frame for table 'shop.orders', there of type 'text', holds int64: write texts, as in "
            'astype("string"), where no zeros in front have been lost',
            id="another type",
        ),
    ],
)
def test_a_table_of_somebody_else_that_does_not_fit_is_refused_unchanged(shop: Shop, ddl: str, message: str) -> None:
    shop.execute(f"create schema shop; {ddl}")
    columns = "select column_name, data_type from information_schema.columns where table_schema = 'shop' order by 1"
    before = shop.rows(columns)

    result = shop.deliver(SIMPLE, **{KEY: "id"})

    assert failure(result) == message
    assert (shop.rows(), shop.rows(columns)) == ([], before)


def test_a_column_without_a_value_is_told_in_the_notes_and_comes_later(shop: Shop) -> None:
    result = shop.deliver(pd.DataFrame({"id": [1], "note": [None]}), **{KEY: "id"})
    shop.deliver(pd.DataFrame({"id": [2], "note": ["late"]}), **{KEY: "id"})

    (materialization,) = result.asset_materializations_for_node("shop__orders")
    assert materialization.metadata["notes"].value == (
        "no value and no dtype tell the type of 'note': the table gets them with their first value"
    )
    assert shop.rows() == [(1, None), (2, "late")]


def test_an_input_names_its_columns_and_may_leave_out_tombstones(shop: Shop) -> None:
    frame = pd.DataFrame({"id": [1, 2], "total": [10, 20], "deleted": [False, True]})
    writer = shop.orders(frame, **{KEY: "id"})
    shop.materialize([writer])

    found = shop.load(writer, shop.reader(**{"columns": ["total", "id"], "sequin_pipeline/live_only": True}))

    assert list(found.columns) == ["total", "id"]
    assert found.to_dict("records") == [{"total": 10, "id": 1}]


def test_an_input_that_names_no_column_of_the_table_is_refused(shop: Shop) -> None:
    writer = shop.orders(SIMPLE, **{KEY: "id"})
    shop.materialize([writer])

    result = shop.materialize([writer, reader := shop.reader(columns=["totals"])], selection=[reader])

    assert failure(result) == "table 'shop.orders' has no column 'totals': its columns are 'id', 'total'"


def test_the_input_of_a_partition_is_its_rows(shop: Shop) -> None:
    days = dg.DailyPartitionsDefinition("2024-05-01", end_date="2024-05-04")
    times = pd.to_datetime(["2024-04-30T23:59Z", "2024-05-01T23:59Z", "2024-05-02T00:00Z", "2024-05-03T00:00Z"])
    writer = shop.orders(pd.DataFrame({"id": [1, 2, 3, 4], "record_inserted_at": times}), partitions=days, **{KEY: "id"})
    shop.materialize([writer], partition_key="2024-05-02")

    first = shop.load(writer, shop.reader(partitions=days), partition_key="2024-05-01")
    second = shop.load(writer, shop.reader(partitions=days), partition_key="2024-05-02")
    whole = shop.load(writer, shop.reader())

    assert [sorted(frame["id"].tolist()) for frame in (first, second, whole)] == [[1, 2], [3], [1, 2, 3, 4]]
    assert shop.rows("select window_key, fetched from sequin_pipeline.merges") == [("2024-05-02", 4)]


THINGS = Collection(
    "demo",
    "thing",
    TableName("demo", "thing"),
    Windows("month", datetime(2024, 1, 1, tzinfo=UTC)),
    columns=(Column("amount", parse_path("amount"), "bigint"), Column("status", parse_path("status"), "text", is_required=True)),
)

DAYS = Windows("day", datetime(2024, 1, 1, tzinfo=UTC))


@pytest.fixture
def asks_for_60_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500, to which a live run keeps, Dagster writes an event each, which takes seconds."""
    monkeypatch.setattr("sequin_pipeline.read.stream.MOST_LIVE_WINDOWS", 60)


@dataclass(frozen=True)
class Opening:
    """A resource that opens one source."""

    source: ListSource

    def open(self, collection: object) -> ListSource:
        return self.source


def sync(shop: Shop, source: ListSource, first: str, last: str) -> dg.ExecuteInProcessResult:
    """A live run of demo/thing over these windows."""
    return read(shop, source, first, last, mode="live")


def backfill(shop: Shop, source: ListSource, first: str, last: str) -> dg.ExecuteInProcessResult:
    return read(shop, source, first, last, mode="backfill")


def read(shop: Shop, source: ListSource, first: str, last: str, *, mode: str | None) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    if mode is not None:
        tags["sequin_pipeline/mode"] = mode
    return dg.materialize(
        [build_asset(THINGS, retry_policy=dg.RetryPolicy(max_retries=1, delay=0))],
        resources={**shop.resources, SOURCE: Opening(source)},
        instance=shop.instance,
        tags=tags,
        raise_on_error=False,
    )


def of_month(month: int, record_id: str, version: int, **overrides: object) -> dict[str, object]:
    return record(record_id, version, inserted_at=f"2024-{month:02}-15T00:00:00Z", **overrides)


@pytest.mark.usefixtures("asks_for_60_windows")
def test_an_asset_of_ones_own_over_more_windows_than_a_live_run_asks_for_tells_their_counts_by_observations(shop: Shop) -> None:
    """Metadata of its own for each of 43,069 windows took more than an hour: Dagster goes over all of them for each."""
    keys = windows_between(DAYS, DAYS.start, DAYS.start + timedelta(days=61))
    config = RunConfig(
        THINGS,
        "backfill",
        None,
        partition_keys=keys,
        window_starts=tuple(start_of(DAYS, key) for key in keys),
        full_refresh=True,
    )
    source = ListSource([[of_month(1, "a", 1), of_month(1, "b", 2), of_month(2, "a", 3), of_month(9, "c", 4)]])

    @dg.asset(key=["demo", "thing"], partitions_def=build_partitions(DAYS), backfill_policy=dg.BackfillPolicy.single_run())
    def own() -> RecordStream:
        return RecordStream(config, source)

    result = dg.materialize(
        [own],
        resources={"io_manager": PostgresMergeIOManager(warehouse=WarehouseResource(url=shop.warehouse_url))},
        instance=shop.instance,
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
    )

    observed = [
        (each.partition, *(each.metadata[name].value for name in ("fetched", "inserted", "duplicate")))
        for each in result.get_asset_observation_events()
        for each in [each.asset_observation_data.asset_observation]
    ]
    assert observed == [("2024-01-15", 2, 1, 1), ("2024-02-15", 1, 1, 0), ("2024-03-01", 1, 1, 0)]
    materialized = result.asset_materializations_for_node("demo__thing")
    assert not {name for each in materialized for name in each.metadata} & set(FATES)
    assert [each.partition for each in materialized if "pages" in each.metadata] == [keys[-1]]


@pytest.mark.usefixtures("asks_for_60_windows")
def test_an_asset_over_more_windows_than_a_live_run_asks_for_tells_their_counts_by_observations(shop: Shop) -> None:
    daily = replace(THINGS, windows=DAYS)
    source = ListSource([[of_month(1, "a", 1), of_month(1, "b", 2), of_month(2, "a", 3)]])
    tags = {
        "dagster/asset_partition_range_start": "2024-01-01",
        "dagster/asset_partition_range_end": "2024-03-01",
        "sequin_pipeline/mode": "live",
    }

    result = dg.materialize(
        [build_asset(daily, retry_policy=dg.RetryPolicy(max_retries=0))],
        resources={**shop.resources, SOURCE: Opening(source)},
        instance=shop.instance,
        tags=tags,
    )

    observed = [
        (each.partition, *(each.metadata[name].value for name in ("fetched", "inserted", "duplicate")))
        for each in result.get_asset_observation_events()
        for each in [each.asset_observation_data.asset_observation]
        if each.partition is not None
    ]
    assert observed == [("2024-01-15", 2, 1, 1), ("2024-02-15", 1, 1, 0)]
    materialized = result.asset_materializations_for_node("demo__thing")
    assert len(materialized) == 61
    assert not {name for each in materialized for name in each.metadata} & set(FATES)
    assert [each.partition for each in materialized if "pages" in each.metadata] == ["2024-03-01"]


def test_each_window_of_a_run_has_its_own_counts(shop: Shop) -> None:
    source = ListSource(
        [
            [of_month(1, "a", 1), of_month(1, "b", 2), of_month(2, "a", 3)],
            [
                of_month(2, "c", 4),
                of_month(3, "b", 5, deleted=True, data=None),
                of_month(3, "d", 6, data={"amount": "x", "status": ""}),
            ],
        ]
    )

    result = sync(shop, source, "2024-01", "2024-04")

    assert result.success, failure(result)
    metadata = {each.partition: each.metadata for each in result.asset_materializations_for_node("demo__thing")}
    counts = {key: tuple(values[name].value for name in FATES) for key, values in metadata.items()}
    assert counts == {
        "2024-01": (2, 0, 0, 0, 0, 0, 2, 0),
        "2024-02": (2, 2, 0, 0, 0, 0, 0, 0),
        "2024-03": (2, 0, 0, 1, 0, 0, 0, 1),
        "2024-04": (0, 0, 0, 0, 0, 0, 0, 0),
    }
    gained = {key: values["rows_gained"].value for key, values in metadata.items()}
    assert gained == {"2024-01": 0, "2024-02": 2, "2024-03": 1, "2024-04": 0}


def test_what_holds_for_the_whole_run_stands_with_its_newest_window_alone(shop: Shop) -> None:
    source = ListSource([[of_month(1, "a", 1)], [of_month(2, "b", 2), of_month(2, "c", 3, data={"amount": "x", "status": ""})]])

    result = sync(shop, source, "2024-01", "2024-04")

    metadata = {each.partition: each.metadata for each in result.asset_materializations_for_node("demo__thing")}
    run_wide = {"dagster/row_count": 2, "pages": 2, "open_rejects": 1, "cursor": "2", "lag_seconds": 0.0}
    assert {name: metadata["2024-04"][name].value for name in run_wide} == run_wide
    assert [metadata[key].keys() == COUNT_DESCRIPTIONS.keys() for key in ("2024-01", "2024-02", "2024-03")] == [True, True, True]


def test_a_number_that_is_not_the_rows_of_the_partition_does_not_have_dagsters_name_for_it(shop: Shop) -> None:
    again = ListSource([[of_month(1, "a", 1), of_month(1, "b", 2)]])
    sync(shop, again, "2024-01", "2024-01")

    result = backfill(shop, again, "2024-01", "2024-01")

    [materialization] = result.asset_materializations_for_node("demo__thing")
    assert "dagster/partition_row_count" not in materialization.metadata
    assert materialization.metadata["rows_gained"].value == 0


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        pytest.param("live", True, id="live"),
        pytest.param("backfill", False, id="a backfill"),
        pytest.param(None, False, id="the past"),
    ],
)
def test_only_a_live_run_tells_how_far_it_is_behind(shop: Shop, mode: str | None, *, told: bool) -> None:
    result = read(shop, ListSource([[of_month(1, "a", 1)]]), "2024-01", "2024-01", mode=mode)

    [materialization] = result.asset_materializations_for_node("demo__thing")
    assert ("lag_seconds" in materialization.metadata) is told


def test_every_number_of_a_materialization_is_explained_by_the_assets_definition(shop: Shop) -> None:
    result = sync(shop, ListSource([[of_month(1, "a", 1), of_month(1, "b", 2)]]), "2024-01", "2024-01")

    [materialization] = result.asset_materializations_for_node("demo__thing")
    [spec] = build_asset(THINGS).specs
    explained = str(spec.metadata["sequin_pipeline/numbers"].value)
    ours = {name for name in materialization.metadata if not name.startswith("dagster/partition")}
    assert {"fetched", "rows_gained", "dagster/row_count", "pages", "total_seconds"} < ours
    assert [name for name in sorted(ours) if f"| `{name}` |" not in explained] == []


def test_a_run_observes_the_apis_side_of_its_collection(shop: Shop) -> None:
    source = ListSource([[of_month(1, "a", 1)], [of_month(2, "b", 2)]])

    result = sync(shop, source, "2024-01", "2024-04")

    [observed] = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert observed.asset_key == dg.AssetKey(["sequin", "demo", "thing_source"])
    assert observed.partition is None
    expected = {"fetched": 2, "pages": 2, "requests": 2, "retries": 0, "lag_seconds": 0.0, "cursor": "2"}
    assert {name: observed.metadata[name].value for name in expected} == expected


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str | None]]:
    return {check.check_name: (check.passed, check.description) for check in result.get_asset_check_evaluations()}


def test_the_checks_say_what_the_run_found(shop: Shop) -> None:
    sound = [of_month(1, f"r{number}", number) for number in range(1, 4)]
    bad = [of_month(1, "r9", 9, data={"amount": "many", "status": "open"}), of_month(1, "r8", 8, data={"amount": 1})]
    other = [of_month(1, "r1", 11, data={"amount": 1, "status": "open", "trial": True})]

    first = checks(sync(shop, ListSource([sound]), "2024-01", "2024-01"))
    second = sync(shop, ListSource([sound, [*bad, *other]]), "2024-01", "2024-01")

    assert {name: passed for name, (passed, _) in first.items()} == {
        "conservation": True,
        "open_rejects": True,
        "required_columns": True,
        "drift": True,
    }
    found = checks(second)
    waiting = str(found.pop("open_rejects"))
    assert waiting.startswith('(False, "2 open rejects (')
    assert "`r8`: column 'status' (path $.status, text) found null" in waiting
    assert "`r9`: column 'amount' (path $.amount, bigint) found the string 'many'" in waiting
    assert found == {
        "conservation": (True, "3 fetched, 3 accounted for"),
        "required_columns": (False, "records of this run without a required value: status in 1"),
        "drift": (False, "new: trial"),
    }


def test_an_error_that_will_not_pass_fails_once(shop: Shop) -> None:
    sync(shop, ListSource([[record()]]), "2024-01", "2024-01")

    result = sync(shop, ListSource([[record()]], identity=SourceIdentity("list", "http://elsewhere")), "2024-01", "2024-01")

    assert failure(result).startswith(
        "table 'demo.thing' of 'demo/thing' has been filled from list http://demo, and this run would read"
    )
    assert retries(result) == 0


class BreakingOnce(ListSource):
    """Cannot be reached after its first page, and then can."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        pages = super().pages(request)
        yield next(pages)
        if len(self.requests) == 1:
            raise SourceUnavailable("the source broke off")
        yield from pages


def test_an_error_that_may_pass_is_retried_from_the_last_commit(shop: Shop) -> None:
    source = BreakingOnce([[of_month(1, "a", 1)], [of_month(1, "b", 2)]])

    result = sync(shop, source, "2024-01", "2024-01")

    assert result.success, failure(result)
    assert retries(result) == 1
    assert shop.rows("select id, updated_idx from demo.thing order by id") == [("a", 1), ("b", 2)]
