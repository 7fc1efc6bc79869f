"""A role, a database or a URL that gives its sessions little time: batches are not held to it, and what is, is told once."""

import time

import psycopg
import pytest

from sequin_pipeline.errors import WarehouseError
from sequin_pipeline.operate.audit import audit_table
from sequin_pipeline.postgres.session_limits import LIMITS, limits_in_force
from sequin_pipeline.postgres.warehouse import Warehouse, attempt, limit_lock_waits
from tests.faults.faulty_api import things
from tests.faults.landing import THING, Landing
from tests.support.builders import ListSource
from tests.support.postgres import PostgresServer
from tests.support.reading import execute, query
from tests.support.waits import Waits

SLOW = (
    "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return new; end $$",
    "create trigger slow before insert or update on demo.thing for each row execute function slow()",
)


def limit(url: str, where: str, name: str, value: str) -> str:
    [(database,)] = query(url, "select current_database()::text")
    if where == "URL":
        return psycopg.conninfo.make_conninfo(url, options=f"-c {name}={value}")
    subject = f"database {database}" if where == "database" else f"role postgres in database {database}"
    execute(url, f"alter {subject} set {name} = '{value}'")
    return url


def known(server: PostgresServer, name: str) -> bool:
    return name != "transaction_timeout" or server.major >= 17


@pytest.mark.parametrize(
    "where", [pytest.param(where, id=f"limits of time of a {where}") for where in ("role", "database", "URL")]
)
def test_batches_and_whole_tables_are_not_held_to_the_time_of_a_session(
    landing: Landing, postgres_server: PostgresServer, where: str
) -> None:
    pages = [things(1, 2), things(3, 4)]
    landing.sync(ListSource([]))
    execute(landing.url, *SLOW)
    url = landing.url
    for name in LIMITS:
        if known(postgres_server, name):
            url = limit(landing.url, where, name, "200ms") if where != "URL" or name == "statement_timeout" else url

    landing.sync(ListSource(pages), warehouse=Warehouse(url), batch_records=2)

    landing.deliver(*(each for page in pages for each in page))
    landing.check(cursor="2")
    with Warehouse(url).connect() as connection:
        assert audit_table(connection, THING).rows == 4
        assert "200ms" in {found.value for found in limits_in_force(connection)}


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=name) for name in ("idle_in_transaction_session_timeout", "transaction_timeout")]
)
def test_a_transaction_of_ours_may_pause(landing: Landing, postgres_server: PostgresServer, name: str) -> None:
    if not known(postgres_server, name):
        pytest.skip(f"Postgres {postgres_server.major} has no {name}")
    limit(landing.url, "role", name, "200ms")
    with Warehouse(landing.url).connect() as connection, connection.transaction():
        limit_lock_waits(connection, 30)

        time.sleep(0.4)

        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        pytest.param(
            "role",
            "statement_timeout is 200ms, set for role postgres in database {}: `alter role postgres in database {} set"
            " statement_timeout = 0`, or a longer time",
            id="statement_timeout of a role, outside of a transaction",
        ),
        pytest.param(
            "database",
            "statement_timeout is 200ms, set for database {}: `alter database {} set statement_timeout = 0`, or a longer time",
            id="statement_timeout of a database, outside of a transaction",
        ),
        pytest.param(
            "URL",
            "statement_timeout is 200ms, set by the options of the URL, or PGOPTIONS: take it out there",
            id="statement_timeout of the URL, outside of a transaction",
        ),
    ],
)
def test_what_a_limit_of_time_ends_is_told_once_with_its_origin(landing: Landing, where: str, told: str) -> None:
    [(database,)] = query(landing.url, "select current_database()::text")
    warehouse = Warehouse(limit(landing.url, where, "statement_timeout", "200ms"))
    waits = Waits()

    def work() -> None:
        with warehouse.connect() as connection:
            connection.execute("select pg_sleep(30)")

    with pytest.raises(WarehouseError) as ended:
        attempt(work, "waiting for long", sleep=waits)

    assert not ended.value.is_retryable
    assert waits.seconds == []
    assert str(ended.value) == (
        "while waiting for long, Postgres said 'canceling statement due to statement timeout' (SQLSTATE 57014), and would again. "
        f"{told.format(database, database)}"
    )


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        pytest.param("select 1 / 0", "22012", id="division by zero"),
        pytest.param("select nothing", "42703", id="unknown column"),
        pytest.param("select abs('x'::text)", "42883", id="unknown function"),
    ],
)
def test_a_first_error_is_not_hidden_by_an_aborted_transaction(landing: Landing, statement: str, sqlstate: str) -> None:
    with Warehouse(landing.url).connect() as connection:
        connection.execute("begin")
        with pytest.raises(psycopg.Error):
            connection.execute(statement)  # type: ignore[arg-type]

        with pytest.raises(psycopg.Error) as told:
            connection.execute("select 1")

    assert told.value.sqlstate == sqlstate
