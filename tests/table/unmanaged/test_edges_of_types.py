"""Values at the edges of an application's types: refused with the name of their column, or kept within what its readers know."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pytest

from sequin_pipeline.catalog import Column, TableName, parse_path
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.schema import check_server
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.inference.mapping import propose_mapping
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import write_frame
from sequin_pipeline.table.introspect import introspect
from sequin_pipeline.table.type_limits import rounded
from tests.operate.inference.sampled import COLLECTION, sample_of
from tests.support.builders import ListSource, collection, record
from tests.support.postgres import PostgresServer
from tests.support.proxy import OldServerProxy
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import MAPPING, SUBSCRIPTION, deliver, unmanaged

LAST = 253_402_300_799_999_999


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        pytest.param(3, 253_402_300_799_999_000, id="milliseconds"),
        pytest.param(0, 253_402_300_799_000_000, id="seconds"),
        pytest.param(5, 253_402_300_799_999_990, id="ten microseconds"),
    ],
)
def test_rounding_stays_within_the_year_9999(digits: int, expected: int) -> None:
    times = pa.array([LAST], pa.timestamp("us", "UTC"))

    assert rounded(times, digits).cast(pa.int64()).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("column_type", "table_type", "value", "expected"),
    [
        pytest.param("bigint", "integer", 2**31, "from -2147483648 to 2147483647", id="integer"),
        pytest.param("bigint", "integer", -(2**31) - 1, "from -2147483648 to 2147483647", id="below integer"),
        pytest.param("integer", "smallint", 32_768, "from -32768 to 32767", id="smallint"),
        pytest.param("bigint", "smallint", 2**62, "from -32768 to 32767", id="far beyond smallint"),
    ],
)
def test_a_number_beyond_the_tables_integer_is_a_reject_that_names_the_column(
    app_url: str, column_type: str, table_type: str, value: int, expected: str
) -> None:
    execute(app_url, f'create table app.thing (id text primary key, v bigint not null, gone boolean, "howMany" {table_type})')
    column = Column("amount", parse_path("amount"), column_type)  # type: ignore[arg-type]  # one of the types
    of = unmanaged({"id": "id", "updated_idx": "v", "deleted": "gone", "amount": "howMany"}, table="app.thing", columns=(column,))

    deliver(app_url, of, [record("a", 1, data={"amount": 7}), record("b", 2, data={"amount": value})])

    assert query(app_url, 'select id, "howMany" from app.thing') == [("a", 7)]
    assert query(app_url, "select record_id, reason from sequin_pipeline.rejects") == [
        ("b", f"column 'howMany' of the table takes whole numbers {expected}")
    ]


@pytest.mark.parametrize(("version", "shown"), [(120_022, "12.22"), (110_021, "11.21"), (100_000, "10.0")])
def test_a_server_that_is_too_old_is_refused(version: int, shown: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_server(version)

    assert str(refused.value) == (
        f"the warehouse is Postgres {shown}, and the pipeline needs 13 or newer: upgrade the server, or let WAREHOUSE_URL name another"
    )


def test_reading_again_writes_nothing_of_fields_that_bring_no_news(app_url: str) -> None:
    execute(app_url, "create table app.thing (id text primary key, v bigint not null, gone boolean)")
    of = unmanaged({"id": "id", "updated_idx": "v", "deleted": "gone"}, table="app.thing", columns=())
    fields = "select field, present, sampled, types, xmin::text from sequin_pipeline.fields order by field"
    deliver(app_url, of, [record("a", 1, data={"x": 1, "y": "z"}), record("b", 2, data={"x": 1})])
    before = query(app_url, fields)

    deliver(app_url, of, [record("a", 1, data={"x": 1, "y": "z"}), record("b", 2, data={"x": 1})])
    again = query(app_url, fields)
    deliver(app_url, of, [record("c", 3, data={"x": "text", "y": "z"})])
    news = query(app_url, fields)

    assert again == before
    assert [row[:1] for row in news if row not in before] == [("x",)]


@pytest.mark.parametrize(
    ("data", "news"),
    [
        pytest.param({"x": "text", "y": "z"}, ["x"], id="a type"),
        pytest.param({"y": "z"}, ["x"], id="no value where there always was one"),
        pytest.param({"x": 1, "w": True}, ["w"], id="a field"),
    ],
)
def test_fields_that_bring_news_are_written_and_no_others(app_url: str, data: dict[str, object], news: list[str]) -> None:
    execute(app_url, "create table app.thing (id text primary key, v bigint not null, gone boolean)")
    of = unmanaged({"id": "id", "updated_idx": "v", "deleted": "gone"}, table="app.thing", columns=())
    fields = "select field, present, sampled, types, xmin::text from sequin_pipeline.fields order by field"
    deliver(app_url, of, [record("a", 1, data={"x": 1, "y": "z"}), record("b", 2, data={"x": 1})])
    before = query(app_url, fields)

    deliver(app_url, of, [record("c", 3, data=data)])

    assert [row[0] for row in query(app_url, fields) if row not in before] == news


@pytest.mark.parametrize(
    ("overwritten", "expected"),
    [
        pytest.param("""set "Status" = 'theirs', "amountCents" = 99""", ("theirs", 99, "up_a", True), id="columns of the object"),
        pytest.param("""set "isDeleted" = false""", ("active", 1, "up_a", True), id="the mark"),
        pytest.param("""set "upstreamId" = 'theirs'""", ("active", 1, "up_a", True), id="a column of the record"),
        pytest.param("""set "Status" = 'theirs', "isDeleted" = false""", ("theirs", 1, "up_a", True), id="both kinds"),
    ],
)
@pytest.mark.parametrize("again", [1, 2], ids=["the deletion comes again", "all versions come again"])
def test_of_an_overwritten_row_a_deletion_without_object_repairs_what_it_says_and_leaves_the_rest(
    app_url: str, overwritten: str, expected: tuple[object, ...], again: int
) -> None:
    execute(app_url, SUBSCRIPTION)
    versions = [record("a", 1), record("a", 2, deleted=True, data=None)]
    deliver(app_url, unmanaged(MAPPING), versions)
    execute(app_url, f'update app."Subscription" {overwritten}')

    deliver(app_url, unmanaged(MAPPING), versions[-again:])

    columns = '"Status", "amountCents", "upstreamId", "isDeleted"'
    assert query(app_url, f'select {columns} from app."Subscription"') == [expected]


def run_collection(url: str) -> None:
    deliver(url, collection(), [record("a", 1)])


def plan(url: str) -> None:
    dry_run(ListSource([[record("a", 1)]]), Warehouse(url), collection())


def frame(url: str) -> None:
    write_frame(Warehouse(url), TableName("app", "frame"), pd.DataFrame({"id": [1]}), key=("id",), version=None, run_id="r")


def infer(url: str) -> None:
    name = TableName("app", "thing")
    with Warehouse(url).connect() as connection:
        found = introspect(connection, name)
        assert found is not None
        propose_mapping(connection, COLLECTION, sample_of({"status": "x"}), name, found)


@pytest.mark.parametrize("write", [run_collection, plan, frame, infer])
def test_nothing_is_begun_on_a_server_that_is_too_old(
    empty_url: str, postgres_server: PostgresServer, write: Callable[[str], None]
) -> None:
    execute(empty_url, "create schema app", "create table app.thing (id text primary key)")
    proxy = OldServerProxy(postgres_server.socket_directory / ".s.PGSQL.5432")
    proxy.start()
    try:
        with pytest.raises(ConfigurationError, match="the warehouse is Postgres 12"):
            write(f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(empty_url).path}")
    finally:
        proxy.close()

    assert query(empty_url, "select nspname from pg_namespace where nspname in ('sequin_pipeline', 'demo')") == []
