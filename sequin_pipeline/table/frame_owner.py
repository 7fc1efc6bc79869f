"""This module says whose a table of frames is: the first asset that writes it, until another one is told to take its place.

The ledger keeps it as the table's source. What a table looks like is the business of managed.py.
"""

from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import RESERVED_SCHEMAS, TableName
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.managed import FRAME_SOURCE


@dataclass(frozen=True)
class FrameOwner:
    """This value is the asset that writes a table, and the one whose place it takes, if it does."""

    asset: str
    takes_over: str | None = None

    @property
    def source(self) -> SourceIdentity:
        """This is the owner as the ledger keeps it."""
        return SourceIdentity(FRAME_SOURCE.kind, self.asset)


def check_place(connection: Connection, table: TableName, database: str | None, ledger_schema: str) -> None:
    """Raises TableRefused for a table of another database, and for schemas that belong to Postgres or the ledger."""
    check_database(connection, table, database)
    if table.schema in (*RESERVED_SCHEMAS, ledger_schema) or table.schema.startswith("pg_"):
        whose = "the ledger" if table.schema == ledger_schema else "Postgres"
        raise TableRefused(
            f"table {str(table)!r} would be in schema {table.schema!r}, which belongs to {whose}: name another table with the metadata "
            "dagster/table_name"
        )


def check_database(connection: Connection, table: TableName, database: str | None) -> None:
    """Raises TableRefused where a database is named that is not the one connected to."""
    if database is None:
        return
    row = connection.execute("select current_database()").fetchone()
    found = str(row[0]) if row else ""
    if found != database:
        raise TableRefused(
            f"dagster/table_name says that table {str(table)!r} is in database {database!r}, and the warehouse is database {found!r}: "
            "name the table as schema.table, or give the asset a warehouse with the URL of that database"
        )


def check_owner(
    connection: Connection, ledger: Ledger, owner: FrameOwner | None, record: TableRecord | None, *, exists: bool
) -> SourceIdentity:
    """Returns the source under which the ledger knows the table, or will. Raises TableRefused for the table of somebody else."""
    if record is None:
        return owner.source if owner else FRAME_SOURCE
    asset = f"asset {owner.asset!r}" if owner else "this frame"
    if record.source.kind != FRAME_SOURCE.kind:
        raise TableRefused(
            f"table {ledger.table_name!r} belongs to collection {record.label!r}, and {asset} would write other rows into it: "
            "give the asset a table of its own with the metadata dagster/table_name"
        )
    known = record.source.base_url
    if owner and known and known not in (owner.asset, owner.takes_over):
        raise TableRefused(
            f"table {ledger.table_name!r} belongs to asset {known!r}, and {asset} would overwrite its rows: give it a table of its own "
            'with the metadata dagster/table_name or, where it takes the place of the other, say "sequin_pipeline/takes_over": '
            f'"{known}"'
        )
    if not exists:
        forget = sql.SQL("delete from {} where table_name = {}").format(ledger.table("tables"), sql.Literal(ledger.table_name))
        raise TableRefused(
            f"table {ledger.table_name!r} of {asset} is gone, while the ledger says that it has {record.row_count} rows: restore it or, "
            f"to begin without those rows, run `{forget.as_string(connection)}` and materialize again, each partition of it"
        )
    return record.source


def claim(connection: Connection, ledger: Ledger, owner: FrameOwner, found: SourceIdentity) -> bool:
    """Writes the table down as the asset's. Returns False where somebody else has done so since `found` was read."""
    if found == owner.source:
        return True
    claimed = connection.execute(
        sql.SQL(
            "update {} set base_url = %s where table_name = %s and source_kind = %s and base_url = %s returning table_name"
        ).format(ledger.table("tables")),
        (owner.asset, ledger.table_name, FRAME_SOURCE.kind, found.base_url),
    ).fetchone()
    return claimed is not None
