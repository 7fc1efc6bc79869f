"""libpq's own variables and the embedded server: it is started, looked at and filled whatever they say, and nobody else is asked."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import psycopg2.extensions
import pytest
import sqlalchemy
from psycopg import conninfo, pq

from sequin_pipeline.environment import embedded
from sequin_pipeline.environment.settings import prepare
from sequin_pipeline.postgres.urls import psycopg2_url
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.environment.embedded.conftest import Environ
from tests.support.postgres import SETTINGS, PostgresServer, running_server
from tests.support.reading import query

OTHER = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""An address of this machine that no other run of these tests uses: the port has to be libpq's own."""


@pytest.fixture(scope="module")
def other() -> Iterator[PostgresServer]:
    """Another Postgres on an address of this machine, which lets in who comes from it, and logs whoever does."""
    with running_server({**SETTINGS, "listen_addresses": OTHER, "log_connections": "on"}) as server:
        yield server


def visits(server: PostgresServer) -> int:
    """By the network: this test itself comes by the socket."""
    return server.log.read_text().count("connection received: host=127")


def databases(server: PostgresServer) -> list[tuple[object, ...]]:
    return query(server.url("postgres"), "select datname from pg_database order by 1")


VARIABLES = {
    "address": {"PGHOSTADDR": OTHER},
    "service with an address": {"PGSERVICE": "crm"},
    "service with all that breaks": {"PGSERVICE": "odd"},
    "service that is not there": {"PGSERVICE": "nobody"},
    "service of a newer libpq, its protocol": {"PGSERVICE": "protocol"},
    "service of a newer libpq, its log of keys": {"PGSERVICE": "keylog"},
    "service of a newer libpq, its OAuth": {"PGSERVICE": "oauth"},
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
    "time zone": {"PGTZ": "America/New_York"},
    "time zone that is none": {"PGTZ": "Nowhere/Land"},
    "form of dates": {"PGDATESTYLE": "German"},
    "form of dates that is none": {"PGDATESTYLE": "Klingon", "PGGEQO": "off"},
    "planner": {"PGGEQO": "maybe", "PGSERVICE": "crm"},
    "old TLS": {"PGSSLMINPROTOCOLVERSION": "none", "PGLOADBALANCEHOSTS": "maybe", "PGREQUIRESSL": "1"},
}
OF_NEWER_LIBPQ = set[str]() if min(pq.version(), psycopg2.extensions.libpq_version()) >= 180_000 else {"PGSERVICE"}
TAKEN = {
    "service that is not there": {"PGSERVICE"},
    "service of a newer libpq, its protocol": OF_NEWER_LIBPQ,
    "service of a newer libpq, its log of keys": OF_NEWER_LIBPQ,
    "service of a newer libpq, its OAuth": OF_NEWER_LIBPQ,
    "time zone": {"PGTZ"},
    "time zone that is none": {"PGTZ"},
    "form of dates that is none": {"PGDATESTYLE"},
    "planner": {"PGGEQO"},
}
"""By row, what would break connections to the embedded server; the others are left for other servers of yours."""

SERVICES = f"""
[crm]
hostaddr={OTHER}
port=5432
user=stranger
[odd]
hostaddr={OTHER}
options=-c statement_timeout=1
replication=true
sslmode=verify-full
channel_binding=require
client_encoding=LATIN1
target_session_attrs=standby
[protocol]
max_protocol_version=latest
[keylog]
sslkeylogfile=/nowhere/keys.log
[oauth]
oauth_issuer=https://login.example.com
"""
"""libpq 18 knows the last three; psycopg2's wheel brings libpq 17, which refuses the file of such a service."""


@pytest.mark.parametrize("row", VARIABLES)
def test_variables_of_libpq_do_not_touch_the_embedded_server(
    made: Environ, row: str, other: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = VARIABLES[row]
    services = tmp_path / "services.conf"
    services.write_text(SERVICES)
    before, visits_before = databases(other), visits(other)
    (tmp_path / "dagster.yaml").touch()
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = prepare(made, tmp_path)
    with Warehouse(settings.warehouse_url).connect() as connection:
        here = connection.execute("select current_database()::text, current_user::text, inet_server_addr()::text").fetchone()
        encoding = connection.info.parameter_status("client_encoding")
        zone = connection.info.parameter_status("TimeZone")
    engine = sqlalchemy.create_engine(settings.dagster_postgres_url)
    with engine.connect() as stored:
        there = stored.exec_driver_sql(
            "select current_database(), current_user, inet_server_addr(), 'é', current_setting('TimeZone')"
        ).fetchone()
    engine.dispose()

    assert (here, encoding, zone) == (("sandbox", "postgres", None), "UTF8", "UTC")
    assert there is not None
    assert tuple(there) == ("dagster", "postgres", None, "é", "UTC")
    assert variables.keys() - os.environ.keys() == TAKEN.get(row, set())
    status = embedded.status(made)
    assert status is not None
    assert status.was_running
    monkeypatch.undo()
    assert (databases(other), visits(other)) == (before, visits_before)


@pytest.mark.parametrize("row", ["address", "service with an address"])
def test_the_other_server_is_the_one_that_a_url_without_address_reaches(
    row: str, other: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above could not fail."""
    (tmp_path / "services.conf").write_text(SERVICES)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    for name, value in VARIABLES[row].items():
        monkeypatch.setenv(name, value)
    before = visits(other)

    with psycopg.connect("postgresql://postgres@/postgres?host=/nowhere&port=5432") as connection:
        connection.execute("select 1")

    assert visits(other) == before + 1


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
