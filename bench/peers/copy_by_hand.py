"""Forty lines by hand: COPY of raw pages into a temporary jsonb column, extraction in SQL, and a guarded upsert.

They hold no cursor and no counts, fail as a whole at one bad record, and at an id that comes twice within a transaction.
"""

from collections.abc import Callable
from pathlib import Path

import psycopg

from bench import child
from bench.peers import mapping

PAGES_A_TRANSACTION = 5
EXTRACTED = {
    "id": "r->>'id'",
    "upstream_id": "r->>'upstream_id'",
    "internal_id": "r->'sync'->>'external_id'",
    "sync_id": "r->'sync'->>'id'",
    "updated_idx": "(r->>'updated_idx')::bigint",
    "deleted": "(r->>'deleted')::boolean",
    "record_inserted_at": "(r->>'inserted_at')::timestamptz",
    "upstream_created_at": "(r->>'upstream_created_at')::timestamptz",
    "upstream_updated_at": "(r->>'upstream_updated_at')::timestamptz",
    "stripe_customer_id": "d->>'customer'",
    "plan_id": "d->'items'->'data'->0->'price'->>'id'",
    "quantity": "(d->'items'->'data'->0->>'quantity')::integer",
    "status": "d->>'status'",
    "current_period_end": "to_timestamp((d->>'current_period_end')::bigint)",
    "metadata": "d->'metadata'",
    "data": "d",
}
STAGING = (
    "set temp_buffers = '64MB'",
    "create temp table page (records jsonb) on commit delete rows",
    "alter table page alter column records set storage external",
)
"""A page in one value is not compressed on its way; of some ways to stage them this one costs the server the least."""


def main() -> None:
    place = child.place()
    upsert = (
        f"insert into {place.schema}.subscription ({', '.join(EXTRACTED)}) select {', '.join(EXTRACTED.values())}"
        f" from (select r, r->'data' d from page, jsonb_array_elements(records) r offset 0) page {mapping.newer_clause()}"
    )

    def prepare(task: child.Task) -> Callable[[], None]:
        def work() -> None:
            with psycopg.connect(place.database_url) as connection:
                for statement in STAGING:
                    connection.execute(statement.encode())
                for start in range(0, len(task.pages), PAGES_A_TRANSACTION):
                    with connection.transaction():
                        with connection.cursor().copy("copy page from stdin") as copy:
                            for page in task.pages[start : start + PAGES_A_TRANSACTION]:
                                copy.write_row([Path(page).read_bytes().decode()])
                        connection.execute(upsert.encode())

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
