"""This module keeps in the ledger which history table a table has, and how far it has been seeded.

To seed it is to write the rows that the table had before as the first known versions. A history that is declared no longer is not
kept up, and has to be seeded again should it ever come back.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows
from sequin_pipeline.postgres.warehouse import Connection


@dataclass(frozen=True)
class HistoryRecord:
    """This value is what the ledger knows of a history table: whose it is, the last id that was seeded, and when all were."""

    table_name: str
    label: str
    seeded_after: str | None
    seeded_at: datetime | None


def find_history_table(connection: Connection, ledger: Ledger, history: TableName) -> HistoryRecord | None:
    """Returns what is known of a history table, None for a table that the ledger does not know as one."""
    return fetch_row(
        connection,
        HistoryRecord,
        sql.SQL("select table_name, label, seeded_after, seeded_at from {} where history_table = %s").format(
            ledger.table("history_tables")
        ),
        (str(history),),
    )


def history_tables(connection: Connection, schema: str) -> list[tuple[TableName, str]]:
    """Returns the history tables that the ledger knows, each with the label of its collection."""
    return fetch_rows(
        connection,
        lambda name, label: (TableName(*name.split(".", 1)), label),
        sql.SQL("select history_table, label from {} order by history_table").format(sql.Identifier(schema, "history_tables")),
    )


def register_history_table(connection: Connection, ledger: Ledger, history: TableName) -> None:
    """Names a table as the history of the ledger's table, to be seeded from the beginning."""
    connection.execute(
        sql.SQL(
            "insert into {} (history_table, table_name, label) values (%s, %s, %s) on conflict (history_table)"
            " do update set table_name = excluded.table_name, label = excluded.label, seeded_after = null, seeded_at = null"
        ).format(ledger.table("history_tables")),
        (str(history), ledger.table_name, ledger.label),
    )


def note_seeded(connection: Connection, ledger: Ledger, history: TableName, *, after: str | None) -> None:
    """Notes the last id that was seeded; None: all were."""
    connection.execute(
        sql.SQL(
            "update {} set seeded_after = %(after)s, seeded_at = case when %(after)s::text is null then now() end"
            " where history_table = %(history)s"
        ).format(ledger.table("history_tables")),
        {"after": after, "history": str(history)},
    )


def note_undeclared(connection: Connection, ledger: Ledger, *, declared: TableName | None) -> None:
    """Notes that other history tables of the ledger's table are not kept up from here on; writes only where some were."""
    connection.execute(
        sql.SQL(
            "update {} set seeded_after = null, seeded_at = null where table_name = %s and history_table <> %s"
            " and (seeded_at is not null or seeded_after is not null)"
        ).format(ledger.table("history_tables")),
        (ledger.table_name, str(declared or "")),
    )
