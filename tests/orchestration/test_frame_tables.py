"""Where the table of an asset's frame is, and whose it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pytest

from sequin_pipeline.orchestration.io_manager import PostgresMergeIOManager
from sequin_pipeline.orchestration.resources import WarehouseResource
from sequin_pipeline.orchestration.table_names import TablePlace, table_place

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

KEY = {"sequin_pipeline/key": ["id"]}
FRAME = pd.DataFrame({"id": [1], "region": ["eu"]})


@dataclass
class Project:
    """A Dagster project whose assets return frames."""

    warehouse_url: str
    instance: dg.DagsterInstance
    loaded: list[pd.DataFrame] = field(default_factory=list)

    @property
    def database(self) -> str:
        return str(psycopg.conninfo.conninfo_to_dict(self.warehouse_url)["dbname"])

    def materialize(self, *assets: dg.AssetsDefinition, **arguments: Any) -> dg.ExecuteInProcessResult:
        io_manager = PostgresMergeIOManager(warehouse=WarehouseResource(url=self.warehouse_url))
        resources = {"io_manager": io_manager, "memory": dg.mem_io_manager}
        return dg.materialize(assets, resources=resources, instance=self.instance, raise_on_error=False, **arguments)

    def reader(self, upstream: dg.AssetsDefinition) -> dg.AssetsDefinition:
        @dg.asset(ins={"found": dg.AssetIn(upstream.key)}, io_manager_key="memory")
        def reader(found: pd.DataFrame) -> None:
            self.loaded.append(found)

        return reader

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.warehouse_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def tables(self) -> list[str]:
        """Every table but the ledger's."""
        found = self.rows(
            "select table_schema || '.' || table_name from information_schema.tables"
            " where table_schema not in ('pg_catalog', 'information_schema', 'sequin_pipeline') order by 1"
        )
        return [str(name) for (name,) in found]


@pytest.fixture
def project(warehouse_url: str) -> Iterator[Project]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(warehouse_url, instance)


def asset(key: Sequence[str], frame: pd.DataFrame = FRAME, **metadata: object) -> dg.AssetsDefinition:
    @dg.asset(key=list(key), metadata={**KEY, **metadata})
    def returned() -> Any:
        return frame

    return returned


def table_name(name: str) -> dict[str, object]:
    return {"dagster/table_name": name}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None, event.step_failure_data.error
    return str(data.description)


LONG = "a" * 70


@pytest.mark.parametrize(
    ("key", "metadata", "expected"),
    [
        pytest.param(["plans"], {}, "public.plans", id="no prefix"),
        pytest.param(["marts", "plans"], {}, "marts.plans", id="a prefix"),
        pytest.param(["eu", "marts", "plans"], {}, "marts.plans", id="two prefixes"),
        pytest.param(["marts", "plans"], {"schema": "crm"}, "crm.plans", id="a schema"),
        pytest.param(["marts", "plans"], table_name("crm.prices"), "crm.prices", id="two parts"),
        pytest.param(["marts", "plans"], table_name("prices"), "marts.prices", id="a bare name, beside a prefix"),
        pytest.param(["plans"], table_name("prices"), "public.prices", id="a bare name"),
        pytest.param(["plans"], {**table_name("prices"), "schema": "crm"}, "crm.prices", id="a bare name and a schema"),
        pytest.param(["plans"], {"dagster/table_name": dg.MetadataValue.text("crm.prices")}, "crm.prices", id="wrapped"),
        pytest.param(["plans"], {"dagster/relation_identifier": "crm.prices"}, "crm.prices", id="Dagster's older key"),
        pytest.param(["marts", "p" * 63], {}, f"marts.{'p' * 63}", id="63 bytes"),
        pytest.param(["marts", LONG + "1"], {}, f"marts.{'a' * 54}_3b41d852", id="a long name"),
        pytest.param(["marts", LONG + "2"], {}, f"marts.{'a' * 54}_e089d2b2", id="another long name"),
        pytest.param(["ä" * 40, "plans"], {}, f"{'ä' * 27}_b3c12e7f.plans", id="a long schema of two-byte characters"),
    ],
)
def test_a_table_is_where_its_metadata_or_its_key_says(key: list[str], metadata: dict[str, object], expected: str) -> None:
    place = table_place(dg.AssetKey(key), metadata)

    assert (str(place.table), place.database) == (expected, None)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        pytest.param(
            table_name("a.b.c.d"),
            "asset 'marts/plans' says dagster/table_name 'a.b.c.d': expected database.schema.table, schema.table or table, each part as "
            "Postgres has it, without quotes",
            id="four parts",
        ),
        pytest.param(
            table_name("marts."),
            "asset 'marts/plans' says dagster/table_name 'marts.': expected database.schema.table, schema.table or table, each part as "
            "Postgres has it, without quotes",
            id="an empty part",
        ),
        pytest.param(
            table_name('marts."Plans"'),
            "asset 'marts/plans' says dagster/table_name 'marts.\"Plans\"': expected database.schema.table, schema.table or table, each "
            "part as Postgres has it, without quotes",
            id="quotes",
        ),
        pytest.param(
            table_name(f"marts.{'p' * 64}"),
            f"asset 'marts/plans' says dagster/table_name with '{'p' * 64}', which is 64 bytes long and Postgres would cut to 63: name it "
            "shorter",
            id="a declared name of 64 bytes",
        ),
        pytest.param(
            {"schema": "ä" * 32},
            f"asset 'marts/plans' says schema with '{'ä' * 32}', which is 64 bytes long and Postgres would cut to 63: name it shorter",
            id="a declared schema of 64 bytes",
        ),
        pytest.param(
            table_name("crm.marts.prices"),
            "dagster/table_name says that table 'marts.prices' is in database 'crm', and the warehouse is database 'DATABASE': name the "
            "table as schema.table, or give the asset a warehouse with the URL of that database",
            id="another database",
        ),
        pytest.param(
            table_name("sequin_pipeline.cursors"),
            "table 'sequin_pipeline.cursors' would be in schema 'sequin_pipeline', which belongs to the ledger: name another table with "
            "the metadata dagster/table_name",
            id="the ledger's schema",
        ),
        pytest.param(
            table_name("pg_catalog.pg_class"),
            "table 'pg_catalog.pg_class' would be in schema 'pg_catalog', which belongs to Postgres: name another table with the metadata "
            "dagster/table_name",
            id="a schema of Postgres",
        ),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_and_nothing_is_made(
    project: Project, metadata: dict[str, object], message: str
) -> None:
    result = project.materialize(asset(["marts", "plans"], **metadata))

    assert failure(result) == message.replace("DATABASE", project.database)
    assert project.tables() == []


