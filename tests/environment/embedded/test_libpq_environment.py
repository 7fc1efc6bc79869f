"""libpq's own variables and the embedded server: it is started, looked at and filled whatever they say, and nobody else is asked."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from psycopg import conninfo

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.settings import prepare
from sequin_pipeline.postgres.urls import psycopg2_url
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.environment.embedded.conftest import Environ
from tests.support.postgres import PostgresServer

OTHER = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""An address of this machine that no other run of these tests uses: the port has to be libpq's own."""


@pytest.fixture
def asked() -> Iterator[socket.socket]:
    """The port of another server on an address of this machine, which takes whoever comes."""
    with socket.create_server((OTHER, 5432)) as other:
        other.setblocking(False)
        yield other


VARIABLES = {
    "address": {"PGHOSTADDR": OTHER},
    "service with an address": {"PGSERVICE": "crm"},
    "service that is not there": {"PGSERVICE": "nobody"},
    "host and port": {"PGHOST": OTHER, "PGPORT": "5432"},
    "options": {"PGOPTIONS": "-c statement_timeout=1"},
    "options that are none": {"PGOPTIONS": "-c nothing.of=this -c work_mem=x"},
    "authentication": {"PGREQUIREAUTH": "scram-sha-256"},
    "session attributes": {"PGTARGETSESSIONATTRS": "standby"},
    "channel binding": {"PGCHANNELBINDING": "require"},
    "encoding": {"PGCLIENTENCODING": "LATIN1"},
    "encryption": {"PGGSSENCMODE": "require"},
    "TLS at once": {"PGSSLNEGOTIATION": "direct", "PGSSLROOTCERT": "system", "PGSSLMODE": "verify-full"},
    "peer": {"PGREQUIREPEER": "somebody-else"},
    "time zone": {"PGTZ": "Nowhere/Land"},
    "old TLS": {"PGSSLMINPROTOCOLVERSION": "none", "PGLOADBALANCEHOSTS": "maybe"},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
def test_variables_of_libpq_do_not_touch_the_embedded_server(
    made: Environ, variables: Environ, asked: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services.conf"
    services.write_text(f"[crm]\nhostaddr={OTHER}\nport=5432\nuser=stranger\n")
    (tmp_path / "dagster.yaml").touch()
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = prepare(made, tmp_path)
    with Warehouse(settings.warehouse_url).connect() as connection:
        here = connection.execute("select current_database()::text, current_user::text, inet_server_addr()::text").fetchone()
        encoding = connection.info.parameter_status("client_encoding")
    engine = sqlalchemy.create_engine(settings.dagster_postgres_url)
    with engine.connect() as stored:
        there = stored.exec_driver_sql("select current_database(), current_user, inet_server_addr(), 'é'").fetchone()
    engine.dispose()

    assert (here, encoding) == (("sandbox", "postgres", None), "UTF8")
    assert there is not None
    assert tuple(there) == ("dagster", "postgres", None, "é")
    status = embedded.status(made)
    assert status is not None
    assert status.was_running
    with pytest.raises(BlockingIOError):
        asked.accept()


@pytest.mark.parametrize("variable", ["PGHOST", "PGSERVICE", "PGDATABASE", "PGOPTIONS"])
def test_a_url_of_yours_keeps_the_rules_of_libpq(
    postgres_server: PostgresServer, warehouse_url: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = str(conninfo.conninfo_to_dict(warehouse_url)["dbname"])
    services = tmp_path / "services.conf"
    services.write_text(f"[crm]\nhost={postgres_server.socket_directory}\ndbname={database}\n")
    said = {"PGSERVICE": "crm", "PGOPTIONS": "-c work_mem=77kB"}.get(variable)
    said = said or {"PGHOST": str(postgres_server.socket_directory), "PGDATABASE": database}[variable]
    url = {
        "PGHOST": f"postgresql://postgres@/{database}?port=5432",
        "PGSERVICE": "postgresql://postgres@:5432",
        "PGDATABASE": f"postgresql://postgres@/?host={postgres_server.socket_directory}&port=5432",
        "PGOPTIONS": warehouse_url,
    }[variable]
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv(variable, said)

    with Warehouse(url).connect() as connection:
        found = connection.execute("select current_database()::text, current_setting('work_mem')").fetchone()

    assert found == (database, "77kB" if variable == "PGOPTIONS" else "4MB")
    assert psycopg2_url(url) == url.replace("postgresql://", "postgresql+psycopg2://", 1)
    assert os.environ[variable] == said
    with psycopg.connect(url) as plain:
        assert plain.info.dbname == database
