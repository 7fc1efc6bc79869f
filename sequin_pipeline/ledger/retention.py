"""This module decides what the ledger forgets, so that it does not grow for ever: rows that are older than anybody's use of them.

Merges, runs and settled rejects go after RETENTION, entries of a history when the time that its collection declared is over; positions
are thinned out. Cursors, columns and tables are as many as are declared, fields as many as drift.py remembers. Versions of removed rows,
open and discarded rejects stay: the promises stand on them.
"""

from datetime import timedelta

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import execute_together
from sequin_pipeline.postgres.warehouse import Connection

RETENTION = timedelta(days=90)


def prune(connection: Connection, ledger: Ledger, *, retention: timedelta = RETENTION) -> int:
    """Deletes what is older than `retention`, of all tables, and thins out the positions of the ledger's own; returns how many rows.

    Takes no lock that a batch waits for: any number of runs may be under way.
    """
    statements = (
        # Leans on merges (committed_at) and runs (heartbeat_at).
        "delete from {merges} where committed_at < now() - {retention}",
        "delete from {runs} where heartbeat_at < now() - {retention}",
        "delete from {processes} where beat_at < now() - {retention}",
        "delete from {rejects} where resolved_at < now() - {retention} and resolution <> 'discarded'",
        # An older version that comes as late as that is stale as a whole. Leans on borrowed (noted_at).
        "delete from {borrowed} where noted_at < now() - {retention}",
        # Leans on history (expires_at).
        "delete from {history} where expires_at < now()",
        # One an hour is left: a backfill of old windows reads an hour too much at most. Leans on the primary key.
        "delete from {positions} p where p.table_name = {table} and p.stream_time < now() - {retention} and exists"
        " (select from {positions} q where q.table_name = {table} and q.stream_time < p.stream_time"
        " and q.stream_time >= date_trunc('hour', p.stream_time, 'UTC'))",
    )
    names = {name: ledger.table(name) for name in ("merges", "runs", "processes", "rejects", "positions", "history", "borrowed")}
    given = {"retention": sql.Literal(retention), "table": sql.Literal(ledger.table_name)}
    return execute_together(connection, [sql.SQL(statement).format(**names, **given) for statement in statements])
