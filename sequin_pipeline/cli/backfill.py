"""`sequin-pipeline backfill` reads windows of collections again through Dagster, beside whatever else runs."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import Console

from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.interrupts import interruptible
from sequin_pipeline.cli.landed import landed, tell
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import announce, check_api, check_dagster_storage, check_warehouse, open_session, select
from sequin_pipeline.postgres.warehouse import Warehouse


@click.command()
@click.argument(
    "labels", nargs=-1, required=True, metavar="PROVIDER/NAME…", callback=read_labels, shell_complete=complete_collections
)
@click.option(
    "--from", "first", required=True, metavar="KEY|DATE", help="The first window: its key, or a day or time that it holds."
)
@click.option("--to", "last", metavar="KEY|DATE", help="The last window, included; the present one unless named.")
@click.option("--sync-id", metavar="ID", help="Only the records of this sync; the windows do not count as done then.")
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def command(*, labels: Sequence[str], first: str, last: str | None, sync_id: str | None, sandbox: bool, as_json: bool) -> None:
    """Read windows of collections again and merge them; live cursors stay where they are.

    One run for each provider and width of windows. Exit status: 0 all landed, 1 a run failed, 2 wrong usage, 3 landed, but some
    records were rejected.
    """
    from sequin_pipeline.cli.progress import shown
    from sequin_pipeline.orchestration.launch import Request, backfill_groups, run_groups

    session = open_session(wants_sandbox=sandbox, labels=labels)
    collections = select(session, providers=(), labels=labels)
    groups = backfill_groups(collections, first, last, now=datetime.now(UTC))
    announce(session)
    check_warehouse(session)
    check_dagster_storage(session)
    check_api(session)
    request = Request("backfill", sync_id=sync_id)
    with shown(Console(stderr=True)):
        warehouse = Warehouse(session.settings.warehouse_url)
        results = interruptible(lambda: landed(warehouse, run_groups(groups, request)))
    tell(session, results, as_json=as_json)