def test_three_parts_that_name_this_database_are_written_and_loaded(project: Project) -> None:
    prices = asset(["prices"], **table_name(f"{project.database}.marts.prices"))

    result = project.materialize(prices, project.reader(prices))

    assert result.success
    assert project.tables() == ["marts.prices"]
    assert project.loaded[0].to_dict("records") == [{"id": 1, "region": "eu"}]
    (materialization,) = result.asset_materializations_for_node("prices")
    assert materialization.metadata["dagster/table_name"].value == "marts.prices"


def test_the_table_of_another_database_is_not_loaded_from_this_one(project: Project) -> None:
    project.materialize(asset(["marts", "prices"]))
    elsewhere = asset(["prices"], **table_name("crm.marts.prices"))

    result = project.materialize(elsewhere, reader := project.reader(elsewhere), selection=[reader])

    assert failure(result) == (
        f"dagster/table_name says that table 'marts.prices' is in database 'crm', and the warehouse is database {project.database!r}: "
        "name the table as schema.table, or give the asset a warehouse with the URL of that database"
    )


def test_names_beyond_63_bytes_do_not_share_a_table(project: Project) -> None:
    first, second = asset(["marts", LONG + "1"]), asset(["marts", LONG + "2"], pd.DataFrame({"id": [1], "region": ["us"]}))

    results = [project.materialize(first), project.materialize(second), project.materialize(first, project.reader(first))]

    assert [result.success for result in results] == [True, True, True]
    assert len(project.tables()) == 2
    assert project.loaded[0]["region"].tolist() == ["eu"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(asset(["eu", "marts", "plans"]), asset(["us", "marts", "plans"]), id="two prefixes"),
        pytest.param(asset(["marts", "plans"]), asset(["other"], **table_name("marts.plans")), id="a declared name"),
        pytest.param(
            asset(["eu"], **table_name("marts.plans")), asset(["us"], **table_name("marts.plans")), id="two declared names"
        ),
        pytest.param(asset(["marts", "plans"]), asset(["us", "plans"], schema="marts"), id="a schema"),
    ],
)
def test_a_second_owner_is_refused_with_both_names(
    project: Project, first: dg.AssetsDefinition, second: dg.AssetsDefinition
) -> None:
    project.materialize(first)

    result = project.materialize(second)
    again = project.materialize(first)

    names = (first.key.to_user_string(), second.key.to_user_string())
    assert failure(result) == (
        f"table 'marts.plans' belongs to asset {names[0]!r}, and asset {names[1]!r} would overwrite its rows: give it a table of its own "
        'with the metadata dagster/table_name or, where it takes the place of the other, say "sequin_pipeline/takes_over": '
        f'"{names[0]}"'
    )
    assert again.success
    assert project.rows("select count(*) from sequin_pipeline.merges") == [(2,)]


def test_an_asset_takes_the_place_of_the_one_that_it_names(project: Project) -> None:
    old = asset(["old", "marts", "plans"])
    new = asset(["new", "marts", "plans"], pd.DataFrame({"id": [2], "region": ["us"]}))
    heir = asset(["new", "marts", "plans"], **{"sequin_pipeline/takes_over": "old/marts/plans"})
    project.materialize(old)

    results = [project.materialize(heir), project.materialize(new), project.materialize(heir)]

    assert [result.success for result in results] == [True, True, True]
    assert failure(project.materialize(old)).startswith("table 'marts.plans' belongs to asset 'new/marts/plans', and asset 'old/")
    assert project.rows("select id from marts.plans order by id") == [(1,), (2,)]


