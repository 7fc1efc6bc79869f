"""The least-privilege roles that deploy/ makes, in a database of their own."""

import os
import subprocess
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer, binaries

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
