"""This module keeps records of a queue whose collection no defs.yaml declares.

They are kept whole, as rejects of their own class, and never acknowledged into nothing.

As long as they belong to no table, they are kept under the collection's label in the place of a table's name, which holds no `/`.
Once the collection is declared, `adopt_undeclared` hands them to its table, where they are rejects like others, to be replayed.
"""

from collections.abc import Mapping

import msgspec
from psycopg import sql

from sequin_pipeline.ledger.forgets import hold_forgets, read_forgotten
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import record_rejects
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.postgres.rows import fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.records import json_text
from sequin_pipeline.sources import Page

UNDECLARED = "undeclared"

UNNAMED = "/unnamed"
"""Records that name no collection have this label: no provider's name is empty."""


def label_of(collection_id: str | None) -> str:
    """Returns `provider/name`, as a declaration would have it."""
    return UNNAMED if collection_id is None else collection_id.replace(":", "/", 1)


def undeclared_ledger(label: str, schema: str = DEFAULT_SCHEMA) -> Ledger:
    """Returns where records of that label wait until it is declared."""
    return Ledger(label, label, schema)


def keep_undeclared(
    connection: Connection, shares: Mapping[str | None, Page], *, run_id: str, schema: str = DEFAULT_SCHEMA
) -> dict[str, int]:
    """Keeps the records of these shares that are not forgotten, in one transaction; returns how many, by label."""
    kept = {}
    with connection.transaction():
        hold_forgets(connection, schema)
        forgotten = read_forgotten(connection, schema)
        for collection_id, share in sorted(shares.items(), key=lambda item: label_of(item[0])):
            label = held_text(label_of(collection_id), connection)
            raws = forgotten.rest(label_of(collection_id), json_text.elements(share.records))
            rejects = [_reject(raw, collection_id) for raw in raws]
            record_rejects(connection, undeclared_ledger(label, schema), rejects, run_id=run_id)
            kept[label] = len(rejects)
    return kept


def adopt_undeclared(connection: Connection, ledger: Ledger) -> None:
    """Hands what waited under the label to the table, now that there is one; of content that is known there already, the older goes."""
    waits = sql.SQL("select exists (select from {} where table_name = %s)").format(ledger.table("rejects"))
    if not fetch_value(connection, waits, (ledger.label,)):
        return
    with connection.transaction():
        connection.execute(
            sql.SQL(
                "delete from {rejects} r where r.table_name = %(label)s and exists"
                " (select from {rejects} k where k.table_name = %(table)s and k.content_hash = r.content_hash)"
            ).format(rejects=ledger.table("rejects")),
            {"label": ledger.label, "table": ledger.table_name},
        )
        connection.execute(
            sql.SQL("update {rejects} set table_name = %(table)s where table_name = %(label)s").format(
                rejects=ledger.table("rejects")
            ),
            {"label": ledger.label, "table": ledger.table_name},
        )


def undeclared_labels(connection: Connection, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Returns the labels under which records wait that belong to no table.

    Leans on rejects (table_name) where resolved_at is null.
    """
    rows = connection.execute(
        sql.SQL(
            "select distinct table_name from {rejects} where resolved_at is null and table_name = label order by table_name"
        ).format(rejects=sql.Identifier(schema, "rejects"))
    ).fetchall()
    return [str(label) for (label,) in rows]


def undeclared_of_run(connection: Connection, run_id: str, schema: str = DEFAULT_SCHEMA) -> dict[str, int]:
    """Returns by label how many different records the run met that belong to no table.

    Leans on rejects (table_name) where resolved_at is null.
    """
    return dict(
        fetch_rows(
            connection,
            lambda label, count: (label, count),
            sql.SQL(
                "select label, count(*) from {rejects} where resolved_at is null and table_name = label and run_id = %s"
                " group by label order by label"
            ).format(rejects=sql.Identifier(schema, "rejects")),
            (run_id,),
        )
    )


def _reject(raw: bytes, collection_id: str | None) -> Reject:
    if collection_id is None:
        reason = "the record names no collection, so that it belongs to no table: fix the source, or discard the record"
    else:
        reason = f"no defs.yaml declares collection {collection_id!r}: declare it and replay the record, or discard it"
    return Reject(_record_id(raw), raw, reason, UNDECLARED)


def _record_id(raw: bytes) -> str | None:
    try:
        found: str | None = msgspec.json.decode(json_text.members(raw).get("id", b"null"), type=str | None)
    except ValueError:
        return None
    return found