@pytest.mark.parametrize("named", ["somebody/else", "new/marts/plans", "old"])
def test_who_names_another_place_takes_none(project: Project, named: str) -> None:
    project.materialize(asset(["old", "marts", "plans"]))

    result = project.materialize(asset(["new", "marts", "plans"], **{"sequin_pipeline/takes_over": named}))

    assert failure(result).startswith("table 'marts.plans' belongs to asset 'old/marts/plans', and asset 'new/marts/plans' would")


def test_a_table_of_an_earlier_release_belongs_to_the_next_asset_that_writes_it(project: Project) -> None:
    """The ledger of then named no owner."""
    project.materialize(asset(["eu", "marts", "plans"]))
    with psycopg.connect(project.warehouse_url) as connection:
        connection.execute("update sequin_pipeline.tables set base_url = ''")

    results = [project.materialize(asset(["us", "marts", "plans"])), project.materialize(asset(["eu", "marts", "plans"]))]

    assert [result.success for result in results] == [True, False]
    assert failure(results[1]).startswith("table 'marts.plans' belongs to asset 'us/marts/plans'")


def test_the_table_of_a_collection_is_refused(project: Project) -> None:
    project.materialize(asset(["marts", "plans"]))
    with psycopg.connect(project.warehouse_url) as connection:
        connection.execute("update sequin_pipeline.tables set source_kind = 'stripe', label = 'stripe/plan'")

    result = project.materialize(asset(["marts", "plans"]))

    assert failure(result) == (
        "table 'marts.plans' belongs to collection 'stripe/plan', and asset 'marts/plans' would write other rows into it: "
        "give the asset a table of its own with the metadata dagster/table_name"
    )


def test_a_table_that_is_gone_is_not_made_anew_without_its_rows(project: Project) -> None:
    project.materialize(asset(["marts", "plans"]))
    with psycopg.connect(project.warehouse_url) as connection:
        connection.execute("drop table marts.plans")

    result = project.materialize(asset(["marts", "plans"]))

    assert failure(result) == (
        "table 'marts.plans' of asset 'marts/plans' is gone, while the ledger says that it has 1 rows: restore it or, to begin without "
        'those rows, run `delete from "sequin_pipeline"."tables" where table_name = \'marts.plans\'` and materialize again, each '
        "partition of it"
    )
    assert project.tables() == []


# Partitions

DAYS = dg.DailyPartitionsDefinition("2024-05-01", end_date="2024-05-04")


def daily(frames: dict[str, pd.DataFrame], **arguments: Any) -> dg.AssetsDefinition:
    @dg.asset(key=["marts", "days"], metadata=KEY, partitions_def=DAYS, **arguments)
    def days(context: dg.AssetExecutionContext) -> Any:
        return pd.concat([frames[key] for key in context.partition_keys])

    return days


def test_the_partitions_of_an_asset_share_its_table_whatever_their_dtypes_are(project: Project) -> None:
    """All null, then texts, then numbers that became floats: as pandas types what each day brings."""
    days = daily(
        {
            "2024-05-01": pd.DataFrame({"id": [1], "n": [5], "note": [None]}),
            "2024-05-02": pd.DataFrame({"id": [2, 3], "n": [7, None], "note": ["a", None]}),
            "2024-05-03": pd.DataFrame({"id": [], "n": [], "note": []}),
        }
    )

    results = [project.materialize(days, partition_key=key) for key in ("2024-05-01", "2024-05-02", "2024-05-03")]
    project.materialize(days, reader := project.reader(days), selection=[reader])

    assert [result.success for result in results] == [True, True, True]
    assert project.rows("select id, n, note from marts.days order by id") == [(1, 5, None), (2, 7, "a"), (3, None, None)]
    assert sorted(project.loaded[0]["id"].tolist()) == [1, 2, 3]
    assert project.rows("select window_key, fetched from sequin_pipeline.merges order by 1") == [
        ("2024-05-01", 1),
        ("2024-05-02", 2),
    ]


def test_one_run_may_write_several_partitions(project: Project) -> None:
    days = daily(
        {key: pd.DataFrame({"id": [number]}) for number, key in enumerate(("2024-05-01", "2024-05-02"))},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    tags = {"dagster/asset_partition_range_start": "2024-05-01", "dagster/asset_partition_range_end": "2024-05-02"}

    result = project.materialize(days, tags=tags)

    assert result.success, failure(result)
    assert project.rows("select id from marts.days order by id") == [(0,), (1,)]


def test_a_place_names_its_database() -> None:
    place = table_place(dg.AssetKey("prices"), table_name("crm.marts.prices"))

    assert place == TablePlace(place.table, "crm")
    assert str(place.table) == "marts.prices"
