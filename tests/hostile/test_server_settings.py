"""A warehouse whose defaults are not ours: what is stored, and what the pipeline reads back of it, is the same."""

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import list_rejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import read_frame
from sequin_pipeline.table.introspect import introspect
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
    "quoted names": {"quote_all_identifiers": "on"},
    "errors that end sessions": {"exit_on_error": "on"},
    "row security and order": {"row_security": "off", "synchronize_seqscans": "on", "gin_fuzzy_search_limit": "1"},
    "forms": {"xmlbinary": "hex", "xmloption": "document", "backslash_quote": "on", "lc_numeric": "C", "lc_monetary": "C"},
    "transactions": {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    "time": {"statement_timeout": "20s", "lock_timeout": "20s", "timezone_abbreviations": "Australia"},
    "plans": {"enable_nestloop": "off", "enable_indexscan": "off", "plan_cache_mode": "force_generic_plan"},
}
HARMLESS = {
    "check_function_bodies, client_min_messages, dynamic_library_path, event_triggers, extension_control_path": "what others define",
    "createrole_self_grant, icu_validation_level, lo_compat_privileges, operator_precedence_warning": "nothing of ours is of that kind",
    "default_table_access_method, default_tablespace, default_toast_compression, temp_tablespaces": "where rows lie, not what they are",
    "default_text_search_config, lc_time": "no statement of ours searches texts or spells months",
    "default_transaction_read_only": "told as what it is, and by the doctor",
    "gin_pending_list_limit, local_preload_libraries, session_preload_libraries, lc_messages": "nothing that a query returns",
    "idle_session_timeout, tcp_keepalives_count, tcp_keepalives_idle, tcp_keepalives_interval, tcp_user_timeout": "a new connection",
    "vacuum_cleanup_index_scale_factor, vacuum_failsafe_age, vacuum_freeze_min_age, vacuum_freeze_table_age": "vacuum's",
    "vacuum_multixact_failsafe_age, vacuum_multixact_freeze_min_age, vacuum_multixact_freeze_table_age": "vacuum's",
    "transaction_deferrable, transaction_read_only, transaction_isolation": "set by each transaction, from the defaults above",
    "restrict_nonsystem_relation_kind": "an error that says which view may not be read",
    "client_encoding": "test_encodings.py",
    "idle_in_transaction_session_timeout, transaction_timeout": "test_postgres_time_limits.py",
    "session_replication_role": "triggers and foreign keys are an application's, and so is the wish to have them pass over",
}
"""Settings of clients, of compatibility and of errors that a role may have of its own, and why no case is needed above."""
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
    refused_by_postgres = with_data("beyond", b'{"word": "x", "huge": 1e200000}')

    landed = land(warehouse_url, tolerant(COLUMNS), *records, refused, refused_by_postgres)
    sync(warehouse_url, tolerant((*COLUMNS, ADDED)), refresh="with a column more")

    rows = read(warehouse_url, tolerant())
    usual = KEPT | {"again": "2024-02-03"}
    assert {name: {column: row[column] for column in usual} for name, row in rows.items()} == {"r0": usual, "r1": usual}
    assert [(row["record_inserted_at"], row["upstream_created_at"]) for row in (rows["r0"], rows["r1"])] == [
        ("0001-01-01 00:00:00+00",) * 2,
        ("9999-12-31 23:59:59.999999+00",) * 2,
    ]
    assert {raw: refusal.sqlstate for raw, refusal in landed.refusals.items()} == {refused: None, refused_by_postgres: "22003"}
    with Warehouse(warehouse_url).connect() as connection:
        kept = list_rejects(connection, Ledger("demo.thing", "demo/thing"))
        shown = introspect(connection, tolerant().table)
    assert {one.raw for one in kept} == {refused, refused_by_postgres}
    assert shown is not None
    assert {shown.columns[name].type for name in ("word", "data", "content_hash", "words", "day")} == {
        "text",
        "jsonb",
        "uuid",
        "text[]",
        "date",
    }
    frame = read_frame(Warehouse(warehouse_url), tolerant().table, columns=["id", "record_inserted_at", "day", "exact"])
    assert sorted(map(str, frame["record_inserted_at"])) == [
        SHARP[0].replace("T", " ").replace("Z", "+00:00"),
        "9999-12-31 23:59:59.999999+00:00",
    ]
    assert frame["exact"].tolist() == [0.1, 0.1]


def test_every_setting_that_may_change_an_answer_has_a_case_or_a_reason(warehouse_url: str) -> None:
    told = {name for settings in SETTINGS.values() for name in settings} | {
        name for names in HARMLESS for name in names.split(", ")
    }

    with psycopg.connect(warehouse_url) as connection:
        rows = connection.execute(
            "select lower(name) from pg_settings where context in ('user', 'superuser') and boot_val is not null"
            " and (category like 'Client Connection Defaults%' or category like 'Version and Platform%' or category = 'Error Handling')"
        ).fetchall()

    assert {str(name) for (name,) in rows} - told == set()
