"""A warehouse whose defaults are not ours: what is stored, and what the pipeline reads back of it, is the same."""

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import list_rejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import read_frame
from tests.hostile.sending import land, read, sync, text, tolerant, with_data
from tests.support.builders import record

SETTINGS = {
    "east": {"timezone": "Pacific/Kiritimati"},
    "west": {"timezone": "Etc/GMT+12"},
    "date style": {"datestyle": "German, DMY"},
    "strings": {"standard_conforming_strings": "off", "escape_string_warning": "off", "bytea_output": "escape"},
    "numbers": {"extra_float_digits": "-15", "array_nulls": "off"},
    "search path": {"search_path": "demo, pg_temp"},
    "others": {"intervalstyle": "sql_standard", "transform_null_equals": "on"},
}
SHARP = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
COLUMNS = (
    Column("word", parse_path("word"), "text"),
    Column("words", parse_path("words"), "text[]"),
    Column("day", parse_path("day"), "date"),
    Column("exact", parse_path("exact"), "double precision"),
)
ADDED = Column("again", parse_path("day"), "date")
DATA = {"word": "a\\b'c", "words": ["NULL", None, "\\"], "day": "2024-02-03", "exact": 0.1}
KEPT = {"word": "a\\b'c", "words": '{"NULL",NULL,"\\\\"}', "day": "2024-02-03", "exact": "0.1"}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_defaults_of_a_server_change_nothing(warehouse_url: str, settings: dict[str, str]) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(
                sql.SQL("alter database {} set {} to {}").format(
                    sql.Identifier(connection.info.dbname),
                    sql.Identifier(name),
                    sql.SQL(", ").join(map(sql.Literal, value.split(", "))),
                )
            )
    records = [text(record(f"r{at}", inserted_at=time, upstream_created_at=time, data=DATA)) for at, time in enumerate(SHARP)]
    refused = with_data("refused", b'{"word": "\\\\", "day": "31.12.2024"}')

    landed = land(warehouse_url, tolerant(COLUMNS), *records, refused)
    sync(warehouse_url, tolerant((*COLUMNS, ADDED)), refresh="with a column more")

    rows = read(warehouse_url, tolerant())
    usual = KEPT | {"again": "2024-02-03"}
    assert {name: {column: row[column] for column in usual} for name, row in rows.items()} == {"r0": usual, "r1": usual}
    assert [(row["record_inserted_at"], row["upstream_created_at"]) for row in (rows["r0"], rows["r1"])] == [
        ("0001-01-01 00:00:00+00",) * 2,
        ("9999-12-31 23:59:59.999999+00",) * 2,
    ]
    assert list(landed.refusals) == [refused]
    with Warehouse(warehouse_url).connect() as connection:
        [kept] = list_rejects(connection, Ledger("demo.thing", "demo/thing"))
    assert kept.raw == refused
    frame = read_frame(Warehouse(warehouse_url), tolerant().table, columns=["id", "record_inserted_at", "day", "exact"])
    assert sorted(map(str, frame["record_inserted_at"])) == [
        SHARP[0].replace("T", " ").replace("Z", "+00:00"),
        "9999-12-31 23:59:59.999999+00:00",
    ]
    assert frame["exact"].tolist() == [0.1, 0.1]
