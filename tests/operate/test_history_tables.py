"""What commands say of history tables: plan, explain, schema, and the graph."""

from dataclasses import replace
from datetime import timedelta

import psycopg

from sequin_pipeline.catalog import HistoryTable, TableName
from sequin_pipeline.cli.explain import _versions
from sequin_pipeline.cli.plan import _history
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.explain import explain_record
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import history_model, model_table
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import EPOCH, ListSource, collection, record
from tests.support.reading import execute, query
from tests.support.syncing import sync

KEPT = replace(collection(), history_table=HistoryTable(TableName("demo", "thing_history")))

COLUMNS = (
    "select column_name, data_type, is_nullable from information_schema.columns"
    " where table_schema = 'demo' and table_name = 'thing_history' order by ordinal_position"
)
INDEXES = "select indexdef from pg_indexes where schemaname = 'demo' and tablename = 'thing_history' order by 1"


def dated(version: int, **overrides: object) -> dict[str, object]:
    return record("a", version, upstream_updated_at=(EPOCH + timedelta(days=version)).isoformat(), **overrides)


def test_a_dry_run_tells_of_a_history_table_that_would_be_created_and_creates_none(warehouse_url: str) -> None:
    sync(warehouse_url, [dated(1)], of=collection())

    planned = dry_run(ListSource([[dated(1)], [dated(2)]]), Warehouse(warehouse_url), KEPT)

    assert list(_history(planned.history)) == [
        "  and create demo.thing_history, with a row for each version that is delivered from then on"
    ]
    assert query(warehouse_url, "select to_regclass('demo.thing_history')") == [(None,)]


def test_a_dry_run_tells_what_would_be_changed_of_a_history_table(warehouse_url: str) -> None:
    sync(warehouse_url, [dated(1)], of=KEPT)
    execute(warehouse_url, "alter table demo.thing_history drop column status", "drop function demo.thing_as_of")

    planned = dry_run(ListSource([[dated(1)], [dated(2)]]), Warehouse(warehouse_url), KEPT)

    assert list(_history(planned.history)) == [
        '  and change demo.thing_history first (not run now): alter table "demo"."thing_history" add column if not exists "status" text;',
        '  and change demo.thing_history first (not run now): create function "demo"."thing_as_of"(at timestamptz) returns setof '
        '"demo"."thing_history" language sql stable as \'select * from "demo"."thing_history" where valid_from <= $1 and '
        "(valid_to > $1 or valid_to is null) and not deleted';",
    ]


def test_a_record_is_explained_with_its_versions(warehouse_url: str) -> None:
    sync(warehouse_url, [dated(1), dated(2), dated(3, deleted=True)], of=KEPT)

    with Warehouse(warehouse_url).connect() as connection:
        found = explain_record(connection, KEPT, Ledger("demo.thing", KEPT.label), "a")
        unheard = explain_record(connection, KEPT, Ledger("demo.thing", KEPT.label), "b")

    assert list(_versions(KEPT, found)) == [
        "version     1, from 2024-01-02 00:00:00Z to 2024-01-03 00:00:00Z",
        "version     2, from 2024-01-03 00:00:00Z to 2024-01-04 00:00:00Z",
        "version     3, from 2024-01-04 00:00:00Z to now, deleted",
    ]
    assert list(_versions(KEPT, unheard)) == ["versions    none in demo.thing_history"]


def test_the_printed_table_is_the_one_that_is_created(warehouse_url: str) -> None:
    printed = history_model(KEPT)
    assert printed is not None
    sync(warehouse_url, [dated(1)], of=KEPT)
    created = [query(warehouse_url, statement) for statement in (COLUMNS, INDEXES)]

    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("drop schema demo cascade")
        connection.execute(FORMATS["sql"]([model_table(KEPT), printed]))

    assert [query(warehouse_url, statement) for statement in (COLUMNS, INDEXES)] == created


def test_the_asset_names_its_history_table() -> None:
    from sequin_pipeline.orchestration.assets import build_spec  # here, so that tests without Dagster do not wait for it

    assert build_spec(KEPT).metadata["sequin_pipeline/history_table"] == "demo.thing_history"
    assert "sequin_pipeline/history_table" not in build_spec(collection()).metadata
