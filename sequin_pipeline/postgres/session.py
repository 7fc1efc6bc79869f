"""This module keeps one connection to the warehouse, opened when it is first needed, and opened again once it is lost."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self, TypeVar

from psycopg import pq

from sequin_pipeline.postgres.warehouse import Connection, Warehouse, attempt

Result = TypeVar("Result")


class Session:
    """This class keeps one connection for everybody who works one after the other.

    It is a context manager, whose end closes the connection.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self._connection: Connection | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def connection(self) -> Connection:
        """Returns the open connection, a new one after the last was lost. Raises WarehouseError."""
        if self._connection is None or not _is_open(self._connection):
            self._stack.close()
            opened: AbstractContextManager[Connection] = self.warehouse.connect()
            self._connection = self._stack.enter_context(opened)
        return self._connection

    def attempt(self, work: Callable[[Connection], Result], doing: str) -> Result:
        """Runs `work` on the connection, and again when Postgres gave up for a reason that passes. Raises WarehouseError."""
        return attempt(lambda: work(self.connection()), doing, sleep=self.warehouse.sleep)


def _is_open(connection: Connection) -> bool:
    """Returns False once the server or the network has gone away, or a command that was cut off has left the connection at work.

    That happens where a session ends in the middle of an `executemany`, which sends its statements in a pipeline: libpq does not see the
    end, psycopg 3.3.9 cannot leave the pipeline, and every later statement would be refused.
    """
    pgconn = connection.pgconn
    return (
        not connection.closed
        and pgconn.status == pq.ConnStatus.OK
        and pgconn.pipeline_status == pq.PipelineStatus.OFF
        and pgconn.transaction_status != pq.TransactionStatus.ACTIVE
    )
