"""This module writes the history of a collection that declares one.

It has an entry in the ledger for every record that was not *unchanged*, and why. Entries are written in the transaction of the
batch, so that they say what happened and nothing else. What the merge does is logged by its own statement (merge_statements.py); what is
told here never reached it: duplicates and rejects. A stale, duplicate or rejected version is logged once, so that reading it
again writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import pyarrow as pa
from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import reject_version, storable
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.forgotten import read_origin
from sequin_pipeline.table.target import TENANT_COLUMNS, Target
from sequin_pipeline.write.job import WriteJob


@dataclass(frozen=True)
class BatchHistory:
    """This value is what all entries of one batch share. `keep`: how long from now on."""

    table: sql.Identifier
    table_name: str
    batch_id: UUID
    run_id: str
    mode: str
    keep: timedelta

    def parameters(self) -> dict[str, object]:
        """Returns the parameters of every statement that writes entries."""
        return {"table": self.table_name, "batch": self.batch_id, "run": self.run_id, "mode": self.mode, "keep": self.keep}


def batch_history(job: WriteJob, batch_id: UUID) -> BatchHistory | None:
    """Returns what the entries of a batch share; None where the collection declares no history."""
    if job.target.history is None:
        return None
    return BatchHistory(
        table=job.ledger.table("history"),
        table_name=job.ledger.table_name,
        batch_id=batch_id,
        run_id=job.run_id,
        mode=job.mode,
        keep=job.target.history,
    )


@dataclass(frozen=True)
class HistoryEntry:
    """This value says what became of one version of a record.

    `stored_version` is the one that the table held then, where it held one; `reason` is that of a reject.
    """

    at: datetime
    version: int | None
    fate: str
    stored_version: int | None
    reason: str | None
    batch_id: UUID
    run_id: str
    mode: str

    @property
    def why(self) -> str:
        """This is the reason as the end of the line."""
        match self.fate:
            case "rejected":
                return self.reason or ""
            case "duplicate":
                return "a newer one, or one delivered later, came in the same batch"
            case "stale":
                return "outranked" if self.stored_version is None else f"version {self.stored_version} was stored already"
            case _ if self.stored_version is None:
                return "the table had no row of it"
            case _ if self.stored_version == self.version:
                filled = "a column was filled" if self.mode == "refill" else "other content, or a column's declaration changed"
                return f"the same version was stored: {filled}"
            case _:
                return f"newer than version {self.stored_version}, which was stored"


def record_passed_over(
    connection: Connection, history: BatchHistory, target: Target, superseded: pa.Table, rejects: Sequence[Reject]
) -> None:
    """Logs what was taken out of the batch before its merge: `superseded` holds key and version of the duplicates."""
    assert target.version is not None  # noqa: S101 - records have versions
    names = (target.record_id, target.version, *TENANT_COLUMNS)
    told: list[tuple[str | None, int | None, str, str | None, str | None, str | None]] = [
        (storable(record_id, connection), version, "duplicate", None, sync_id, internal_id)
        for record_id, version, sync_id, internal_id in zip(*(superseded.column(name).to_pylist() for name in names), strict=True)
    ]
    for one in rejects:
        origin = read_origin(target.label, one.raw)
        told.append(
            (
                storable(one.record_id, connection),
                reject_version(one.raw),
                "rejected",
                storable(one.reason, connection),
                storable(origin.sync_id, connection),
                storable(origin.internal_id, connection),
            )
        )
    if not told:
        return
    ids, versions, fates, reasons, syncs, tenants = map(list, zip(*told, strict=True))
    connection.execute(
        sql.SQL(
            "insert into {history} (table_name, record_id, version, fate, reason, sync_id, internal_id, batch_id, run_id, mode,"
            " expires_at) select distinct %(table)s, id, version, fate, reason, sync_id, internal_id, %(batch)s::uuid, %(run)s, %(mode)s,"
            " now() + %(keep)s"
            " from unnest(%(ids)s::text[], %(versions)s::bigint[], %(fates)s::text[], %(reasons)s::text[], %(syncs)s::text[],"
            " %(tenants)s::text[]) as new (id, version, fate, reason, sync_id, internal_id)"
            " where not exists (select from {history} h where h.table_name = %(table)s and h.record_id is not distinct from new.id"
            " and h.version is not distinct from new.version and h.fate = new.fate and h.reason is not distinct from new.reason)"
        ).format(history=history.table),
        {
            **history.parameters(),
            "ids": ids,
            "versions": versions,
            "fates": fates,
            "reasons": reasons,
            "syncs": syncs,
            "tenants": tenants,
        },
    )


def history_of(connection: Connection, ledger: Ledger, record_id: str) -> list[HistoryEntry]:
    """Returns the history of one record, oldest first. Leans on history (table_name, record_id, at)."""
    return fetch_rows(
        connection,
        HistoryEntry,
        sql.SQL(
            "select at, version, fate, stored_version, reason, batch_id, run_id, mode from {history}"
            " where table_name = %s and record_id = %s order by at, version, fate"
        ).format(history=ledger.table("history")),
        (ledger.table_name, record_id),
    )
