"""Whoever asks a session for its connection gets one that takes statements."""

from collections.abc import Callable

import pytest

from sequin_pipeline.postgres.rows import fetch_value
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Connection, Warehouse


def close(connection: Connection) -> None:
    connection.close()


def cut_off_in_a_pipeline(connection: Connection) -> None:
    """As psycopg leaves it where the server ends a session within `executemany`."""
    connection.pgconn.enter_pipeline_mode()


def cut_off_in_a_statement(connection: Connection) -> None:
    connection.pgconn.send_query(b"select pg_sleep(60)")


@pytest.mark.parametrize("spoil", [close, cut_off_in_a_pipeline, cut_off_in_a_statement])
def test_a_connection_that_takes_no_statement_is_replaced(empty_url: str, spoil: Callable[[Connection], None]) -> None:
    with Session(Warehouse(empty_url)) as session:
        first = session.connection()
        spoil(first)

        second = session.connection()

        assert fetch_value(second, "select 7") == 7
        assert first.closed
        assert session.connection() is second
