"""This module keeps by which declaration each column was filled, and how far the refill of a changed one has come.

That is the ledger's table `columns`.
"""

from collections.abc import Container, Mapping, Sequence

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection


def known_fingerprints(connection: Connection, ledger: Ledger) -> dict[str, str]:
    """Returns by column the declaration that filled it, or fills it now."""
    return dict(
        fetch_rows(
            connection,
            lambda name, fingerprint: (name, fingerprint),
            sql.SQL("select column_name, fingerprint from {} where table_name = %s").format(ledger.table("columns")),
            (ledger.table_name,),
        )
    )


def unfilled_columns(connection: Connection, ledger: Ledger) -> dict[str, str | None]:
    """Returns the columns whose refill has not ended, and the key after which it goes on."""
    return dict(
        fetch_rows(
            connection,
            lambda name, after: (name, after),
            sql.SQL("select column_name, refilled_after from {} where table_name = %s and refilled_at is null").format(
                ledger.table("columns")
            ),
            (ledger.table_name,),
        )
    )


def note_declarations(connection: Connection, ledger: Ledger, fingerprints: Mapping[str, str], *, filled: Container[str]) -> None:
    """Notes new or changed declarations, by column; those that are not `filled` already wait to be."""
    connection.execute(
        sql.SQL(
            "insert into {} as c (table_name, column_name, fingerprint, refilled_at)"
            " select %(table)s, new.name, new.fingerprint, case when new.is_filled then now() end"
            " from unnest(%(names)s::text[], %(fingerprints)s::text[], %(filled)s::boolean[]) new (name, fingerprint, is_filled)"
            " on conflict (table_name, column_name) do update set fingerprint = excluded.fingerprint, refilled_after = null,"
            " refilled_at = excluded.refilled_at where c.fingerprint <> excluded.fingerprint"
        ).format(ledger.table("columns")),
        {
            "table": ledger.table_name,
            "names": list(fingerprints),
            "fingerprints": list(fingerprints.values()),
            "filled": [name in filled for name in fingerprints],
        },
    )


def forget_columns(connection: Connection, ledger: Ledger, names: Sequence[str]) -> None:
    """Forgets columns that are declared no longer: nobody fills them from here on."""
    connection.execute(
        sql.SQL("delete from {} where table_name = %s and column_name = any(%s)").format(ledger.table("columns")),
        (ledger.table_name, list(names)),
    )


def claim_child(connection: Connection, ledger: Ledger, child: Ledger, name: str) -> None:
    """Notes whose child table this is; one that was somebody else's, or has just been made, is filled again under this name.

    Both at once: whoever is killed before it has not claimed the table, and the next run does.
    """
    connection.execute(
        sql.SQL(
            "with claimed as (update {tables} set parent_table = %(parent)s where table_name = %(child)s"
            " and parent_table is distinct from %(parent)s returning 1)"
            " delete from {columns} where table_name = %(parent)s and column_name = %(name)s and exists (select from claimed)"
        ).format(tables=ledger.table("tables"), columns=ledger.table("columns")),
        {"parent": ledger.table_name, "child": child.table_name, "name": name},
    )


def note_refill(connection: Connection, ledger: Ledger, columns: Mapping[str, str], *, after: str | None) -> None:
    """Notes that the refill of these columns, by their fingerprints, has come to key `after`; None: to the end.

    A column that has been declared in yet another way meanwhile is not this refill's any more.
    """
    connection.execute(
        sql.SQL(
            "update {} set refilled_after = %(after)s, refilled_at = case when %(after)s::text is null then now() end"
            " where table_name = %(table)s"
            " and (column_name, fingerprint) in (select * from unnest(%(names)s::text[], %(fingerprints)s::text[]))"
        ).format(ledger.table("columns")),
        {"after": after, "table": ledger.table_name, "names": list(columns), "fingerprints": list(columns.values())},
    )
