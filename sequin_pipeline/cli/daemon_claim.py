"""This module claims a Dagster storage for one daemon: two would launch every scheduled run twice, wherever they run."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse, lift_limits

CLAIM = 7_304_186_612_054_771
"""This is the number of the advisory lock, which nobody else's program is likely to choose."""


@contextmanager
def claimed_storage(url: str) -> Iterator[None]:
    """Claims the storage until the block ends or the process dies; raises ConfigurationError where another machine's UI has it.

    The claim is a lock of an open transaction, since a pooler in front may give each transaction another connection. A server that
    restarts forgets it.
    """
    with Warehouse(url, refuses_sql_ascii=False).connect() as connection, connection.transaction():
        lift_limits(connection)
        connection.execute("select set_config('application_name', %s, true)", (f"sequin-pipeline ui on {socket.gethostname()}",))
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", (CLAIM,)).fetchone()
        if row != (True,):
            holder = connection.execute(
                "select a.application_name, host(a.client_addr) from pg_locks l join pg_stat_activity a using (pid)"
                " where l.locktype = 'advisory' and l.granted"
                " and l.database = (select oid from pg_database where datname = current_database())"
                " and (l.classid::bigint << 32) + l.objid::bigint = %s",
                (CLAIM,),
            ).fetchone()
            name, address = holder or (None, None)
            raise ConfigurationError(
                f"another UI is at work on the same Dagster storage ({name or 'sequin-pipeline ui'}"
                f"{f', from {address}' if address else ''}), and a second daemon would do everything twice: use that one, or end it first"
            )
        # The portal of a query with parameters keeps its snapshot until the next statement, and would hold vacuum back for days.
        connection.execute("set local work_mem to default")
        yield
