"""This module is Dagster's storage in Postgres with connections that are kept, for a dagster.yaml.

Dagster's own opens a connection for each statement (SQLAlchemy's NullPool), in every process but the web server: some 65 for each
collection of a tick, and several a second while nothing happens. A process keeps at most KEPT here and opens more only while more
threads ask at once.
"""

import os
import select
import weakref
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider

KEPT = 2
"""A process keeps this many connections open: one thread of it works most of the time, and one polls."""

RENEWED_SECONDS = 600
"""A connection is not used beyond this age, so that firewalls and poolers in front that end old ones are not noticed."""

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class _Events(PostgresEventLogStorage):
    """These are Dagster's events; an instance that ends disposes of them last, and of all connections with them."""

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Gives a pool as many places as dagster.yaml says, unless somebody has set its limit by hand.

        Dagster's own goes on in the transaction that a duplicate key has ended: where two runs use a new pool first, one of them fails,
        and after `default_limit` was changed each run does (dagster 1.13.27; its issue 33552 is open).
        """
        limit = self._instance.global_op_concurrency_default_limit if self.has_instance else None
        if limit is None or not self.has_default_pool_limit_col:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        self._reconcile_concurrency_limits_from_slots()
        statement = insert(ConcurrencyLimitsTable).values(concurrency_key=concurrency_key, limit=limit, using_default_limit=True)
        statement = statement.on_conflict_do_update(
            index_elements=["concurrency_key"], set_={"limit": limit}, where=ConcurrencyLimitsTable.c.using_default_limit
        )
        with self.index_transaction() as connection:
            # The row is locked from here on, so that places are counted by one process at a time.
            if connection.execute(statement).rowcount:
                self._allocate_concurrency_slots(connection, concurrency_key, limit)
        return True

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class KeptConnectionsStorage(DagsterPostgresStorage):
    """This is DagsterPostgresStorage, with the same configuration, whose runs, events and schedules share a pool of connections.

    A connection that has died is replaced before it is used, and none is used by two processes: a fork begins without any.
    In a dagster.yaml: `storage: {custom: {module: sequin_pipeline.dagster_storage, class: KeptConnectionsStorage, config:
    {postgres_url: …}}}`.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,  # noqa: FBT001 - the signature is Dagster's
        inst_data: ConfigurableClassData | None = None,
        token_provider: "PgTokenProvider | None" = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)
        self._event_log_storage = _Events(postgres_url, should_autocreate_tables=False, token_provider=token_provider)
        engine = _pooled(postgres_url, token_provider)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine.dispose()  # noqa: SLF001 - Dagster's own way to another pool (optimize_for_webserver) sets the same attribute
            storage._engine = engine  # noqa: SLF001 - as above

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "KeptConnectionsStorage":
        """Builds the storage as Dagster's class does, which would build its own class."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


def _pooled(url: str, token_provider: "PgTokenProvider | None") -> Engine:
    engine = create_pg_engine(
        url,
        token_provider,
        isolation_level="AUTOCOMMIT",
        pool_size=KEPT,
        max_overflow=-1,
        pool_recycle=RENEWED_SECONDS,
        pool_use_lifo=True,
    )
    event.listen(engine, "checkout", partial(_check, engine.dialect))
    _engines.add(engine)
    return engine


class _Connection(DBAPIConnection, Protocol):
    """This is psycopg2's, of which SQLAlchemy knows less."""

    def fileno(self) -> int: ...


def _check(dialect: Dialect, connection: _Connection, *_: object) -> None:
    """Has a dead connection replaced: a session that ends says so on its socket, where an idle one says nothing.

    So only one that has said something is asked, and the others cost no statement more (SQLAlchemy's pool_pre_ping, which asks each
    time, is a fifth of what Postgres has to do for a run). Raises DisconnectionError, upon which the pool opens another.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    if waiting.poll(0):
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def _forget_connections() -> None:
    """Leaves the connections to the process that opened them (SQLAlchemy's documentation, 'Using Connection Pools with
    Multiprocessing')."""
    for engine in list(_engines):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)
