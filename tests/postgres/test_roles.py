"""The scripts in deploy/: what their roles may do, and what they may not, in a real Postgres by a real psql."""

from urllib.parse import urlsplit

import psycopg
import pytest

from tests.postgres.conftest import run_script
from tests.support.builders import record
from tests.support.syncing import sync


def refused(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_writer_syncs_into_schemas_of_its_own(roles: tuple[str, str, str]) -> None:
    _, writer, _ = roles

    sync(writer, [record("a", 1)])

    with psycopg.connect(writer) as connection:
        assert connection.execute("select id from demo.thing").fetchall() == [("a",)]


@pytest.mark.parametrize(
    "statement",
    [
        "select * from public.secrets",
        "create schema another",
        "create role another",
        "create table public.mine (id int)",
        "copy (select 1) to program 'true'",
    ],
)
def test_the_writer_can_do_nothing_else(roles: tuple[str, str, str], statement: str) -> None:
    _, writer, _ = roles

    refused(writer, statement)


def test_the_reader_sees_rows_of_tables_that_were_made_after_it(roles: tuple[str, str, str]) -> None:
    _, writer, reader = roles
    sync(writer, [record("a", 1)])

    with psycopg.connect(reader) as connection:
        assert connection.execute("select id from demo.thing").fetchall() == [("a",)]


@pytest.mark.parametrize(
    "statement",
    [
        "update demo.thing set deleted = true",
        "delete from demo.thing",
        "insert into demo.thing select * from demo.thing",
        "create table demo.mine (id int)",
        "select * from sequin_pipeline.rejects",
        "select * from public.secrets",
    ],
)
def test_the_reader_can_do_nothing_else(roles: tuple[str, str, str], statement: str) -> None:
    _, writer, reader = roles
    sync(writer, [record("a", 1)])

    refused(reader, statement)


def test_the_scripts_can_be_run_again(roles: tuple[str, str, str]) -> None:
    url, writer, reader = roles
    names = [urlsplit(role_url).username or "" for role_url in (writer, reader)]

    run_script(url, "writer_role.sql", role=names[0], schemas="demo,another")
    run_script(writer, "reader_role.sql", role=names[1], schemas="demo,another")

    with psycopg.connect(writer) as connection:
        connection.execute("create table another.thing (id int)")
    with psycopg.connect(reader) as connection:
        assert connection.execute("select has_schema_privilege('another', 'usage')").fetchone() == (True,)
