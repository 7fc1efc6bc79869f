"""This module writes the rows that a table had before its history was declared as the first known versions.

In batches by key, resumable. A row that changes meanwhile is no matter: its versions are put where they belong, in any order.
"""

import logging

from sequin_pipeline.ledger.forgets import hold_forgets
from sequin_pipeline.ledger.history_tables import find_history_table, note_seeded
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Connection, lift_limits
from sequin_pipeline.runs.heartbeat import Heartbeat
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.history_table import seed_rows

logger = logging.getLogger("sequin_pipeline.history_seed")

SEED_ROWS = 5_000


def seed_history(connection: Connection, ledger: Ledger, target: Target, heartbeat: Heartbeat) -> None:
    """Seeds the history table, if there is one that waits for it. Raises psycopg.Error; the next call goes on behind what is committed."""
    if target.history_table is None:
        return
    history = target.history_table.name
    record = find_history_table(connection, ledger, history)
    if record is None or record.seeded_at is not None:
        return
    logger.info("writing the rows of %s as the first versions of %s", target.table, history)
    after = record.seeded_after
    while True:
        with connection.transaction():
            lift_limits(connection)
            # Who is forgotten meanwhile is removed from the table first, and then from here.
            hold_forgets(connection, ledger.schema)
            after = seed_rows(connection, target, after=after, limit=SEED_ROWS)
            note_seeded(connection, ledger, history, after=after)
            heartbeat.beat(connection)
        if after is None:
            return
