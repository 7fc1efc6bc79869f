"""This module reads what waits in the ledger for somebody who looks at a table.

That is rejects and held deletes, whether or not a run comes to its end.
"""

from dataclasses import dataclass

from sequin_pipeline.ledger.held_deletes import HeldDeletes, find_held
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import open_rejects
from sequin_pipeline.ledger.schema import VERSION, ledger_version
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class Waiting:
    """This value counts the open rejects, some of them with their reasons, and the deletes that are held."""

    open_rejects: int = 0
    reject_examples: tuple[tuple[str, str], ...] = ()
    held_deletes: tuple[HeldDeletes, ...] = ()


def read_waiting(connection: Connection, ledger: Ledger) -> Waiting | None:
    """Reads what waits for the table; None where the ledger is of another version, or has never heard of the table."""
    if ledger_version(connection, ledger.schema) != VERSION:
        return None
    if ledger.find_table(connection) is None:
        return None
    rejects = open_rejects(connection, ledger)
    return Waiting(rejects.count, rejects.examples, find_held(connection, ledger))
