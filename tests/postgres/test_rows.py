"""Several statements in one message: they count together, and stand or fall together."""

import psycopg
import pytest
from psycopg import sql

from sequin_pipeline.postgres.rows import execute_together
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.reading import query


def test_rows_of_all_statements_are_counted(empty_url: str) -> None:
    statements = [
        "create table kept (n int, text text)",
        "insert into kept select n, ';%s' from generate_series(1, 5) n",
        "comment on table kept is 'a ; and 100 %'",
        "delete from kept where n > 3",
    ]
    with Warehouse(empty_url).connect() as connection:
        changed = execute_together(connection, map(sql.SQL, statements))

    assert changed == 5 + 2
    assert query(empty_url, "select n, text from kept order by n") == [(1, ";%s"), (2, ";%s"), (3, ";%s")]
    assert query(empty_url, "select obj_description('kept'::regclass)") == [("a ; and 100 %",)]


def test_one_that_fails_leaves_nothing_of_the_others(empty_url: str) -> None:
    statements = [sql.SQL("create table kept (n int primary key)"), sql.SQL("insert into kept values (1), (1)")]
    with Warehouse(empty_url).connect() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            execute_together(connection, statements)

        assert execute_together(connection, [sql.SQL("create table other (n int)")]) == 0

    assert query(empty_url, "select relname from pg_class where relname in ('kept', 'other')") == [("other",)]
