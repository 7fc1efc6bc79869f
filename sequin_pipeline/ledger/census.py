"""This module takes the census of a full reading: the ids that its source has delivered so far.

So the table's other rows can be told.

Begun when a table is taken over from another source, or when a full refresh asks for it; it outlives a run that is killed. The ids stand
in the ledger's table `listed`, as those of a listing do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_row
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.sources import Listed

Others = Literal["keep", "mark"]
"""These words say what becomes of rows that the source does not have."""

EVERY_SYNC = ""
"""This stands for the sync in `listed`, where no sync has this id."""


@dataclass(frozen=True)
class Census:
    """This value says what is to become of the other rows, and since when ids are kept.

    It also says which source the rows are from ('' where that is not known).
    """

    others: Others
    before: str
    began_at: datetime


def begin_census(connection: Connection, ledger: Ledger, *, others: Others, before: str) -> None:
    """Begins the census anew; to be called in the transaction that makes the reading begin at the earliest record."""
    end_census(connection, ledger)
    connection.execute(
        sql.SQL("insert into {} (table_name, others, before) values (%s, %s, %s)").format(ledger.table("census")),
        (ledger.table_name, others, before),
    )


def find_census(connection: Connection, ledger: Ledger) -> Census | None:
    """Returns the census under way, None where no reading takes one."""
    return fetch_row(
        connection,
        Census,
        sql.SQL("select others, before, began_at from {} where table_name = %s").format(ledger.table("census")),
        (ledger.table_name,),
    )


def mark_others(connection: Connection, ledger: Ledger) -> None:
    """Has the census under way end by marking the rows that the source does not have, which it was to keep."""
    connection.execute(
        sql.SQL("update {} set others = 'mark' where table_name = %s").format(ledger.table("census")), (ledger.table_name,)
    )


def delivered(ids: Iterable[str]) -> Listed:
    """Returns what a commit adds to the census."""
    return Listed(EVERY_SYNC, version=0, ids=tuple(ids))


def restart_clock(connection: Connection, ledger: Ledger) -> None:
    """Counts rows that the pipeline itself has changed as not written since the census began."""
    connection.execute(
        sql.SQL("update {} set began_at = clock_timestamp() where table_name = %s").format(ledger.table("census")),
        (ledger.table_name,),
    )


def holds_census(connection: Connection, ledger: Ledger, census: Census) -> bool:
    """Says whether it is still the one under way, and keeps others from ending or replacing it until the transaction ends."""
    found = fetch_row(
        connection,
        lambda began_at: began_at,
        sql.SQL("select began_at from {} where table_name = %s and began_at = %s for update").format(ledger.table("census")),
        (ledger.table_name, census.began_at),
    )
    return found is not None


def end_census(connection: Connection, ledger: Ledger) -> None:
    """Forgets it, in the caller's transaction."""
    connection.execute(
        sql.SQL("delete from {} where table_name = %s and sync_id = %s").format(ledger.table("listed")),
        (ledger.table_name, EVERY_SYNC),
    )
    connection.execute(sql.SQL("delete from {} where table_name = %s").format(ledger.table("census")), (ledger.table_name,))
