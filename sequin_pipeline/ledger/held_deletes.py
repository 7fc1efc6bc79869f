"""This module holds deletes: what a complete listing did not see, where that is more than may be deleted unasked.

They stand in the ledger's table `held_deletes`.

The listing's ids stay in the table `listed` beside them: whoever accepts the deletes gets those that this listing found, and nothing has
to be listed again for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.ledger.forgets import has_forgotten_lately, hold_forgets
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection

DELETE_LIMIT_ROWS = 100
DELETE_LIMIT_PERCENT = 5
"""A day's deletions are fewer than the greater of the two; a lost right, another account or an answer that was no list leaves out more."""

EXAMPLES = 5
"""This many upstream ids are told: enough to look some of them up at the source."""


@dataclass(frozen=True)
class HeldDeletes:
    """This value says what the listing that began at `version` did not see of one sync.

    That is `rows` of its `live_rows`, some of them by upstream id.

    `accepted`: somebody has said that up to so many are meant, and marking them has begun.
    """

    sync_id: str
    version: int
    rows: int
    live_rows: int
    examples: tuple[str, ...]
    accepted: int | None = None

    @property
    def limit(self) -> int:
        """This is the number of rows that are marked unasked."""
        return max(DELETE_LIMIT_ROWS, self.live_rows * DELETE_LIMIT_PERCENT // 100)

    @property
    def share(self) -> float:
        """This is the share that they are of the rows of the sync that are not deleted."""
        return self.rows / self.live_rows if self.live_rows else 0.0

    def told(self, label: str) -> str:
        """Returns what happened, to which collection, and what to do."""
        examples = ", ".join(self.examples)
        return (
            f"sync {self.sync_id!r}: a complete listing did not have {self.rows:,} of {self.live_rows:,} rows of {label} that are not "
            f"deleted ({self.share:.0%}), more than the limit of {self.limit:,}. None of them is marked as deleted. Look for some of them "
            f"at the source: {examples}. If they are there, the key has lost a right or is another account's, or the source has answered "
            "with less than everything: put that right, and the next listing decides anew. If they are gone: "
            f"`{accepting(label, [self])}`"
        )


def accepting(label: str, held: Sequence[HeldDeletes]) -> str:
    """Returns the command that marks all of them as deleted."""
    return f"sequin-pipeline sync --collection {label} --accept-deletes {max((one.rows for one in held), default=0)}"


def hold(connection: Connection, ledger: Ledger, held: HeldDeletes) -> None:
    """Keeps them, in the place of those of an earlier listing of the sync.

    Without examples where something has been forgotten lately: they were read before, and may be of what is forgotten.
    """
    hold_forgets(connection, ledger.schema)
    connection.execute(
        sql.SQL(
            "insert into {} as h (table_name, sync_id, version, row_count, live_rows, examples, accepted)"
            " values (%s, %s, %s, %s, %s, case when {} then '{{}}'::text[] else %s end, %s)"
            " on conflict (table_name, sync_id) do update set version = excluded.version, row_count = excluded.row_count,"
            " live_rows = excluded.live_rows, examples = excluded.examples, accepted = excluded.accepted, held_at = now()"
        ).format(ledger.table("held_deletes"), has_forgotten_lately(ledger.schema)),
        (ledger.table_name, held.sync_id, held.version, held.rows, held.live_rows, list(held.examples), held.accepted),
    )


def accept(connection: Connection, ledger: Ledger, held: HeldDeletes, rows: int) -> None:
    """Notes that up to so many are meant, unless a later listing has decided anew."""
    connection.execute(
        sql.SQL("update {} set accepted = %s where table_name = %s and sync_id = %s and version = %s").format(
            ledger.table("held_deletes")
        ),
        (rows, ledger.table_name, held.sync_id, held.version),
    )


def find_held(connection: Connection, ledger: Ledger) -> tuple[HeldDeletes, ...]:
    """Returns the held deletes of the table, in the order of their syncs."""
    return tuple(
        fetch_rows(
            connection,
            _held,
            sql.SQL(
                "select sync_id, version, row_count, live_rows, examples, accepted from {} where table_name = %s order by sync_id"
            ).format(ledger.table("held_deletes")),
            (ledger.table_name,),
        )
    )


def held_by_table(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> dict[str, tuple[HeldDeletes, ...]]:
    """Returns by `schema.table` the held deletes of all tables that have any."""
    found: dict[str, tuple[HeldDeletes, ...]] = {}
    for table, held in fetch_rows(
        connection,
        lambda table, *columns: (table, _held(*columns)),
        sql.SQL(
            "select table_name, sync_id, version, row_count, live_rows, examples, accepted from {} order by table_name, sync_id"
        ).format(sql.Identifier(schema, "held_deletes")),
    ):
        found[table] = (*found.get(table, ()), held)
    return found


def held_by_run(connection: Connection, run_id: str, *, schema: str = DEFAULT_SCHEMA) -> dict[str, tuple[HeldDeletes, ...]]:
    """Returns by label the held deletes that were found while this run was at work, and still wait."""
    found: dict[str, tuple[HeldDeletes, ...]] = {}
    for label, held in fetch_rows(
        connection,
        lambda label, *columns: (label, _held(*columns)),
        sql.SQL(
            "select r.label, h.sync_id, h.version, h.row_count, h.live_rows, h.examples, h.accepted from {held} h join {runs} r"
            " using (table_name) where r.run_id = %s and h.held_at between r.started_at and coalesce(r.ended_at, now())"
            " order by r.label, h.sync_id"
        ).format(held=sql.Identifier(schema, "held_deletes"), runs=sql.Identifier(schema, "runs")),
        (run_id,),
    ):
        found[label] = (*found.get(label, ()), held)
    return found


def _held(sync_id: str, version: int, rows: int, live_rows: int, examples: list[str], accepted: int | None) -> HeldDeletes:
    return HeldDeletes(sync_id, version, rows, live_rows, tuple(examples), accepted)
