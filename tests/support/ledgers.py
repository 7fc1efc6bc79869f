"""Databases that others are copied from, in which the pipeline has made its ledger."""

import psycopg

from tests.support.postgres import PostgresServer


def with_ledger(server: PostgresServer) -> str:
    """Makes one on that server, and returns its name."""
    from sequin_pipeline.ledger.schema import migrate  # here, so that tests without a database do not wait for it

    database = server.make_database()
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        migrate(connection)
    return database
