"""The scripts in deploy/: what their roles may do, and what they may not, in a real Postgres by a real psql."""

import os
import subprocess
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.support.builders import record
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer, binaries
from tests.support.syncing import sync

DEPLOY = CHECKOUT / "deploy"


def run_script(url: str, script: str, **variables: str) -> None:
    settings = [argument for name, value in variables.items() for argument in ("-v", f"{name}={value}")]
    beside = binaries() / "psql"  # which distributions of the server alone leave out
    libraries = {"LD_LIBRARY_PATH": str(binaries().parent / "lib")} if beside.exists() else {}
    subprocess.run(
        [str(beside) if beside.exists() else "psql", url, "-qX", *settings, "-f", str(DEPLOY / script)],
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], **libraries},
    )


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture
def roles(postgres_server: PostgresServer, make_database: Callable[[], str]) -> tuple[str, str, str]:
    """URLs of one database for its administrator, the writer and the reader; a table `public.secrets` is the administrator's."""
    url = make_database()
    name = urlsplit(url).path.strip("/")
    writer, reader = f"writer_{name}", f"reader_{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table public.secrets as select 'mine' as secret")
        if connection.info.server_version < 150000:
            connection.execute("revoke create on schema public from public")  # as the script says
        connection.execute(sql.SQL("create role {} login").format(sql.Identifier(reader)))
    run_script(url, "writer_role.sql", role=writer, schemas="demo")
    run_script(as_role(url, writer), "reader_role.sql", role=reader, schemas="demo")
    return url, as_role(url, writer), as_role(url, reader)


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
