"""This module settles open rejects that what is stored has overtaken."""

from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import OUTDATED
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target


def resolve_outdated(connection: Connection, ledger: Ledger, target: Target) -> int:
    """Settles open rejects of records of which the same or a newer version has been stored, or removed; returns how many.

    A value that did not fit when its column was refilled, or a change of the same version that was left out, waits for a newer version:
    its row has been there all along.
    """
    assert target.version is not None  # noqa: S101 - records have versions
    if target.key != (target.record_id,):
        # A reject says only its record's id: of such a table's, those are settled as newer versions come (settle_delivered).
        return 0
    key = target.column(target.key[0])
    stored = sql.SQL(
        "exists (select from {target} t where {key} = r.record_id"
        " and (t.{version} > r.version or (t.{version} = r.version and r.class not in ('refill', 'left out again'))))"
    ).format(
        target=sql.Identifier(target.table.schema, target.table.name),
        # What is no uuid or number must not be cast to one: then this scans the table, once a run with open rejects.
        key=sql.SQL("t.{}::text" if key.cast else "t.{}").format(sql.Identifier(key.table_name)),
        version=sql.Identifier(target.column(target.version).table_name),
    )
    return connection.execute(
        sql.SQL(
            "update {rejects} r set resolved_at = now(), resolution = {resolution}"
            " where r.table_name = %(table)s and r.resolved_at is null and ({stored}"
            " or exists (select from {versions} k where k.table_name = %(table)s and k.id = r.record_id and k.updated_idx >= r.version))"
        ).format(
            rejects=ledger.table("rejects"),
            resolution=sql.Literal(OUTDATED),
            versions=ledger.table("versions"),
            stored=sql.SQL("false") if target.keeps_versions else stored,
        ),
        {"table": ledger.table_name},
    ).rowcount
