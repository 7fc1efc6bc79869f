"""This module shows how each sync of each collection stands: `sequin-pipeline status --by sync`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.age import age_of
from sequin_pipeline.cli.tables import build_table, print_table
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.syncs import SyncStatus, sync_statuses
from sequin_pipeline.postgres.warehouse import Warehouse, attempt

HEADINGS = ("collection", "sync", "tenant", "records", "newest record", "delivered", "open rejects")


def tell_syncs(warehouse: Warehouse, collections: Sequence[Collection], *, as_json: bool) -> None:
    """Prints the syncs of these collections, one line each; with those that have never delivered anything nobody knows anything of."""

    def read() -> dict[str, list[SyncStatus]]:
        with warehouse.connect() as connection:
            migrate(connection)
            return sync_statuses(connection)

    found = attempt(read, "reading the ledger")
    standing = [one for collection in collections for one in found.get(str(collection.table), ())]
    if as_json:
        told = {"syncs": [_told(one) for one in standing]}
        click.echo(json.dumps(told, indent=2, default=lambda moment: moment.isoformat()))
        return
    if not standing:
        click.echo("No sync has delivered a record.")
        return
    now = datetime.now(UTC)
    rows = [_cells(one, now) for one in standing]
    narrow = build_table(
        [HEADINGS[1], *HEADINGS[3:5], "rejects"], [[row[1], row[3], row[4], row[6]] for row in rows], wraps=["sync"]
    )
    print_table(build_table(list(HEADINGS), rows), narrow)


def _cells(one: SyncStatus, now: datetime) -> list[str]:
    count = one.count
    return [
        one.label,
        count.sync_id,
        count.internal_id or "",
        f"{count.records:,}",
        age_of(count.newest_at, now),
        f"{one.delivered_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}",
        f"{one.open_rejects:,}",
    ]


def _told(one: SyncStatus) -> dict[str, object]:
    return {
        "collection": one.label,
        "sync_id": one.count.sync_id,
        "internal_id": one.count.internal_id,
        "records": one.count.records,
        "rejected": one.count.rejected,
        "newest_record_at": one.count.newest_at,
        "delivered_at": one.delivered_at,
        "open_rejects": one.open_rejects,
    }
