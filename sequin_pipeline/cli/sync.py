"""`sequin-pipeline sync`: every declared collection once through Dagster, from its live cursor to the end of the stream."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.progress import shown
from sequin_pipeline.cli.session import Session, announce, open_session, select
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.launch import FinishedRun, Request, live_groups, run_groups
from sequin_pipeline.ledger import COUNT_NAMES, Counts, cursor_times
from sequin_pipeline.ledger_schema import migrate
from sequin_pipeline.overview import RunSummary, run_summaries
from sequin_pipeline.postgres_url import mask_url
from sequin_pipeline.warehouse import Warehouse, attempt

FATES = COUNT_NAMES[1:8]
FAILED, LANDED_WITH_REJECTS = 1, 3


@dataclass(frozen=True)
class Landed:
    """What a sync did to one collection; `failure` says why it did not come to its end."""

    collection: str
    table: str
    counts: Counts
    rows: int | None
    seconds: float
    failure: str | None = None


@click.command()
@click.option("--provider", "providers", multiple=True, metavar="P", help="Only this provider's collections; may be repeated.")
@click.option("--collection", "labels", multiple=True, metavar="P/N", help="Only this collection; may be repeated.")
@click.option(
    "--full-refresh", is_flag=True, help="Read each stream again from its earliest record; what is known is not written."
)
@click.option("--sync-id", metavar="ID", help="Only the records of this sync; moves no cursor.")
@click.option("--adopt", is_flag=True, help="Take over tables that exist already, or were filled from another URL.")
@click.option("--sandbox", is_flag=True, help="Have the sandbox's records in the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def command(
    *,
    providers: Sequence[str],
    labels: Sequence[str],
    full_refresh: bool,
    sync_id: str | None,
    adopt: bool,
    sandbox: bool,
    as_json: bool,
) -> None:
    """Read every collection once, from where the last run ended, and merge it into its table.

    Exit status: 0 all landed, 1 a run failed, 2 wrong usage, 3 landed, but some records were rejected.
    """
    if sync_id is not None and full_refresh:
        raise ConfigurationError("--sync-id and --full-refresh exclude each other: a read of one sync moves no cursor")
    session = open_session(wants_sandbox=sandbox)
    collections = select(session, providers=providers, labels=labels)
    announce(session)
    request = Request("backfill" if sync_id else "live", sync_id=sync_id, full_refresh=full_refresh, adopt=adopt)
    landed = _run(session, collections, request)
    if as_json:
        click.echo(json.dumps([{**asdict(one), "counts": asdict(one.counts)} for one in landed], indent=2))
    else:
        _print(session, landed)
    if any(one.failure for one in landed):
        sys.exit(FAILED)
    if any(one.counts.rejected for one in landed):
        sys.exit(LANDED_WITH_REJECTS)


def _run(session: Session, collections: Sequence[Collection], request: Request) -> list[Landed]:
    warehouse = Warehouse(session.settings.warehouse_url)

    def read_cursor_times() -> dict[str, datetime | None]:
        with warehouse.connect() as connection:
            migrate(connection)
            return cursor_times(connection)

    times = attempt(read_cursor_times, "reading the live cursors")
    groups = live_groups(collections, times, request, now=datetime.now(UTC))
    with shown(Console(stderr=True)):
        return [one for run in run_groups(groups, request) for one in _landed(warehouse, run)]


def _landed(warehouse: Warehouse, run: FinishedRun) -> list[Landed]:
    with warehouse.connect() as connection:
        summaries = run_summaries(connection, run.run_id)
    nothing = RunSummary(Counts(), rows=None, seconds=0.0)
    landed = []
    for collection in run.collections:
        did = summaries.get(collection.label, nothing)
        failure = run.failures.get(collection.label)
        landed.append(Landed(collection.label, str(collection.table), did.counts, did.rows, did.seconds, failure))
    labels = {collection.label for collection in run.collections}
    others = [(label, failure) for label, failure in run.failures.items() if label not in labels]
    return landed + [Landed(label, "", Counts(), rows=None, seconds=0.0, failure=failure) for label, failure in others]


def _print(session: Session, landed: Sequence[Landed]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("collection", "table"):
        table.add_column(heading, no_wrap=True)
    for heading in (*FATES, "rows", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in landed:
        counts = [f"{getattr(one.counts, fate):,}" for fate in FATES]
        rows = "" if one.rows is None else f"{one.rows:,}"
        table.add_row(one.collection, one.table, *counts, rows, f"{one.seconds:.1f}")
    # Not narrower than it needs to be: a table that is cut in a log file is of no use.
    (console if console.is_terminal else Console(width=160)).print(table)
    for one in landed:
        if one.failure:
            click.echo(f"\n{one.collection} failed: {one.failure}", err=True)
    click.echo()
    total = sum((one.counts for one in landed), Counts())
    click.echo(_verdict(total))
    click.echo(f"database  {mask_url(session.settings.warehouse_url)}")
    click.echo("UI        make ui, then http://127.0.0.1:3000")


def _verdict(total: Counts) -> str:
    changed = total.inserted + total.updated + total.deleted
    if total.rejected:
        return f"{changed:,} rows written, {total.rejected:,} records rejected: `sequin-pipeline status` shows where."
    if not changed:
        return (
            f"Nothing was written: {total.fetched:,} records fetched, all known."
            if total.fetched
            else "Nothing new: nothing was written."
        )
    return f"{changed:,} rows written from {total.fetched:,} records."
