"""Databases of other encodings than UTF-8."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.support.postgres import PostgresServer


@contextmanager
def encoded_database(server: PostgresServer, encoding: str) -> Iterator[str]:
    """Makes a database of this encoding, which is dropped afterwards; yields its URL."""
    name = sql.Identifier(f"encoded_{encoding.lower()}")
    provider = sql.SQL(" locale_provider libc" if server.major >= 15 else "")
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0 encoding {} locale 'C'{}").format(
                name, sql.Literal(encoding), provider
            )
        )
        try:
            yield server.url(f"encoded_{encoding.lower()}")
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(name))
