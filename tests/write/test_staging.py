"""The session's staging table: room in memory for a batch, and nothing left behind that a pooler's next client would meet."""

import psycopg
import pytest

from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.write.staging import Staging, create

STAGING = Staging((("id", "text"),))


def make_staging(connection: Connection) -> str:
    """The temp_buffers under which the table was made."""
    with connection.transaction(), connection.cursor() as cursor:
        create(cursor, STAGING)
        cursor.execute("insert into {} values ('a')".format(f"pg_temp.{STAGING.name}"))
        cursor.execute("show temp_buffers")
        return str(cursor.fetchall()[0][0])


def shown(connection: Connection) -> object:
    row = connection.execute("show temp_buffers").fetchone()
    assert row is not None
    return row[0]


def test_batch_finds_room_in_memory_and_the_setting_stays_as_it_was(warehouse_url: str) -> None:
    with Warehouse(warehouse_url).connect() as connection:
        at_first, after = make_staging(connection), shown(connection)
        again = make_staging(connection)

    assert (at_first, after, again) == ("32MB", "8MB", "8MB")


@pytest.mark.parametrize(("own", "expected"), [("64MB", "64MB"), ("1MB", "32MB")])
def test_larger_setting_of_the_database_stays(warehouse_url: str, own: str, expected: str) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as operator:
        operator.execute(f"alter database {operator.info.dbname} set temp_buffers = '{own}'")

    with Warehouse(warehouse_url).connect() as connection:
        assert make_staging(connection) == expected


def test_session_that_has_used_temporary_tables_before_keeps_its_room(warehouse_url: str) -> None:
    with Warehouse(warehouse_url).connect() as connection:
        connection.execute("create temp table somebody_elses as select 1")

        assert make_staging(connection) == "8MB"


def test_session_whose_temporary_tables_were_rolled_back_keeps_its_room(warehouse_url: str) -> None:
    with Warehouse(warehouse_url).connect() as connection:
        with connection.transaction(force_rollback=True):
            connection.execute("create temp table somebody_elses as select 1")

        assert make_staging(connection) == "8MB"
