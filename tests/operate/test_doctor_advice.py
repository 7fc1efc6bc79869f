"""What the doctor advises on a server of somebody's own, and that it is silent where there is nothing to gain or to see."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.catalog import Collection, TableName
from sequin_pipeline.environment.settings import read_settings
from sequin_pipeline.operate.doctor.advice import Setting, advice, server_settings, storage
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import collection

ALGORITHMS = ("pglz", "lz4", "zstd", "on", "off")
UNTOUCHED = {
    "wal_compression": Setting("wal_compression", "off", "off", "default", ALGORITHMS),
    "max_wal_size": Setting("max_wal_size", "1024", "1024", "configuration file", ()),
    "checkpoint_timeout": Setting("checkpoint_timeout", "300", "300", "default", ()),
}
SET = "alter system set {} and select pg_reload_conf(), or the same among the parameters of a hosted server"


def told(name: str, **changes: object) -> list[tuple[str, str]]:
    """Of one setting, its advice and what to do."""
    return [(finding.said, finding.fix) for finding in advice({name: replace(UNTOUCHED[name], **changes)})]  # type: ignore[arg-type]  # fields


def patient(url: str, folder: Path, *collections: Collection) -> Patient:
    given = {"WAREHOUSE_URL": url, "DAGSTER_POSTGRES_URL": url, "DAGSTER_HOME": str(folder)}
    settings = read_settings(given, folder, embedded_home=None, reads_records_api=False)
    return Patient(settings, given, {each.label: each for each in collections}, None)


def test_defaults_of_a_new_server_are_advised_on_each_with_what_was_measured() -> None:
    found = list(advice(UNTOUCHED))

    assert {(finding.check, finding.level) for finding in found} == {("settings", "advice")}
    assert [(finding.said, finding.fix) for finding in found] == [
        (
            "wal_compression is off: with lz4 a changed record takes 3.2 kB of WAL instead of 4.3, for 2 µs of the server's 51",
            SET.format("wal_compression = 'lz4'"),
        ),
        (
            "max_wal_size is 1 GB: the first change of a page after a checkpoint writes the whole page to the WAL, so that "
            "300,000 changed records took 2.0 GB of it, and with 8 GB 1.3",
            SET.format("max_wal_size = '8GB'") + " if its disk has the room",
        ),
        (
            "checkpoint_timeout is 5 minutes: the first change of a page after a checkpoint writes the whole page to the WAL, so that "
            "a changed record takes 5.8 kB right after one and 3.0 kB later",
            SET.format("checkpoint_timeout = '15min'") + " if a crash may take longer to recover from",
        ),
    ]


@pytest.mark.parametrize("value", ["on", "pglz"])
def test_compression_by_pglz_is_advised_against(value: str) -> None:
    costs = f"wal_compression is {value}, which costs the server 20 µs of a changed record's 70"

    assert told("wal_compression", value=value, source="configuration file") == [
        (f"{costs}; lz4 saves nearly as much WAL for 2 µs", SET.format("wal_compression = 'lz4'"))
    ]
    assert told("wal_compression", value=value, choices=()) == [
        (f"{costs}, and saves a third of its WAL", SET.format("wal_compression = 'off'"))
    ]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("wal_compression", {"value": "lz4"}, id="lz4"),
        pytest.param("wal_compression", {"value": "zstd"}, id="zstd"),
        pytest.param("wal_compression", {"choices": ("pglz", "on", "off")}, id="built without lz4"),
        pytest.param("wal_compression", {"choices": ()}, id="older than lz4"),
        pytest.param("wal_compression", {"source": "configuration file"}, id="chosen to be off"),
        pytest.param("max_wal_size", {"value": "8192"}, id="large WAL"),
        pytest.param("max_wal_size", {"value": "512"}, id="small WAL, chosen"),
        pytest.param("checkpoint_timeout", {"value": "900", "source": "configuration file"}, id="long pause"),
        pytest.param("checkpoint_timeout", {"source": "configuration file"}, id="default pause, chosen"),
    ],
)
def test_what_is_set_or_not_to_be_had_is_not_advised_on(name: str, changes: dict[str, object]) -> None:
    assert told(name, **changes) == []


def test_settings_that_a_role_may_not_see_are_not_advised_on() -> None:
    assert list(advice({})) == []


def test_settings_are_read_from_the_server_and_those_of_the_embedded_one_are_left_alone(
    warehouse_url: str, tmp_path: Path
) -> None:
    someone = patient(warehouse_url, tmp_path)
    ours = replace(someone, settings=replace(someone.settings, embedded_variables=frozenset({"WAREHOUSE_URL"})))
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} set wal_compression = on").format(sql.Identifier(connection.info.dbname)))

    with Warehouse(warehouse_url).connect() as connection:
        found = list(server_settings(connection, someone))
        of_ours = list(server_settings(connection, ours))
        pglz = "pglz" if connection.info.server_version >= 150000 else "on"

    # The tests' server has a WAL of its own size.
    assert [finding.said.partition(",")[0].partition(":")[0] for finding in found] == [
        f"wal_compression is {pglz}",
        "checkpoint_timeout is 5 minutes",
    ]
    assert of_ours == []


def test_json_that_is_stored_apart_or_compressed_by_pglz_is_advised_on_with_the_statement(
    warehouse_url: str, tmp_path: Path
) -> None:
    things = replace(collection(), table=TableName("demo", "thing's"))
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("create schema if not exists demo")
        connection.execute('create table demo."thing\'s" (id text, data jsonb)')
        connection.execute('alter table demo."thing\'s" alter column data set storage external')
        has_lz4 = connection.execute(
            "select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)"
        ).fetchone()

    with Warehouse(warehouse_url).connect() as connection:
        apart = list(storage(connection, patient(warehouse_url, tmp_path, things)))
        connection.execute('alter table demo."thing\'s" alter column data set storage extended')
        inside = list(storage(connection, patient(warehouse_url, tmp_path, things)))
        connection.execute('alter table demo."thing\'s" set (toast_tuple_target = 8160)')
        uncompressed = list(storage(connection, patient(warehouse_url, tmp_path, things)))

    assert apart == [
        Finding(
            "storage",
            "advice",
            "demo.thing's: column 'data' is stored apart from the row (external), which costs the server 26 µs of a changed record's 69",
            'alter table "demo"."thing\'s" alter column "data" set storage extended',
        )
    ]
    assert inside == [
        Finding(
            "storage",
            "advice",
            "demo.thing's: column 'data' is compressed by pglz, at three times the CPU of lz4: a third of what a record costs the server",
            'alter table "demo"."thing\'s" alter column "data" set compression lz4',
        )
    ] * (has_lz4 is not None)
    assert uncompressed == []
