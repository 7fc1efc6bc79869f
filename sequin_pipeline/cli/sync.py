"""`sequin-pipeline sync` reads every declared collection once through Dagster, from its live cursor to the end of the stream."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.completion import complete_collections, complete_providers
from sequin_pipeline.cli.interrupts import interruptible
from sequin_pipeline.cli.landed import Landed, landed, tell
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, announce, check_api, check_dagster_storage, check_warehouse, open_session, select
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse

if TYPE_CHECKING:
    from sequin_pipeline.ledger.census import Others
    from sequin_pipeline.orchestration.launch import Request


@click.command()
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="P",
    shell_complete=complete_providers,
    help="Only this provider's collections; may be repeated.",
)
@click.option(
    "--collection",
    "labels",
    multiple=True,
    metavar="P/N",
    callback=read_labels,
    shell_complete=complete_collections,
    help="Only this collection; may be repeated.",
)
@click.option(
    "--full-refresh", is_flag=True, help="Read each stream again from its earliest record; what is known is not written."
)
@click.option("--sync-id", metavar="ID", help="Only the records of this sync; moves no cursor.")
@click.option("--adopt", is_flag=True, help="Take over tables that exist already, or were filled from another URL.")
@click.option(
    "--others",
    type=click.Choice(["keep", "mark"]),
    default="keep",
    show_default=True,
    help="With --adopt or --full-refresh, what becomes of rows that the API does not have: they stay, and are counted after --adopt, "
    "or are marked as deleted.",
)
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def command(
    *,
    providers: Sequence[str],
    labels: Sequence[str],
    full_refresh: bool,
    sync_id: str | None,
    adopt: bool,
    others: "Others",
    sandbox: bool,
    as_json: bool,
) -> None:
    """Read every collection once, from where the last run ended, and merge it into its table.

    Exit status: 0 all landed, 1 a run failed, 2 wrong usage, 3 landed, but some records were rejected.
    """
    if sync_id is not None and full_refresh:
        raise ConfigurationError("--sync-id and --full-refresh exclude each other: a read of one sync moves no cursor")
    if others == "mark" and not (adopt or full_refresh):
        raise ConfigurationError(
            "--others mark needs --adopt or --full-refresh: only a read from the beginning tells which rows the API does not have"
        )
    from sequin_pipeline.orchestration.launch import Request

    session = open_session(wants_sandbox=sandbox)
    collections = select(session, providers=providers, labels=labels)
    announce(session)
    check_warehouse(session)
    check_dagster_storage(session)
    check_api(session)
    request = Request("backfill" if sync_id else "live", sync_id=sync_id, full_refresh=full_refresh, adopt=adopt, others=others)
    tell(session, _run(session, collections, request), as_json=as_json)


def _run(session: Session, collections: Sequence[Collection], request: "Request") -> list[Landed]:
    from sequin_pipeline.cli.progress import shown
    from sequin_pipeline.orchestration.launch import live_groups, run_groups, times_of, whole_queues
    from sequin_pipeline.orchestration.resources import read_live_state

    warehouse = Warehouse(session.settings.warehouse_url)
    state = read_live_state(warehouse)
    collections = whole_queues(collections, session.collections.values())
    groups = live_groups(collections, times_of(collections, state), request, now=datetime.now(UTC))
    with shown(Console(stderr=True)):
        return interruptible(lambda: landed(warehouse, run_groups(groups, request)))
